"""Other rewards under the same roof, each through a whole run: what is judged, by whom, and what failures become."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.engines.test_reward_model import make_reward_model
from tests.support.chat_server import ChatServer, Reply, Request, chat_server, choices
from tests.support.recipes import config_of, make_recipe, report_text

from crossward.core.ensembles import ensemble
from crossward.core.records import PreferencePair, RatedPrompt, RatedResponse
from crossward.engines.hf_scorer import HfScorer
from crossward.engines.models import model_fingerprint
from crossward.engines.protocols import Advance, Judged, ModelSpec, ToRate, no_progress
from crossward.engines.reward_model import RewardModelRater
from crossward.engines.tokens import load_tokens
from crossward.pipeline.check import check
from crossward.pipeline.given import Given
from crossward.pipeline.iterate import run
from crossward.pipeline.progress import Silent
from crossward.pipeline.replay import read_replay
from crossward.pipeline.show import lines_of, lives
from crossward.pipeline.stage_files import read_pairs, read_sampled, read_scored, stream_ranked
from crossward.store import manifest, tables
from crossward.store.checked_files import file_sha256
from crossward.store.manifest import StageManifest
from crossward.store.run_dir import IterationDir, RunDir, Stage

UNCONTROLLED = {"length_unit": "none", "language_filter": "none"}


def translating(request: Request, before: int) -> Reply:
    """The same for the same text, between tags."""
    asked = request["messages"][0]["content"]
    return choices(f"<translated>the {len(asked)} {asked[-20:].strip()[:6]}</translated>")


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server(translating) as running:
        yield running


def go(recipe: dict[str, Any], given: Given | None = None) -> RunDir:
    config = config_of(recipe)
    return run(config, progress=Silent()) if given is None else run(config, progress=Silent(), given=given)


def made(here: IterationDir, stage: Stage) -> StageManifest:
    found = manifest.read(here.stage(stage))
    assert found is not None
    return found


def translator(server: ChatServer) -> dict[str, Any]:
    return {"engine": "openai", "base_url": server.base_url, "model": "some-translator"}


class Said(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def spec(path: str) -> ModelSpec:
    return ModelSpec(path=path, dtype="float32", device="cpu")


def rated_groups(here: IterationDir, language: str) -> list[RatedPrompt]:
    groups = list(stream_ranked(here.stage("rate"), language))
    assert all(isinstance(group, RatedPrompt) for group in groups)
    return [group for group in groups if isinstance(group, RatedPrompt)]


def best_and_worst(here: IterationDir, language: str) -> None:
    """Every pair of a language is the best and the worst rating of what could be paired."""
    groups = {group.prompt.id: group for group in rated_groups(here, language)}
    pairs = [pair for pair in read_pairs(here.stage("pair")) if pair.prompt.language == language]
    assert pairs
    for pair in pairs:
        whole = [
            r.rating
            for r in groups[pair.prompt.id].responses
            if r.response.finish_reason == "stop" and r.response.text.strip()
        ]
        assert (pair.chosen.score, pair.rejected.score) == (max(whole), min(whole))


def test_the_translated_view_judges_translations_under_the_english_instruction(tmp_path: Path, server: ChatServer):
    recipe = make_recipe(tmp_path, iterations=1, reward={"view": "translated"}, translator=translator(server))
    directory = go(recipe)
    here = directory.iteration(1)
    groups = read_scored(here.stage("score"), "es")
    translations = {
        (g.prompt.id, k): r.text for g in read_sampled(here.stage("translate"), "es") for k, r in enumerate(g.responses)
    }
    models = recipe["models"]
    policy, reference = (
        HfScorer(spec(models[name]), load_tokens(spec(models[name])), batch_tokens=512)
        for name in ("policy", "reference")
    )
    n_judged = 0
    for group in groups:
        assert group.view == "translated"
        assert group.judged_under == group.prompt.english_instruction
        for scored in group.responses:
            assert scored.judged is not None
            assert scored.judged.text in translations.values()
            asked = [Judged(instruction=group.judged_under, responses=(scored.judged,))]
            ours, base = policy.score(asked)[0][0], reference.score(asked)[0][0]
            assert ours is not None
            assert base is not None
            assert scored.log_ratio == pytest.approx(ours.logprob - base.logprob, abs=1e-4)
            n_judged += 1
    counts = made(here, "translate").counts["languages"]
    assert sorted(counts) == ["es"]  # English is not translated
    assert counts["es"]["responses"] == 24
    assert n_judged == counts["es"]["translated"] == 24 - sum(counts["es"]["problems"].values())
    for group in read_scored(here.stage("score"), "en"):
        assert all(scored.judged is None for scored in group.responses)
    report = report_text(directory)
    assert "reward: translated, over the initial reference" in report
    assert f"| es | 24 | {counts['es']['translated']} |" in report
    assert "judged as 'the" in "\n".join(lines_of(lives(directory.root, "p0", "es")[0]))


def test_a_translation_that_failed_leaves_its_response_out_and_is_counted(tmp_path: Path):
    seen: Counter[str] = Counter()

    def every_third_fails(request: Request, before: int) -> Reply:
        seen["asked"] += 1
        return choices("no tags" if seen["asked"] % 3 == 0 else "<translated>hello</translated>")

    with chat_server(every_third_fails) as server:
        recipe = make_recipe(tmp_path, iterations=1, reward={"view": "translated"}, translator=translator(server))
        here = go(recipe).iteration(1)
    counts = made(here, "translate").counts["languages"]["es"]
    assert counts["problems"]["no-tags"] > 0
    assert counts["translated"] + sum(counts["problems"].values()) == counts["responses"] == 24
    scored = made(here, "score").counts["languages"]["es"]
    assert (scored["responses"], scored["too_long"]) == (counts["translated"], 24 - counts["translated"])


def test_an_ensemble_is_the_mean_of_its_views_and_asks_them_all_when_told(tmp_path: Path, server: ChatServer):
    reward = {"view": "ensemble", "views": ["crosslingual", "multilingual", "translated"], "agreement": True}
    recipe = make_recipe(tmp_path, iterations=1, reward=reward, translator=translator(server))
    here = go(recipe).iteration(1)
    stages: tuple[Stage, ...] = ("score-crosslingual", "score-multilingual", "score-translated")
    for language in ("en", "es"):
        views = [read_scored(here.stage(stage), language) for stage in stages]
        expected = [ensemble(list(group)) for group in zip(*views, strict=True)]
        assert rated_groups(here, language) == expected
    for pair in read_pairs(here.stage("pair")):
        assert isinstance(pair.chosen, RatedResponse)
        assert isinstance(pair.rejected, RatedResponse)
        assert all(above > below for above, below in zip(pair.chosen.parts, pair.rejected.parts, strict=True))
    outcomes = [o for path in here.stage("pair").language_files() for o in tables.stream_outcomes(path)]
    skipped = made(here, "pair").counts["languages"]
    assert sum(counts["skipped"].get("views-disagree", 0) for counts in skipped.values()) > 0
    assert len(outcomes) == 12


def test_a_reward_model_rates_in_either_view(tmp_path: Path):
    model = make_reward_model("chatml", tmp_path / "reward-model")
    ratings = {}
    for view in ("crosslingual", "multilingual"):
        reward = {"kind": "reward-model", "reward_model": {"path": str(model)}, "view": view}
        folder = tmp_path / view
        here = go(make_recipe(folder, iterations=1, reward=reward, pair=UNCONTROLLED)).iteration(1)
        best_and_worst(here, "es")
        groups = rated_groups(here, "es")
        alone = RewardModelRater(spec(str(model)))
        for group in groups[:2]:
            asked = ToRate(
                prompt=group.prompt,
                instruction=group.judged_under,
                responses=tuple(r.response for r in group.responses),
            )
            assert [r.rating for r in group.responses] == pytest.approx(alone.rate([asked])[0], abs=1e-4)
        ratings[view] = [r.rating for group in groups for r in group.responses]
        assert made(here, "rate").inputs["rater"] == model_fingerprint(spec(str(model)))
    assert ratings["crosslingual"] != ratings["multilingual"]


def test_a_judge_gives_points_and_what_it_does_not_rate_is_counted(tmp_path: Path):
    def points(request: Request, before: int) -> Reply:
        length = len(request["messages"][0]["content"])
        return choices("I cannot say." if length % 5 == 0 else f"Good.\nScore: {length % 5}")

    with chat_server(points) as server:
        judge = {"base_url": server.base_url, "model": "some-judge"}
        recipe = make_recipe(tmp_path, iterations=1, reward={"kind": "judge", "judge": judge})
        directory = go(recipe)
    here = directory.iteration(1)
    rated = made(here, "rate")
    n = sum(counts["responses"] for counts in rated.counts["languages"].values())
    assert rated.counts["failures"] == {"no-score": 48 - n}
    assert f"failures: no-score {48 - n}." in report_text(directory)
    assert 0 < n < 48
    for language in ("en", "es"):
        for group in rated_groups(here, language):
            assert {r.rating for r in group.responses} <= {1.0, 2.0, 3.0, 4.0}


def test_the_likelihood_of_english_answers_rates_the_others_only(tmp_path: Path):
    recipe = make_recipe(tmp_path, iterations=1, reward={"kind": "translation-likelihood"}, pair=UNCONTROLLED)
    here = go(recipe).iteration(1)
    best_and_worst(here, "es")
    assert made(here, "rate").counts["failures"]["english"] == 24
    pairs = made(here, "pair").counts["languages"]
    assert (pairs["en"]["n_pairs"], pairs["en"]["skipped"]) == (0, {"too-few-responses": 6})
    assert all(r.rating < 0 for group in rated_groups(here, "es") for r in group.responses)


class Longest:
    """A rater of one's own."""

    name = "longest"

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()

    def rate(self, groups: Sequence[ToRate], *, advance: Advance = no_progress) -> list[tuple[float | None, ...]]:
        return [tuple(float(len(response.text)) for response in group.responses) for group in groups]

    def close(self) -> None:
        pass


