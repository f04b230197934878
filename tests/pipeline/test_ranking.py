"""What a rival or a translator lacks is said before anything runs; and what a recipe hands to its stages."""

import re
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.engines.test_reward_model import make_reward_model
from tests.support.chat_server import Reply, Request, chat_server, choices
from tests.support.families import make_family
from tests.support.recipes import config_of, make_recipe
from tests.support.sampled_stages import write_sampled_stage
from tests.support.seq2seq import make_seq2seq

from crossward.core.records import RatedResponse
from crossward.engines.protocols import ModelSpec
from crossward.engines.tokens import load_tokens
from crossward.pipeline.assemble import Engines
from crossward.pipeline.check import check
from crossward.pipeline.given import Given
from crossward.pipeline.iterate import make_pairs, run
from crossward.pipeline.progress import Silent
from crossward.pipeline.prompts import training_prompts
from crossward.pipeline.ranking import require_ranking, translate_responses
from crossward.pipeline.stage_files import read_pairs
from crossward.pipeline.streams import SAMPLE_WINDOW
from crossward.store.manifest import StageManifest
from crossward.store.run_dir import RunDir

SERVER = {"base_url": "http://localhost:1/v1", "model": "m"}
NO_KEY = SERVER | {"api_key_env": "CROSSWARD_TEST_NO_SUCH_KEY"}


@pytest.fixture(autouse=True)
def straight_to_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One checkpoint of each kind, by name."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "chat": str(make_family("chatml", folder / "chat", seed=5)),
        "nllb": str(make_seq2seq("flores", folder / "nllb")),
        "from-french": str(make_seq2seq("pair", folder / "pair", source_lang="fr", target_lang="en")),
        "reward": str(make_reward_model("chatml", folder / "reward")),
        "two-outputs": str(make_reward_model("chatml", folder / "two", outputs=2)),
        "none": str(folder / "none"),
    }


def judged_by(**judge: Any) -> dict[str, Any]:
    return {"reward": {"kind": "judge", "judge": judge}}


def translated_by(engine: str, **section: Any) -> dict[str, Any]:
    return {"reward": {"view": "translated"}, "translator": {"engine": engine, **section}}


def mapo(engine: str, **section: Any) -> dict[str, Any]:
    return {"reward": {"kind": "translation-likelihood"}, "translator": {"engine": engine, **section}}


