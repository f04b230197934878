"""The demo from nothing, small: the user's own pipeline on a world made here, and what gold says of the run."""

import json
from pathlib import Path
from statistics import fmean

import pytest
import torch

from crossward.config import load
from crossward.core.records import Response
from crossward.core.winrates import win_rates
from crossward.engines.protocols import ModelSpec
from crossward.engines.tokens import load_tokens
from crossward.pipeline.progress import Silent
from crossward.store import tables
from crossward.store.run_dir import RunDir
from crossward.store.verdict_file import read_verdicts
from crossward.tinyworld.__main__ import main
from crossward.tinyworld.judgement import GROUPS, accuracies, golds_of, judge, policies_of, rank, win_shares
from crossward.tinyworld.prepare import prepare
from crossward.tinyworld.pretrain import Encoder, logprobs_of, new_model
from crossward.tinyworld.vocabulary import LANGUAGES
from crossward.tinyworld.world import gold

RECIPE = Path(__file__).parents[2] / "recipes" / "demo.yaml"


def overrides(folder: Path) -> list[str]:
    return [
        f"run={folder / 'run'}",
        f"models.policy={folder / 'policy'}",
        f"models.reference={folder / 'reference'}",
        f"prompts.path={folder}/prompts/{{language}}.jsonl",
        f"evaluate.prompts.path={folder}/held-out/{{language}}.jsonl",
        "prompts.limit=6",
        "evaluate.prompts.limit=6",
        "evaluate.n=3",
        "sample.n=3",
        "score.noise_sample=1",
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tinyworld")
    assert main([str(RECIPE), *overrides(folder), "--preset", "fast"]) == 0
    return folder


def test_the_demo_leaves_a_run_a_report_and_a_gold_table(finished: Path):
    run = RunDir(finished / "run")
    assert list(policies_of(run)) == ["π_I", "π_0", "π_1", "π_2"]
    text = run.report.with_name("gold.md").read_text(encoding="utf-8")
    for row in ("gold π_I", "win % π_0", "gain π_2", "reward cross-lingual", "reward own language"):
        assert f"| {row} |" in text
    assert "| numbered | count | no_duplicates | category | language | tidy | gold |" in text
    assert run.report.exists()


def test_again_it_trains_nothing_and_says_the_same(finished: Path, capsys: pytest.CaptureFixture[str]):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.safetensors")}
    gold_table = (finished / "run" / "gold.md").read_bytes()
    assert main([str(RECIPE), *overrides(finished), "--preset", "fast"]) == 0
    shown = capsys.readouterr().out
    assert "reward cross-lingual" in shown
    assert str(finished / "run" / "report.html") in shown
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*.safetensors")}
    assert (finished / "run" / "gold.md").read_bytes() == gold_table


def test_another_seed_in_the_same_folder_is_refused(finished: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(RECIPE), *overrides(finished), "seed=43", "--preset", "fast"]) == 2
    assert "another tiny world" in capsys.readouterr().err