def test_a_program_may_bring_its_own_rater(tmp_path: Path):
    recipe = make_recipe(tmp_path, iterations=1, reward={"kind": "given"}, pair=UNCONTROLLED)
    here = go(recipe, Given(open_rater=Longest, rater_identity="longest")).iteration(1)
    best_and_worst(here, "en")
    for pair in read_pairs(here.stage("pair")):
        assert pair.chosen.n_chars == pair.chosen.score > pair.rejected.n_chars


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"reward": {"kind": "given"}}, "reward.kind is 'given', but nothing was given"),
        ({"reward": {"kind": "reward-model", "reward_model": {"path": "/no/such"}}}, "/no/such"),
        ({"reward": {"kind": "judge", "judge": {"template": "no/such.txt"}}}, "template no/such.txt cannot be read"),
        ({"reward": {"view": "translated"}, "translator": {"template": "no/such.txt"}}, "template no/such.txt cannot"),
        ({"reward": {"steering": {"language": "target"}}, "languages": ["en", "fi"]}, "no prompts"),
        ({"train": {"replay": {"path": "no/such.jsonl"}}}, "no/such.jsonl"),
        (
            {"sample": {"engine": "given", "max_new_tokens": 96}, "iterations": 1},
            "sample.engine is 'given', but nothing was given",
        ),
        ({"pair": {"language_filter": "given"}}, "pair.language_filter is 'given', but nothing was given"),
    ],
)
def test_what_a_rival_lacks_is_said_before_anything_runs(tmp_path: Path, changes: dict[str, Any], sentence: str):
    if sentence == "no prompts":
        sentence = "no steering line is known in Finnish"
        recipe = make_recipe(tmp_path, **changes)
        (tmp_path / "prompts" / "fi.jsonl").write_bytes((tmp_path / "prompts" / "es.jsonl").read_bytes())
        recipe["evaluate"] = {}
    else:
        recipe = make_recipe(tmp_path, **changes)
    with pytest.raises(ValueError, match=sentence):
        go(recipe)
    assert not list((tmp_path / "run").glob("iteration-*"))
    errors = [finding.text for finding in check(config_of(recipe)) if finding.level == "error"]
    assert any(sentence in text for text in errors), errors