def required(folder: Path, models: dict[str, str], changes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A recipe in which names of `models` stand for their paths."""

    def put_in(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: put_in(inner) for key, inner in value.items()}
        return models.get(value, value) if isinstance(value, str) else value

    return make_recipe(folder, **put_in(changes), **more)


LACKING: dict[str, tuple[dict[str, Any], str]] = {
    "judge, key": (judged_by(**NO_KEY), "CROSSWARD_TEST_NO_SUCH_KEY holds no key"),
    "judge, path": (judged_by(checkpoint="none"), "none does not exist"),
    "judge, kind": (judged_by(checkpoint="nllb"), r"nllb \(M2M100.*\) cannot be asked in words"),
    "judge, head": (judged_by(checkpoint="reward"), r"reward \(.*SequenceClassification\) cannot be asked in words"),
    "reward model, outputs": (
        {"reward": {"kind": "reward-model", "reward_model": {"path": "two-outputs"}}},
        "has 2 outputs",
    ),
    "translator, key": (translated_by("openai", **NO_KEY), "CROSSWARD_TEST_NO_SUCH_KEY holds no key"),
    "translator, path": (translated_by("transformers", model="none"), "none does not exist"),
    "translator, kind": (translated_by("transformers", model="nllb"), "nllb .* cannot be asked in words"),
    "seq2seq, path": (translated_by("seq2seq", model="none"), "none does not exist"),
    "seq2seq, kind": (translated_by("seq2seq", model="chat"), "chat is no encoder-decoder"),
    "seq2seq, languages": (translated_by("seq2seq", model="from-french"), "translates from fr to en, not from es"),
    "seq2seq, template": (
        translated_by("seq2seq", model="nllb", template="plain"),
        "asked in no words: leave out the template plain",
    ),
    "MAPO, path": (mapo("transformers", model="none"), "none does not exist"),
    "MAPO, kind": (mapo("transformers", model="nllb"), "nllb .* cannot be asked in words"),
    "MAPO, seq2seq path": (mapo("seq2seq", model="none"), "none does not exist"),
    "MAPO, seq2seq kind": (mapo("seq2seq", model="chat"), r"chat \(.*\) is no encoder-decoder"),
    "MAPO, seq2seq languages": (mapo("seq2seq", model="from-french"), "translates from fr to en, not from es"),
    "MAPO, seq2seq template": (
        mapo("seq2seq", model="nllb", template="plain"),
        "asked in no words: leave out the template plain",
    ),
}


@pytest.mark.parametrize(("changes", "sentence"), LACKING.values(), ids=LACKING)
def test_what_is_lacking_is_said_before_anything_runs(
    tmp_path: Path, models: dict[str, str], changes: dict[str, Any], sentence: str
):
    config = config_of(required(tmp_path, models, changes))
    with pytest.raises(ValueError, match=sentence) as told:
        run(config, progress=Silent())
    assert not list((tmp_path / "run").glob("[!.]*"))
    errors = [finding.text for finding in check(config) if finding.level == "error"]
    assert errors == [str(told.value)]


@pytest.mark.parametrize("changes", [judged_by(**SERVER), translated_by("openai", **SERVER)])
def test_a_server_needs_httpx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]):
    config = config_of(make_recipe(tmp_path, **changes))
    engines = Engines(config)
    require_ranking(engines, engines.policy())
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ValueError, match="the endpoint engine needs httpx"):
        require_ranking(engines, engines.policy())


def test_lidr_translates_both_ways(tmp_path: Path, models: dict[str, str]):
    folder = make_seq2seq("pair", tmp_path / "to-english", source_lang="es", target_lang="en")
    sample = {"engine": "transformers", "n": 1, "temperature": 0.0, "max_new_tokens": 8}
    translator = {"engine": "seq2seq", "model": str(folder)}
    engines = Engines(config_of(make_recipe(tmp_path, method="lidr", sample=sample, translator=translator)))
    with pytest.raises(ValueError, match="translates from es to en, not from en to es"):
        require_ranking(engines, engines.policy())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (judged_by(**SERVER), "judge m at http://localhost:1/v1/chat/completions, 0 to 5 points"),
        (judged_by(checkpoint="chat"), "judge .*chat, 0 to 5 points"),
        (judged_by(), "judge the policy itself, 0 to 5 points"),
        ({"reward": {"kind": "reward-model", "reward_model": {"path": "reward"}}}, "reward model .*reward"),
        (mapo("policy"), "likelihood of the English answers under the policy itself"),
        (mapo("transformers", model="chat"), "likelihood of the English answers under .*chat"),
        (mapo("seq2seq", model="nllb"), "likelihood of the English answers under .*nllb"),
        (translated_by("transformers", model="chat"), "translator: .*chat with transformers"),
        (translated_by("seq2seq", model="nllb"), "translator: .*nllb with seq2seq"),
        (translated_by("policy"), "translator: .*policy with transformers"),
    ],
)
def test_what_is_there_is_told(tmp_path: Path, models: dict[str, str], changes: dict[str, Any], told: str):
    config = config_of(required(tmp_path, models, changes))
    (finding,) = [finding for finding in check(config) if finding.subject == "ranking"]
    assert finding.level == "ok"
    assert re.search(told, finding.text), finding.text


def test_a_server_is_asked_for_as_many_translations_at_once_as_the_recipe_says(tmp_path: Path):
    """Every answer waits until more requests than the window of local models holds are there."""
    busy, many = Counter[str](), threading.Event()

    def together(request: Request, before: int) -> Reply:
        busy["asked"] += 1
        if busy["asked"] > SAMPLE_WINDOW:
            many.set()
        return choices("<translated>hello</translated>" if many.wait(timeout=20.0) else "alone")

    with chat_server(together) as server:
        section = {"engine": "openai", "base_url": server.base_url, "model": "m", "concurrency": SAMPLE_WINDOW + 8}
        recipe = make_recipe(tmp_path, reward={"view": "translated"}, translator=section)
        here = write_sampled_stage(tmp_path / "run", responses=SAMPLE_WINDOW + 8, prompts=1, shards=1)
        sampled = StageManifest(stage="sample", inputs={}, settings={}, counts={}, seconds=0.0, shards={})
        engines = Engines(config_of(recipe))
        made = translate_responses(here, sampled, engines.policy(), engines, Silent())
    assert made.counts["languages"]["es"]["problems"] == {}
    assert server.busiest > SAMPLE_WINDOW


class Longest:
    """A rater of one's own."""

    name = "longest"

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()

    def rate(self, groups: Any, *, advance: Any = None) -> list[tuple[float | None, ...]]:
        return [tuple(float(len(response.text)) for response in group.responses) for group in groups]

    def close(self) -> None:
        pass


def test_texts_of_a_server_are_paired_by_their_length_in_tokens(tmp_path: Path):
    def longer(request: Request, before: int) -> Reply:
        return choices(*("Hola " * (index + 1) for index in range(request["n"])))

    with chat_server(longer) as server:
        sample = {"engine": "openai", "openai": {"base_url": server.base_url, "model": "m"}, "n": 3}
        recipe = make_recipe(
            tmp_path,
            iterations=1,
            reward={"kind": "given"},
            pair={"length_unit": "tokens", "language_filter": "none"},
            sample=sample | {"max_new_tokens": 96},
        )
        engines = Engines(config := config_of(recipe), Given(open_rater=Longest, rater_identity="longest"))
        here, policy = RunDir(Path(config.run)).iteration(1), engines.policy()
        make_pairs(here, 1, [policy], engines.reference(), training_prompts(config), engines, Silent())
    tokens = load_tokens(ModelSpec(path=recipe["models"]["policy"], dtype="float32", device="cpu"))
    pairs = read_pairs(here.stage("pair"))
    assert len(pairs) == 12
    for side in [side for pair in pairs for side in (pair.chosen, pair.rejected)]:
        assert isinstance(side, RatedResponse)
        assert side.response.token_ids is None
        assert side.n_tokens == len(tokens.response_ids(side.response)) > 1
