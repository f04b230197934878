"""π_0 from π_I: what fits, what KTO exchanges, what a rerun, a kill and other settings do; a reward that is right."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.families import make_family
from tests.support.training import TRAINING, largest_difference, read_journal, read_tensors

from crossward.core.records import Response
from crossward.engines.hf_scorer import HfScorer
from crossward.engines.protocols import Alignment, AlignMethod, Judged, Lora, ModelSpec, Training
from crossward.engines.tokens import load_tokens
from crossward.pipeline.align import align_file
from crossward.pipeline.align_rows import answers_with_reference, as_answers, partners
from crossward.pipeline.progress import Progress, Silent
from crossward.store.preference_file import read_preferences

WORDS = ("Hola", "the", "thing", "Manzana", "roja", "an", "a", "ring")
BASE = replace(
    TRAINING, learning_rate=1e-3, epochs=3, nll_weight=0.0, micro_batch_size=4, max_grad_norm=1.0, max_length=400
)
ALIGNMENTS: dict[AlignMethod, Alignment] = {
    "dpo": Alignment(method="dpo", training=BASE),
    "kto": Alignment(method="kto", training=BASE),
    "simpo": Alignment(method="simpo", training=replace(BASE, beta=2.0), gamma=1.0),
    "orpo": Alignment(method="orpo", training=BASE),
}
Row = dict[str, Any]


class Listener(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


def make_rows(n: int = 12) -> list[Row]:
    """Chosen answers repeat a word of the question, rejected ones are about something else."""
    rows = []
    for i in range(n):
        one, two, three = WORDS[i % 8], WORDS[(3 * i + 1) % 8], WORDS[(5 * i + 2) % 8]
        rows.append({"prompt": f"Say {one} {i}", "chosen": f"{one} {two} {one}.", "rejected": f"{three} no {two}"})
    return rows


def write(path: Path, rows: list[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return ModelSpec(path=str(make_family("chatml", tmp_path_factory.mktemp("sft"))), dtype="float32", device="cpu")


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    return write(tmp_path / "pairs.jsonl", make_rows())


def align(
    sft: ModelSpec, preferences: str, output: Path, alignment: Alignment, *, progress: Progress | None = None
) -> dict[str, Any]:
    return align_file(sft, preferences, output, alignment=alignment, progress=progress or Silent())


def accuracy(policy: Path, sft: ModelSpec, rows: list[Row]) -> float:
    """How often the log-ratio of the trained model over the SFT model prefers the chosen answer."""
    judged = [
        Judged(instruction=row["prompt"], responses=(Response(text=row["chosen"]), Response(text=row["rejected"])))
        for row in rows
    ]
    spec = replace(sft, path=str(policy))
    ours, theirs = (HfScorer(one, load_tokens(one)).score(judged) for one in (spec, sft))
    right = 0
    for (chosen, rejected), (base, other) in zip(ours, theirs, strict=True):
        ratios = [one.logprob - two.logprob for one, two in ((chosen, base), (rejected, other)) if one and two]
        right += ratios[0] > ratios[1]
    return right / len(rows)


@pytest.mark.parametrize("method", ALIGNMENTS)
def test_every_method_makes_a_policy_whose_log_ratio_prefers_the_chosen(
    sft: ModelSpec, pairs: str, method: AlignMethod, tmp_path: Path
):
    summary = align(sft, pairs, tmp_path / "aligned", ALIGNMENTS[method])
    assert summary["steps"] == (18 if method == "kto" else 9)
    assert summary["answers" if method == "kto" else "pairs"] == (24 if method == "kto" else 12)
    assert accuracy(tmp_path / "aligned", sft, make_rows()) > 0.8
    assert (tmp_path / "aligned" / "chat_template.jinja").exists()
    assert load_tokens(replace(sft, path=str(tmp_path / "aligned"))).fingerprint() == load_tokens(sft).fingerprint()
    manifest = json.loads((tmp_path / "aligned.align.json").read_text(encoding="utf-8"))
    assert manifest["inputs"]["preferences"] == read_preferences(pairs).sha256
    assert manifest["settings"]["method"] == method
    assert manifest["training"]["steps"] == summary["steps"]


@pytest.mark.parametrize("method", ["kto", "simpo"])
def test_an_adapter(sft: ModelSpec, pairs: str, method: AlignMethod, tmp_path: Path):
    alignment = ALIGNMENTS[method]
    training = replace(alignment.training, lora=Lora(rank=4, alpha=8.0), learning_rate=1e-2)
    align(sft, pairs, tmp_path / "adapter", replace(alignment, training=training))
    assert all("lora" in name for name in read_tensors(tmp_path / "adapter"))
    assert accuracy(tmp_path / "adapter", sft, make_rows()) > 0.8


def test_what_is_left_out_is_counted_by_reason(sft: ModelSpec, tmp_path: Path):
    good, *others = make_rows()
    rows = [
        *(good, good),
        *others,
        good | {"rejected": good["chosen"]},
        good | {"chosen": "q" * 600},
        good | {"rejected": "no " * 500},
    ]
    listener = Listener()
    alignment = replace(ALIGNMENTS["dpo"], training=replace(BASE, max_length=10_000))
    summary = align(sft, write(tmp_path / "p.jsonl", rows), tmp_path / "out", alignment, progress=listener)
    assert summary["left_out"] == {"duplicate": 1, "tie": 1, "longer than the model's context": 2}
    assert (summary["rows"], summary["pairs"]) == (16, 12)
    assert listener.said[0] == (
        "16 rows read as plain text, 12 pairs to train on; left out: duplicate 1, tie 1, longer than the model's "
        "context 2"
    )


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_longer_than_max_length_is_left_out_pair_by_pair(sft: ModelSpec, method: AlignMethod, tmp_path: Path):
    """KTO too leaves out both answers of a pair, or the longer kind would go missing."""
    tokens = load_tokens(sft)
    rows = make_rows()
    long = rows[0] | {"chosen": "Hola " * 60}
    exact = len(tokens.prompt_ids(long["prompt"])) + len(tokens.response_ids(Response(text=long["chosen"])))
    path = write(tmp_path / "p.jsonl", [*rows[1:], long])
    alignment = ALIGNMENTS[method]
    for max_length, n_pairs in ((exact, 12), (exact - 1, 11)):
        training = replace(alignment.training, max_length=max_length, epochs=1)
        summary = align(sft, path, tmp_path / str(max_length), replace(alignment, training=training))
        assert summary["left_out"] == ({} if n_pairs == 12 else {"longer than max_length": 1})
        assert summary.get("pairs", summary.get("answers", 0) / 2) == n_pairs
    with pytest.raises(ValueError, match=r"nothing is left to train on \(longer than max_length 12\): raise --max-len"):
        align(sft, path, tmp_path / "none", replace(alignment, training=replace(BASE, max_length=5)))


def test_the_finished_command_says_so_and_other_settings_are_refused(sft: ModelSpec, pairs: str, tmp_path: Path):
    alignment, output, listener = ALIGNMENTS["simpo"], tmp_path / "out", Listener()
    summary = align(sft, pairs, output, alignment)
    before = (output / "model.safetensors").stat().st_mtime_ns
    assert align(sft, pairs, output, alignment, progress=listener) == summary
    assert listener.said == [f"{output} is done already, with these preferences and settings: nothing to do"]
    assert (output / "model.safetensors").stat().st_mtime_ns == before
    for changed in (replace(alignment, gamma=0.5), replace(alignment, training=replace(BASE, beta=2.0, seed=9))):
        with pytest.raises(
            ValueError, match=r"was made from something else: (gamma was 1\.0, now 0\.5|seed was 3, now 9)"
        ):
            align(sft, pairs, output, changed)
    write(Path(pairs), make_rows(11))
    with pytest.raises(ValueError, match="was made from something else: preferences was"):
        align(sft, pairs, output, alignment)


def test_killed_between_the_checkpoint_and_the_end_of_its_manifest(sft: ModelSpec, pairs: str, tmp_path: Path):
    alignment, output = ALIGNMENTS["orpo"], tmp_path / "out"
    summary = align(sft, pairs, output, alignment)
    path = tmp_path / "out.align.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"training": None}), encoding="utf-8")
    again = align(sft, pairs, output, alignment)
    assert {key: value for key, value in summary.items() if key in again} == again
    assert again["steps"] == 9
    assert json.loads(path.read_text(encoding="utf-8"))["training"]["steps"] == 9


def test_a_killed_process_continues_to_the_same_weights(sft: ModelSpec, pairs: str, tmp_path: Path):
    """Killed for real, in the middle, with a state of the step before on the disk."""
    code = (
        "import os, signal, sys; from crossward.engines import trl_align, trl_callbacks, trl_trainer;"
        "from tests.pipeline.test_align import ALIGNMENTS, align; from crossward.engines.protocols import ModelSpec;"
        "from pathlib import Path; init = trl_trainer.TrlTrainer.__init__;"
        "trl_trainer.TrlTrainer.__init__ = lambda self, *a, **k: init(self, *a, **(k | {'save_seconds': 0.0}));"
        "log = trl_callbacks.Steps.on_step_end;"
        "trl_callbacks.Steps.on_step_end = lambda self, args, state, control, **k: "
        "os.kill(os.getpid(), signal.SIGKILL) if state.global_step == 5 else log(self, args, state, control, **k);"
        "align(ModelSpec(path=sys.argv[1], dtype='float32', device='cpu'), sys.argv[2], Path(sys.argv[3]), "
        "ALIGNMENTS['kto'])"
    )
    output = tmp_path / "killed"
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code, sft.path, pairs, str(output)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not output.exists()
    assert list((tmp_path / "killed.work").glob("checkpoint-4"))
    changed = replace(ALIGNMENTS["kto"], training=replace(BASE, beta=0.3))
    with pytest.raises(ValueError, match="was begun to be made from something else: beta was"):
        align(sft, pairs, output, changed)
    align(sft, pairs, output, ALIGNMENTS["kto"])
    align(sft, pairs, tmp_path / "whole", ALIGNMENTS["kto"])
    assert largest_difference(read_tensors(output), read_tensors(tmp_path / "whole")) < 1e-6
    steps = [line["step"] for line in read_journal(tmp_path / "killed.metrics.jsonl")]
    assert steps == list(range(1, len(steps) + 1))
    assert not (tmp_path / "killed.work").exists()


def test_partners_never_are_the_row_itself_and_stay_in_the_micro_batch():
    for n in range(2, 20):
        for size in range(2, 6):
            found = partners(n, size)
            assert all(other != place for place, other in enumerate(found))
            whole = n // size * size
            for start in range(0, whole, size):
                assert sorted(found[start : start + size]) == list(range(start, start + size))


def test_a_mismatched_answer_is_cut_to_what_fits_and_never_the_trained_one(sft: ModelSpec, tmp_path: Path):
    tokens = load_tokens(sft)
    rows = [{"prompt": "a " * 40, "chosen": "Hola.", "rejected": "no"}, {"prompt": "Say", "chosen": "the " * 50,
            "rejected": "an " * 60}]  # fmt: skip
    answers = as_answers(read_preferences(write(tmp_path / "p.jsonl", rows)).pairs)
    found = answers_with_reference(
        answers, HfScorer(sft, tokens), tokens, micro_batch_size=4, longest=100, seed=1, progress=Silent()
    )
    assert sorted(a.response.text for a in found) == sorted(a.response.text for a in answers)
    assert [a.instruction for a in found] != [a.instruction for a in answers]
    lengths = [len(tokens.prompt_ids(a.instruction)) + len(tokens.response_ids(a.mismatched)) for a in found]
    assert max(lengths) == 100
    for place, answer in enumerate(found):
        whole = tokens.response_ids(found[place - 1].response)
        ids = tokens.response_ids(answer.mismatched)
        assert ids == whole[: len(ids)]
        (scores,) = HfScorer(sft, tokens).score(
            [Judged(instruction=answer.instruction, responses=(answer.response, answer.mismatched))]
        )
        expected = [answer.reference_logprob, answer.mismatched_reference_logprob]
        assert [score.logprob for score in scores if score] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"micro_batch_size": 1}, "needs a micro_batch_size of 2 or more, got 1"),
        ({"micro_batch_size": 3}, "batch_size must be a multiple of micro_batch_size, got 4 and 3"),
        ({"beta": 0.0}, "beta must be above 0"),
    ],
)
def test_settings_that_teach_nothing_are_refused(
    sft: ModelSpec, pairs: str, changes: Mapping[str, Any], sentence: str, tmp_path: Path
):
    training: Training = replace(BASE, **changes)
    with pytest.raises(ValueError, match=sentence):
        align(sft, pairs, tmp_path / "out", replace(ALIGNMENTS["kto"], training=training))


def test_answers_with_a_verdict_are_for_kto_and_of_both_kinds(sft: ModelSpec, tmp_path: Path):
    rows = [{"prompt": row["prompt"], "completion": row["chosen"], "label": True} for row in make_rows(6)]
    path = write(tmp_path / "p.jsonl", rows)
    with pytest.raises(ValueError, match=r"single answers with a verdict \(TRL unpaired\), which only kto trains"):
        align(sft, path, tmp_path / "out", ALIGNMENTS["dpo"])
    with pytest.raises(ValueError, match="all 6 answers are desirable: kto needs both kinds"):
        align(sft, path, tmp_path / "out", ALIGNMENTS["kto"])
    listener = Listener()
    write(Path(path), [*rows, rows[0] | {"completion": "no", "label": False}])
    summary = align(sft, path, tmp_path / "out", ALIGNMENTS["kto"], progress=listener)
    assert summary["answers"] == 7
    assert "6 of 7 answers are desirable: with these weights the ratio of both sides is 6.00" in listener.said[1]