def test_lidr_pairs_by_direction(tmp_path: Path, server: ChatServer):
    recipe = make_recipe(tmp_path, iterations=1, method="lidr", translator=translator(server))
    recipe["sample"] |= {"n": 1, "temperature": 0.0}
    here = go(recipe).iteration(1)
    answers = {
        language: {g.prompt.id: g.responses[0] for g in read_sampled(here.stage("sample"), language)}
        for language in ("en", "es")
    }
    to_english = {g.prompt.id: g.responses[0].text for g in read_sampled(here.stage("translate"), "es")}
    from_english = {g.prompt.id: g.responses[0].text for g in read_sampled(here.stage("translate-from-english"), "es")}
    asked = [request["messages"][0]["content"] for request in server.requests]
    for id, answer in answers["en"].items():
        assert any("Spanish" in text and answer.text.strip() in text for text in asked), id
    for id, answer in answers["es"].items():
        assert any("into English" in text and answer.text.strip() in text for text in asked), id
    pairs = read_pairs(here.stage("pair"))
    assert pairs
    for pair in pairs:
        id = pair.prompt.id
        texts = pair.chosen.response.text, pair.rejected.response.text
        if pair.prompt.language == "en":
            assert texts == (answers["en"][id].text, to_english[id])
        else:
            assert texts == (from_english[id], answers["es"][id].text)
    shown = "\n".join(lines_of(lives(tmp_path / "run", pairs[0].prompt.id, pairs[0].prompt.language)[0]))
    assert f"chosen   {pairs[0].chosen.response.text!r}" in shown
    counts = made(here, "pair").counts["languages"]
    assert {language: c["n_pairs"] + sum(c["skipped"].values()) for language, c in counts.items()} == {"en": 6, "es": 6}
    assert made(here, "train").counts["training"]["pairs"] == len(pairs)