def test_a_hard_world_is_another_and_says_so(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = [str(RECIPE), *overrides(tmp_path), "iterations=1", "--preset", "fast"]
    assert main([*arguments, "--mode", "hard"]) == 0
    assert json.loads((tmp_path / "world.json").read_text()) == {
        "format": 1,
        "preset": "fast",
        "seed": 42,
        "mode": "hard",
    }
    assert "(hard mode)" in (tmp_path / "run" / "gold.md").read_text(encoding="utf-8")
    for name in ("reference", "policy"):
        hard, plain = (root / name / "model.safetensors" for root in (tmp_path, finished))
        assert hard.read_bytes() != plain.read_bytes()
    assert main(arguments) == 2
    assert "another tiny world" in capsys.readouterr().err


def test_a_plain_world_says_what_it_said_before_there_were_modes(finished: Path):
    assert (finished / "world.json").read_text() == '{"format": 1, "preset": "fast", "seed": 42}\n'
    assert "hard mode" not in (finished / "run" / "gold.md").read_text(encoding="utf-8")


def test_numbers_are_those_of_the_answers_on_disk(finished: Path):
    run = RunDir(finished / "run")
    judged = {policy.name: policy for policy in judge(policies_of(run))}
    answers = [
        (group.prompt, response)
        for _, _, path in run.iteration(1).stage("evaluate").shards()
        for group in tables.read_sampled(path)
        for response in group.responses
    ]
    assert len(answers) == len(LANGUAGES) * 6 * 3
    golds = {name: golds_of(here) for name, here in policies_of(run).items()}
    assert judged["π_I"].win_rate == judged["π_0"].gain == {}
    for name, languages in GROUPS.items():
        expected = fmean(gold(prompt, r.text) for prompt, r in answers if prompt.language in languages)
        assert judged["π_1"].gold[name].estimate == pytest.approx(expected)
        wins = win_shares(golds["π_1"], golds["π_I"])
        expected = fmean(share for (language, _), share in wins.items() if language in languages)
        assert judged["π_1"].win_rate[name].estimate == pytest.approx(expected)
        difference = judged["π_1"].win_rate[name].estimate - judged["π_0"].win_rate[name].estimate
        assert judged["π_1"].gain[name].estimate == pytest.approx(difference)


def test_golds_verdicts_are_a_file_that_winrate_reads(finished: Path, capsys: pytest.CaptureFixture[str]):
    path = finished / "run" / "gold" / "verdicts.jsonl"
    verdicts = read_verdicts(path)
    assert len(verdicts) == 3 * len(LANGUAGES) * 6
    rates = {(rate.model, rate.language): rate for rate in win_rates(verdicts, variant="none", resamples=20).rates}
    judged = {policy.name: policy for policy in judge(policies_of(RunDir(finished / "run")))}
    for (model, language), rate in rates.items():
        assert judged[model].win_rate[language].estimate == pytest.approx(rate.win_rate / 100)


def test_both_views_are_the_same_in_english_and_differ_elsewhere(finished: Path):
    config = load(RECIPE, overrides(finished))
    found = accuracies(rank(config, RunDir(finished / "run"), Silent()))
    assert found["crosslingual"]["en"] == found["multilingual"]["en"]
    assert found["crosslingual"]["non-English"] != found["multilingual"]["non-English"]


def test_prompts_of_the_method_are_not_those_of_the_claims(finished: Path):
    def instructions(folder: str) -> set[str]:
        lines = (finished / folder / "sw.jsonl").read_text(encoding="utf-8").splitlines()
        return {json.loads(line)["instruction"] for line in lines}

    assert not instructions("prompts") & instructions("held-out")
    assert not instructions("tuning") & instructions("held-out")
    assert not instructions("tuning") & instructions("prompts")


def test_a_world_that_was_cut_continues_and_is_the_same(finished: Path, tmp_path: Path):
    prepare(tmp_path / "w", preset="fast", seed=42, progress=Silent())
    (tmp_path / "w" / "world.json").unlink()
    (tmp_path / "w" / "policy" / "model.safetensors").unlink()
    (tmp_path / "w" / "policy").rename(tmp_path / "w" / ".policy.tmp")  # as a kill while saving leaves it
    prepare(tmp_path / "w", preset="fast", seed=42, progress=Silent())
    for name in ("reference", "policy"):
        ours, theirs = (root / name / "model.safetensors" for root in (tmp_path / "w", finished))
        assert ours.read_bytes() == theirs.read_bytes()


def test_training_reads_the_ids_that_the_engines_read(finished: Path):
    tokens = load_tokens(ModelSpec(path=str(finished / "reference"), dtype="float32", device="cpu"))
    prompt, response = Encoder(tokens)("Nombra tres animales .", "1 perro 2 gato 3 vaca .")
    assert tuple(prompt) == tuple(tokens.prompt_ids("Nombra tres animales ."))
    assert tuple(response) == tuple(tokens.response_ids(Response(text="1 perro 2 gato 3 vaca .")))
    assert tokens.tokenizer.unk_token_id not in response


def test_log_probabilities_of_training_are_those_of_the_whole_logits(finished: Path):
    tokens = load_tokens(ModelSpec(path=str(finished / "reference"), dtype="float32", device="cpu"))
    encode = Encoder(tokens)
    model = new_model(tokens, seed=5).double()
    texts = ["1 perro .", "gato , vaca ...", "1 Hund 2 Katze 3 Kuh 4 Pferd .", "rouge ...", "dog , cat , cow ."]
    batch = [
        encode(f"Name {word} animals .", text)
        for word, text in zip(["two", "three", "four", "five", "six"], texts, strict=True)
    ]
    sums, lengths = logprobs_of(model, batch, tokens.pad_id)
    sums = sums.detach()
    for total, n, (prompt, response) in zip(sums, lengths, batch, strict=True):
        logits = model(torch.tensor([[*prompt, *response]])).logits[0].log_softmax(-1).detach()
        expected = sum(float(logits[len(prompt) - 1 + t, token]) for t, token in enumerate(response))
        assert float(total) == pytest.approx(expected, abs=1e-9)
        assert int(n) == len(response)
