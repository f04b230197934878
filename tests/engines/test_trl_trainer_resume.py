"""A training that was cut ends as if it had not been: the same weights, every step in the journal once."""

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.families import make_family
from tests.support.training import TRAINING, largest_difference, make_pairs, read_journal, read_tensors

from crossward.engines import trl_callbacks
from crossward.engines.protocols import Advance, Lora, ModelSpec, Training, TrainingPair, no_progress
from crossward.engines.tokens import load_tokens
from crossward.engines.trl_trainer import TrlTrainer

FULL = replace(
    TRAINING, epochs=3, micro_batch_size=2, scheduler="cosine", warmup_ratio=0.3
)  # 6 pairs: 2 steps an epoch
TRAININGS = {
    "full": FULL,
    "lora": replace(FULL, lora=Lora(rank=4, alpha=8.0, dropout=0.1), max_grad_norm=1.0),
}
Setting = tuple[ModelSpec, list[TrainingPair], Training]


class Cut(Exception):
    """Stands for whatever ends a process."""


def cut() -> None:
    raise Cut


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return ModelSpec(path=str(make_family("chatml", tmp_path_factory.mktemp("chatml"))), dtype="float32", device="cpu")


@pytest.fixture(scope="module", params=TRAININGS)
def setting(request: pytest.FixtureRequest, spec: ModelSpec) -> Setting:
    return spec, make_pairs(spec, load_tokens(spec), n=6, shift=2.0), TRAININGS[request.param]


@pytest.fixture(scope="module")
def undisturbed(setting: Setting, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    start(setting, folder, save_seconds=1e9)
    return folder


def start(
    setting: Setting, folder: Path, *, save_seconds: float = 0.0, advance: Advance = no_progress
) -> dict[str, float]:
    spec, pairs, training = setting
    trainer = TrlTrainer(spec, load_tokens(spec), save_seconds=save_seconds)
    return trainer.train(pairs, training, output=folder / "output", metrics=folder / "metrics.jsonl", advance=advance)


def end_after_logging(monkeypatch: pytest.MonkeyPatch, step: int, end: Callable[[], None]) -> None:
    """The worst moment: step `step` is in the journal, its state is not saved."""
    journal = trl_callbacks.Journal
    log = journal.on_log

    def log_and_end(self, args, state, control, logs=None, **kwargs):
        log(self, args, state, control, logs=logs, **kwargs)
        if state.global_step == step:
            end()

    monkeypatch.setattr(journal, "on_log", log_and_end)


def assert_as_undisturbed(folder: Path, undisturbed: Path) -> None:
    expected, got = (read_tensors(place / "output") for place in (undisturbed, folder))
    assert largest_difference(expected, got) == 0.0
    assert [line["step"] for line in read_journal(folder / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert read_journal(folder / "metrics.jsonl") == read_journal(undisturbed / "metrics.jsonl")
    assert sorted(path.name for path in folder.iterdir()) == ["metrics.jsonl", "output"]
    names = [sorted(path.name for path in (place / "output").iterdir()) for place in (folder, undisturbed)]
    assert names[0] == names[1]


@pytest.mark.parametrize("step", [1, 4])
def test_cut_training_goes_on(setting: Setting, undisturbed: Path, step, tmp_path: Path, monkeypatch):
    with monkeypatch.context() as patch:
        end_after_logging(patch, step, cut)
        with pytest.raises(Cut):
            start(setting, tmp_path)
    assert not (tmp_path / "output").exists()
    assert len(read_journal(tmp_path / "metrics.jsonl")) == step
    saved = [path.name for path in (tmp_path / "output.work").glob("checkpoint-*")]
    assert saved == ([f"checkpoint-{step - 1}"] if step > 1 else [])
    begun: list[int] = []
    monkeypatch.setattr(
        trl_callbacks.SaveByTheClock,
        "on_step_begin",
        lambda self, args, state, control, **kwargs: begun.append(state.global_step + 1),
    )
    told: list[int] = []
    result = start(setting, tmp_path, advance=told.append)
    assert begun == list(range(step, 7)), "steps are not done twice"
    assert told == [step - 1, *[1] * (7 - step)], "progress counts the steps from before the cut"
    assert sum(told) == setting[2].steps(len(setting[1]))
    assert result["steps"] == 6
    assert_as_undisturbed(tmp_path, undisturbed)


def test_cut_twice(setting: Setting, undisturbed: Path, tmp_path: Path, monkeypatch):
    for step in (3, 5):
        with monkeypatch.context() as patch:
            end_after_logging(patch, step, cut)
            with pytest.raises(Cut):
                start(setting, tmp_path)
    start(setting, tmp_path)
    assert_as_undisturbed(tmp_path, undisturbed)


def test_cut_while_saving_the_state(setting: Setting, undisturbed: Path, tmp_path: Path, monkeypatch):
    """Half a state is not used: weights without optimizer, or a trainer_state.json cut in the middle."""
    with monkeypatch.context() as patch:
        end_after_logging(patch, 3, cut)
        with pytest.raises(Cut):
            start(setting, tmp_path)
    work = tmp_path / "output.work"
    (work / "checkpoint-3").mkdir()
    (work / "checkpoint-3" / "model.safetensors").write_bytes(b"half")
    shutil.copytree(work / "checkpoint-2", work / "checkpoint-4")
    state = work / "checkpoint-4" / "trainer_state.json"
    state.write_bytes(state.read_bytes()[:-40])
    start(setting, tmp_path)
    assert_as_undisturbed(tmp_path, undisturbed)


def test_cut_while_saving_the_output(setting: Setting, undisturbed: Path, tmp_path: Path, monkeypatch):
    """The output appears whole or not at all, and what was half written is written again."""
    with monkeypatch.context() as patch:
        end_after_logging(patch, 5, cut)
        with pytest.raises(Cut):
            start(setting, tmp_path)
    replace_path = Path.replace
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda self, to: cut() if to == tmp_path / "output" else replace_path(self, to))
        with pytest.raises(Cut):
            start(setting, tmp_path)
    assert not (tmp_path / "output").exists()
    assert len(read_journal(tmp_path / "metrics.jsonl")) == 6
    start(setting, tmp_path)
    assert_as_undisturbed(tmp_path, undisturbed)


def test_killed_process(setting: Setting, undisturbed: Path, tmp_path: Path, monkeypatch):
    """SIGKILL in a child: no handler and no `finally` runs, half a line stays in the journal."""
    child = os.fork()
    if child == 0:
        try:
            end_after_logging(monkeypatch, 4, kill)
            start(setting, tmp_path)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL
    with (tmp_path / "metrics.jsonl").open("a") as journal:
        journal.write('{"step": 5, "los')
    start(setting, tmp_path)
    assert_as_undisturbed(tmp_path, undisturbed)


def test_saves_only_when_the_time_has_come(setting: Setting, tmp_path: Path, monkeypatch):
    end_after_logging(monkeypatch, 6, cut)
    with pytest.raises(Cut):
        start(setting, tmp_path, save_seconds=1e9)
    assert not list((tmp_path / "output.work").glob("checkpoint-*"))