def test_a_rival_that_takes_no_log_ratio_needs_no_reference_of_its_own(tmp_path: Path, server: ChatServer):
    """Its answers are still what the evaluation compares with; anchored to it, the training takes a log-ratio."""
    recipe = make_recipe(tmp_path, iterations=1, method="lidr", translator=translator(server))
    recipe["sample"] |= {"n": 1, "temperature": 0.0, "repetition_penalty": 1.1}
    recipe["models"] |= {"reference": recipe["models"]["policy"]}
    found = {finding.subject: finding.text for finding in check(config_of(recipe))}
    assert "not compared" in found["policy and reference"]
    here = go(recipe).iteration(1)
    assert made(here, "sample").settings["repetition_penalty"] == 1.1
    assert read_pairs(here.stage("pair"))
    recipe["train"] |= {"reference": "initial"}
    with pytest.raises(ValueError, match="have the same weights"):
        go(recipe | {"run": str(tmp_path / "anchored")})


def test_replay_adds_offline_pairs_until_they_are_that_share(tmp_path: Path):
    offline = tmp_path / "offline.jsonl"
    rows = [{"prompt": f"What is {k}?", "chosen": "A number.", "rejected": "A tree."} for k in range(60)]
    offline.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    recipe = make_recipe(tmp_path, iterations=1)
    recipe["train"] |= {"replay": {"path": str(offline), "share": 0.75}}
    here = go(recipe).iteration(1)
    own = len(read_pairs(here.stage("pair")))
    trained = made(here, "train").counts["training"]
    assert trained["replayed"] == 3 * own
    assert trained["pairs"] == 4 * own
    assert made(here, "train").inputs["replay"] == file_sha256(offline)


def test_what_cannot_be_replayed_is_left_out_before_anything_runs(tmp_path: Path):
    """An answer that is too long, and ids of another tokenizer beside texts that are fine."""
    offline = tmp_path / "offline.jsonl"
    rows: list[dict[str, Any]] = [
        {"prompt": f"What is {k}?", "chosen": "A number.", "rejected": "A tree."} for k in range(4)
    ]
    rows[0]["chosen"] = "A number. " * 200
    rows[1] |= {"chosen_token_ids": [5, 6, 7], "rejected_token_ids": [10**6]}
    offline.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    config = config_of(make_recipe(tmp_path, train={"replay": {"path": str(offline), "share": 0.5}, "max_length": 200}))
    policy, told = spec(config.models.policy), Said()
    replayed = read_replay(config, policy, load_tokens(policy), told)
    assert replayed is not None
    assert [pair.instruction for pair in replayed.pairs] == ["What is 1?", "What is 2?", "What is 3?"]
    assert {side.token_ids for pair in replayed.pairs for side in (pair.chosen, pair.rejected)} == {None}
    assert told.lines == [
        "1 of 4 rows hold token ids of another tokenizer: their texts are encoded anew",
        f"3 offline pairs to replay from {offline}; left out: longer than max_length 1",
    ]


