"""Whatever the method, a training that was cut ends as if it had not been; one that diverges is told."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.families import make_family
from tests.support.training import TRAINING, largest_difference, make_pairs, read_journal, read_tensors

from crossward.engines.protocols import Advance, Alignment, AlignMethod, Lora, ModelSpec, TrainingAnswer, no_progress
from crossward.engines.tokens import load_tokens
from crossward.engines.trl_align import AlignTrainer
from crossward.engines.trl_callbacks import Journal

# 6 rows: 2 steps an epoch
FULL = replace(TRAINING, epochs=3, micro_batch_size=2, nll_weight=0.0, scheduler="cosine", warmup_ratio=0.3)
ADAPTER = replace(FULL, lora=Lora(rank=4, alpha=8.0, dropout=0.1), max_grad_norm=1.0)
ALIGNMENTS = {
    "kto": Alignment(method="kto", training=FULL),
    "kto-lora": Alignment(method="kto", training=ADAPTER),
    "simpo": Alignment(method="simpo", training=replace(FULL, beta=2.0), gamma=1.0),
    "orpo-lora": Alignment(method="orpo", training=ADAPTER),
}


class Cut(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return ModelSpec(path=str(make_family("chatml", tmp_path_factory.mktemp("chatml"))), dtype="float32", device="cpu")


@pytest.fixture(params=ALIGNMENTS)
def alignment(request: pytest.FixtureRequest) -> Alignment:
    return ALIGNMENTS[request.param]


def start(
    spec: ModelSpec,
    alignment: Alignment,
    folder: Path,
    *,
    save_seconds: float = 0.0,
    advance: Advance = no_progress,
) -> dict[str, float]:
    tokens = load_tokens(spec)
    pairs = make_pairs(spec, tokens, 6, shift=1.0)
    trainer = AlignTrainer(spec, tokens, alignment, save_seconds=save_seconds)
    output, metrics = folder / "output", folder / "metrics.jsonl"
    if alignment.method != "kto":
        return trainer.train(pairs, alignment.training, output=output, metrics=metrics, advance=advance)
    answers = [
        TrainingAnswer(
            instruction=pair.instruction,
            response=pair.chosen,
            desirable=place % 2 == 0,
            mismatched=pair.rejected,
            reference_logprob=pair.reference_chosen_logprob,
            mismatched_reference_logprob=pair.reference_rejected_logprob,
        )
        for place, pair in enumerate(pairs)
    ]
    return trainer.train_answers(answers, output=output, metrics=metrics, advance=advance)


def cut_after_logging(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The worst moment: step `step` is in the journal, its state is not saved."""
    log: Callable[..., None] = Journal.on_log

    def log_and_end(self, args, state, control, logs=None, **kwargs):
        log(self, args, state, control, logs=logs, **kwargs)
        if state.global_step == step:
            raise Cut

    monkeypatch.setattr(Journal, "on_log", log_and_end)


def test_cut_training_goes_on(spec: ModelSpec, alignment: Alignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for folder in ("whole", "cut"):
        (tmp_path / folder).mkdir()
    whole = start(spec, alignment, tmp_path / "whole", save_seconds=1e9)
    for step in (2, 5):
        with monkeypatch.context() as patch:
            cut_after_logging(patch, step)
            with pytest.raises(Cut):
                start(spec, alignment, tmp_path / "cut")
        saved = [path.name for path in (tmp_path / "cut" / "output.work").glob("checkpoint-*")]
        assert saved == [f"checkpoint-{step - 1}"]
        assert not (tmp_path / "cut" / "output").exists()
    told: list[int] = []
    result = start(spec, alignment, tmp_path / "cut", advance=told.append)
    assert told == [4, 1, 1], "steps are not done twice"
    assert result["steps"] == whole["steps"] == 6
    weights = [read_tensors(tmp_path / folder / "output") for folder in ("whole", "cut")]
    assert largest_difference(*weights) == 0.0
    journals = [read_journal(tmp_path / folder / "metrics.jsonl") for folder in ("whole", "cut")]
    assert journals[0] == journals[1]
    assert [line["step"] for line in journals[1]] == [1, 2, 3, 4, 5, 6]
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == ["metrics.jsonl", "output"]


@pytest.mark.parametrize("method", ["kto", "orpo"])
def test_a_training_that_diverges_is_told(spec: ModelSpec, method: AlignMethod, tmp_path: Path):
    training = replace(FULL, learning_rate=1e30, max_grad_norm=1e30, warmup_ratio=0.0)
    with pytest.raises(ValueError, match=r"training diverged at step \d, .*lower the learning rate \(now 1e\+30\)"):
        start(spec, Alignment(method=method, training=training), tmp_path)
    assert not (tmp_path / "output").exists()
