"""A training that was cut ends as if it had not been: the same weights, every step in the journal once."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.damage import DAMAGES
from tests.support.families import make_family
from tests.support.training import TRAINING, largest_difference, make_pairs, read_journal, read_tensors

from crossward.engines import trl_callbacks
from crossward.engines.protocols import Advance, Lora, ModelSpec, Training, TrainingPair, no_progress
from crossward.engines.state_files import WHOLE, fault_of
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


@pytest.fixture(scope="module")
def kept(setting: Setting, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that was cut in its fifth step; its states are those of the fourth and, set aside, of the second."""
    folder = tmp_path_factory.mktemp("kept")
    for step in (3, 5):
        with pytest.MonkeyPatch.context() as patch:
            end_after_logging(patch, step, cut)
            with pytest.raises(Cut):
                start(setting, folder)
        if step == 3:
            shutil.copytree(folder / "output.work" / "checkpoint-2", folder / "checkpoint-2")
    return folder


def start(
    setting: Setting,
    folder: Path,
    *,
    save_seconds: float = 0.0,
    advance: Advance = no_progress,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, float]:
    spec, pairs, training = setting
    trainer = TrlTrainer(spec, load_tokens(spec), save_seconds=save_seconds, say=say)
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


def test_what_it_came_to_is_kept_before_the_checkpoint_is_there(spec: ModelSpec, tmp_path: Path):
    """A kill between the two: what was kept of a training without a checkpoint is written anew with it."""
    output, kept = tmp_path / "output", []
    told = TrlTrainer(spec, load_tokens(spec)).train(
        make_pairs(spec, load_tokens(spec), n=4),
        TRAINING,
        output=output,
        metrics=tmp_path / "metrics.jsonl",
        keep=lambda result: kept.append((output.exists(), result)),
    )
    ((there, result),) = kept
    assert not there
    assert output.exists()
    assert result == told
    assert {"loss", "steps", "pairs", "dropped_too_long"} <= result.keys()


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
    told: list[str] = []
    start(setting, tmp_path, say=told.append)
    assert [line.split(":")[0].removeprefix("a state of the training at step ") for line in told] == [
        "4 is damaged",
        "3 is not finished",
    ]
    assert all(line.endswith("; going on from step 2") for line in told)
    assert_as_undisturbed(tmp_path, undisturbed)


def one_key_changed(path: Path) -> None:
    said = json.loads(path.read_text())
    path.write_text(json.dumps({("sharded" if key == "sharding" else key): value for key, value in said.items()}))


WHOLE_TRAINING = (
    ("model.safetensors", "a bit flipped in the middle"),
    ("optimizer.pt", "a bit flipped in the middle"),
    ("optimizer.pt", "emptied"),
    ("rng_state.pth", "emptied"),
    ("scheduler.pt", "cut in half"),
    (WHOLE, "one key changed"),
)
ADAPTER = (("adapter_model.safetensors", "a bit flipped in the middle"), ("adapter_config.json", "cut in half"))


def test_a_damaged_state_is_told_and_not_gone_on_from(setting: Setting, undisturbed: Path, kept: Path, tmp_path: Path):
    """The training begins anew; that of the adapter has an earlier state."""
    adapter = setting[2].lora is not None
    for number, (file, damage) in enumerate(ADAPTER if adapter else WHOLE_TRAINING):
        folder = tmp_path / str(number)
        shutil.copytree(kept, folder, ignore=shutil.ignore_patterns("checkpoint-2"))
        if adapter:
            shutil.copytree(kept / "checkpoint-2", folder / "output.work" / "checkpoint-2")
        damaged = folder / "output.work" / "checkpoint-4" / file
        (DAMAGES | {"one key changed": one_key_changed})[damage](damaged)
        told: list[str] = []
        steps: list[int] = []
        start(setting, folder, say=told.append, advance=steps.append, save_seconds=1e9)
        (line,) = told
        assert line.startswith("a state of the training at step 4 is damaged: ")
        assert str(damaged) in line
        assert line.endswith(f"; going on from {'step 2' if adapter else 'the beginning'}")
        assert steps[0] == (2 if adapter else 0)
        assert_as_undisturbed(folder, undisturbed)


def test_no_file_of_a_state_is_without_a_sum(kept: Path, tmp_path: Path):
    state = kept / "output.work" / "checkpoint-4"
    assert fault_of(state) is None
    names = sorted(path.name for path in state.iterdir() if path.is_file())
    assert {"optimizer.pt", "rng_state.pth", "scheduler.pt", "trainer_state.json", WHOLE} <= set(names)
    shutil.copytree(state, tmp_path / "state")
    for name in names:
        for damage in ("a bit flipped in the middle", "cut in half", "emptied", "removed"):
            DAMAGES[damage](tmp_path / "state" / name)
            fault = fault_of(tmp_path / "state")
            assert fault is not None
            assert str(tmp_path / "state" / name) in fault
            shutil.copy(state / name, tmp_path / "state")
    assert fault_of(tmp_path / "state") is None


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