def test_answers_say_by_which_identifier_they_were_measured(tmp_path: Path):
    """Another language filter measures otherwise: answers that are there must not pass for measured by it."""
    recipe = make_recipe(tmp_path, iterations=1)
    directory = go(recipe)
    assert made(directory.iteration(0), "evaluate").settings["language_filter"] == "none"
    recipe["pair"] |= {"language_filter": "lingua"}
    with pytest.raises(ValueError, match="language_filter"):
        run(config_of(recipe), progress=Silent(), redo=["iteration-1/pair"])


def test_the_reward_may_stay_the_first_policys(tmp_path: Path):
    recipe = make_recipe(tmp_path, reward={"policy": "initial"})
    directory = go(recipe)
    policy = model_fingerprint(spec(recipe["models"]["policy"]))
    assert [made(directory.iteration(t), "score").inputs["policy"] for t in (1, 2)] == [policy, policy]
    assert made(directory.iteration(2), "sample").inputs["policy"] == made(directory.iteration(1), "train").digest
    assert all(isinstance(pair, PreferencePair) for pair in read_pairs(directory.iteration(2).stage("pair")))


def test_implausible_tokens_cost_what_the_reference_says(tmp_path: Path):
    """The penalty is recomputed from the reference's own log-probabilities, token by token."""
    reward = {"surprisal": {"weight": 2.0, "threshold": 3.0}}
    recipe = make_recipe(tmp_path, iterations=1, reward=reward, pair=UNCONTROLLED)
    here = go(recipe).iteration(1)
    path = recipe["models"]["reference"]
    reference = HfScorer(spec(path), load_tokens(spec(path)), batch_tokens=512)
    groups = {group.prompt.id: group for group in read_scored(here.stage("score"), "es")}
    assert any(r.penalty > 0 for group in groups.values() for r in group.responses)
    for group in groups.values():
        asked = [Judged(instruction=group.judged_under, responses=tuple(r.response for r in group.responses))]
        for scored, found in zip(group.responses, reference.score(asked, per_token=True)[0], strict=True):
            assert found is not None
            assert found.token_logprobs is not None
            expected = 2.0 * sum(-value - 3.0 for value in found.token_logprobs if value < -3.0)
            assert scored.penalty == pytest.approx(expected, abs=1e-3)
            assert scored.score == scored.policy_logprob - scored.reference_logprob - scored.penalty
    for pair in read_pairs(here.stage("pair")):
        if pair.prompt.language == "es":
            whole = [r.score for r in groups[pair.prompt.id].responses if r.response.finish_reason == "stop"]
            assert pair.chosen.score == max(whole)


def test_a_policy_behind_a_server_judges_itself_with_its_weights(tmp_path: Path):
    template = tmp_path / "template.txt"
    template.write_text("{response} {instruction}", encoding="utf-8")  # ours is longer than a tiny model takes
    with chat_server() as server:
        judge = {"max_new_tokens": 4, "template": str(template)}
        reward = {"kind": "judge", "view": "multilingual", "judge": judge}
        recipe = make_recipe(tmp_path, iterations=1, reward=reward)
        recipe["sample"] |= {"engine": "openai", "openai": {"base_url": server.base_url, "model": "some-policy"}}
        with pytest.raises(ValueError, match="no pairs to train on"):  # a random model says no score
            go(recipe)
        asked = len(server.requests)
    here = RunDir(tmp_path / "run").iteration(1)
    failures = made(here, "rate").counts["failures"]
    assert sum(failures.values()) == made(here, "sample").counts["languages"]["en"]["responses"] * 2 == 48
    assert failures.get("too-long", 0) < 48
    assert asked == 12  # for samples alone


def test_a_translate_stage_that_was_cut_asks_for_no_text_again(tmp_path: Path):
    seen: Counter[str] = Counter()
    broken = True

    def until_it_breaks(request: Request, before: int) -> Reply:
        asked = request["messages"][0]["content"]
        if broken and len(seen) >= 5:
            return Reply(status=500, body={"error": "broken"})
        seen[asked] += 1
        return translating(request, before)

    with chat_server(until_it_breaks) as server:
        section = translator(server) | {"request_attempts": 1, "concurrency": 1}
        recipe = make_recipe(tmp_path, iterations=1, reward={"view": "translated"}, translator=section)
        with pytest.raises((ValueError, OSError)):
            go(recipe)
        assert len(seen) == 5
        broken = False
        here = go(recipe).iteration(1)
    assert set(seen.values()) == {1}
    assert not here.stage("translate").answers.exists()
    assert made(here, "translate").counts["languages"]["es"]["responses"] == 24
