"""Two processes train as one: the same curve and the same weights, killed and continued, and none stays behind.

Gradients and metrics are sums of the same float32 numbers in another order. Tolerances: 1e-5 of each logged value and
1e-6 in every weight, on weights that move by more than 1e-4.
"""

import errno
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from tests.support.damage import DAMAGES
from tests.support.families import make_family
from tests.support.processes import FSDP2, nothing, train_together
from tests.support.training import TRAINING, largest_difference, make_pairs, read_journal, read_tensors

from crossward.engines import heads, trl_callbacks
from crossward.engines.launched_trainer import LaunchedTrainer, Order, found_program, read_order, write_order
from crossward.engines.pair_table import write_pairs
from crossward.engines.protocols import Lora, ModelSpec, Training, TrainingPair
from crossward.engines.state_files import fault_of
from crossward.engines.tokens import load_tokens
from crossward.engines.training_folder import TrainingFolder
from crossward.engines.trl_pairs import PairTrainer
from crossward.engines.trl_trainer import TrlTrainer

ROOT = Path(__file__).parents[2]
# 5 pairs in steps of 4: every second step has one pair, and one of two processes has none.
FULL = replace(TRAINING, epochs=3, micro_batch_size=1, scheduler="cosine", warmup_ratio=0.3)
TRAININGS = {"full": FULL, "lora": replace(FULL, lora=Lora(rank=4, alpha=8.0))}
ENVIRONMENTS = {"ddp": {}, "fsdp2": FSDP2}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return ModelSpec(path=str(make_family("chatml", tmp_path_factory.mktemp("chatml"))), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def pairs(spec: ModelSpec) -> list[TrainingPair]:
    return make_pairs(spec, load_tokens(spec), n=5, shift=2.0)


@pytest.fixture(scope="module")
def alone(spec: ModelSpec, pairs: list[TrainingPair], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of trainings in one process."""
    folders = {name: tmp_path_factory.mktemp(name) for name in TRAININGS}
    for name, folder in folders.items():
        TrlTrainer(spec, load_tokens(spec)).train(
            pairs, TRAININGS[name], output=folder / "output", metrics=folder / "metrics.jsonl"
        )
    return folders


def together(
    spec: ModelSpec,
    pairs: list[TrainingPair],
    training: Training,
    folder: Path,
    kind: str = "ddp",
    *,
    count: int = 2,
    prepare: Callable[[int], None] = nothing,
) -> list[int]:
    """What LaunchedTrainer does around the processes, and the processes forked; returns how they ended."""
    work = TrainingFolder(folder / "output")
    with work.held():
        work.wait_for_orphans()
        work.clear_for_start(pytest.fail)
        write_pairs(work.pairs, pairs, load_tokens(spec), max_length=training.max_length)
        metrics = folder / "metrics.jsonl"
        write_order(work, Order(spec=spec, training=training, output=work.output, metrics=metrics, save_seconds=0.0))
        return train_together(work.order, count=count, environment=ENVIRONMENTS[kind], prepare=prepare)


def assert_as_alone(folder: Path, alone: Path) -> None:
    expected, got = (read_journal(place / "metrics.jsonl") for place in (alone, folder))
    assert [line["step"] for line in got] == [1, 2, 3, 4, 5, 6]
    for one, two in zip(expected, got, strict=True):
        assert one.keys() == two.keys()
        for name, value in one.items():
            assert two[name] == pytest.approx(value, rel=1e-5, abs=1e-6), (name, one["step"])
    weights = [read_tensors(place / "output") for place in (alone, folder)]
    assert largest_difference(*weights) < 1e-6
    names = [sorted(path.name for path in (place / "output").iterdir()) for place in (alone, folder)]
    assert names[0] == names[1]
    for name in names[0]:
        if not name.endswith(".safetensors"):
            assert (folder / "output" / name).read_bytes() == (alone / "output" / name).read_bytes(), name


def portions(number: int) -> None:
    """More logits than a few rows' are computed again on the way back."""
    heads.LOGITS_BYTES = 2**10


def test_an_adapter(spec: ModelSpec, pairs: list[TrainingPair], alone: dict[str, Path], tmp_path: Path):
    codes = together(spec, pairs, TRAININGS["lora"], tmp_path)
    assert codes == [0, 0], TrainingFolder(tmp_path / "output").log.read_text()
    assert_as_alone(tmp_path, alone["lora"])


@pytest.mark.parametrize("count", [2, 1])
def test_one_process_is_killed_and_all_go_on(
    spec: ModelSpec, pairs: list[TrainingPair], alone: dict[str, Path], count: int, tmp_path: Path
):
    """SIGKILL of the last process, when the first may have written step 4 and no state of it is kept. FSDP2; DDP is
    below, with accelerate, and in experiments/training_processes.py.

    The head computes in portions, as it does with a large vocabulary.
    """
    journal = trl_callbacks.Journal.on_log

    def log_and_die(self, args, state, control, logs=None, **kwargs):
        if state.global_step == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        journal(self, args, state, control, logs=logs, **kwargs)

    def mortal(number: int) -> None:
        portions(number)
        if number == count - 1:
            trl_callbacks.Journal.on_log = log_and_die

    codes = together(spec, pairs, TRAININGS["full"], tmp_path, "fsdp2", count=count, prepare=mortal)
    assert codes[-1] == -signal.SIGKILL
    assert codes[0] != 0
    work = TrainingFolder(tmp_path / "output")
    assert [path.name for path in work.states()] == ["checkpoint-3"]
    parts = list((work.path / "checkpoint-3").glob("pytorch_model_fsdp_0/*.distcp"))
    assert len(parts) == count, "each process keeps its part of the weights"
    assert fault_of(work.state(3)) is None
    shutil.copytree(work.state(3), tmp_path / "state")
    for part in (tmp_path / "state").rglob("*_0.distcp"):
        DAMAGES["a bit flipped in the middle"](part)
        assert str(part) in (fault_of(tmp_path / "state") or ""), "each process names what it wrote"
        shutil.copy(work.state(3) / part.relative_to(tmp_path / "state"), part)
    shutil.rmtree(tmp_path / "state")

    def tell(number: int) -> None:
        portions(number)
        step = trl_callbacks.Steps.on_train_begin
        trl_callbacks.Steps.on_train_begin = lambda self, args, state, control, **kwargs: (
            (tmp_path / f"begun-{number}").write_text(str(state.global_step)),
            step(self, args, state, control, **kwargs),
        )[1]

    codes = together(spec, pairs, TRAININGS["full"], tmp_path, "fsdp2", count=count, prepare=tell)
    assert codes == [0] * count, work.log.read_text()
    begun = [int((tmp_path / f"begun-{number}").read_text()) for number in range(count)]
    assert begun == [3] * count, "steps are not done twice"
    assert_as_alone(tmp_path, alone["full"])


def test_a_killed_driver_leaves_no_process_and_accelerate_goes_on(
    spec: ModelSpec, pairs: list[TrainingPair], alone: dict[str, Path], tmp_path: Path
):
    held = (sys.executable, str(ROOT / "tests" / "support" / "launch_by_fork.py"), "--hold", "4")
    work = TrainingFolder(tmp_path / "output")

    def start(launch: tuple[str, ...], told: list[int]) -> dict[str, float]:
        trainer = LaunchedTrainer(spec, load_tokens(spec), launch, save_seconds=0.0)
        return trainer.train(
            pairs,
            TRAININGS["full"],
            output=work.output,
            metrics=tmp_path / "metrics.jsonl",
            advance=told.append,
        )

    driver = os.fork()
    if driver == 0:
        try:
            start(held, [])
        finally:
            os._exit(1)
    until = time.monotonic() + 300
    while not (work.path / "checkpoint-3" / "whole.json").exists():
        assert time.monotonic() < until, work.log.read_text()
        time.sleep(0.05)
    assert len(at_work(work)) == 3, "what launches, and two that train"
    os.kill(driver, signal.SIGKILL)
    os.waitpid(driver, 0)
    work.wait_for_orphans(60)
    while at_work(work):
        assert time.monotonic() < until
        time.sleep(0.05)
    told: list[int] = []
    launch = ("accelerate", "launch", "--config_file", str(ROOT / "recipes" / "accelerate" / "cpu.yaml"))
    result = start(launch, told)
    assert told[0] >= 3, "steps from before are told at once"
    assert sum(told) == result["steps"] == 6
    assert (result["pairs"], result["dropped_too_long"]) == (5, 0)
    assert not work.path.exists()
    assert_as_alone(tmp_path, alone["full"])


def at_work(work: TrainingFolder) -> list[int]:
    """Processes whose command names the order."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if str(work.order) in (process.info["cmdline"] or []) and process.status() != psutil.STATUS_ZOMBIE
    ]


def test_share_by_hand():
    """The docstring's example: 5 pairs in steps of 4, two processes, micro-batches of 2."""
    trainer = PairTrainer.__new__(PairTrainer)
    trainer.args = SimpleNamespace(world_size=2, per_device_train_batch_size=2, gradient_accumulation_steps=1)
    trainer.train_dataset = [{}] * 5
    trainer.current_gradient_accumulation_steps = 1
    trainer.state = SimpleNamespace(global_step=0)
    assert trainer._share(2) == 1.0
    trainer.state = SimpleNamespace(global_step=1)
    assert (trainer._share(1), trainer._share(0)) == (2.0, 0.0)


def test_a_diverged_training_is_one_sentence(spec: ModelSpec, pairs: list[TrainingPair], tmp_path: Path):
    codes = together(spec, pairs, replace(FULL, learning_rate=1e30, warmup_ratio=0.0), tmp_path, count=1)
    assert codes == [2]
    said = TrainingFolder(tmp_path / "output").failure.read_text()
    assert "training diverged at step" in said
    assert "lower the learning rate" in said


def test_a_file_that_cannot_be_written_is_told_as_such(spec: ModelSpec, pairs: list[TrainingPair], tmp_path: Path):
    (tmp_path / "metrics.jsonl").mkdir()
    assert together(spec, pairs, FULL, tmp_path, count=1) == [2]
    said = json.loads(TrainingFolder(tmp_path / "output").failure.read_text())
    assert (said["errno"], said["file"]) == (errno.EISDIR, str(tmp_path / "metrics.jsonl"))


def test_an_order_comes_back_as_it_was(spec: ModelSpec, tmp_path: Path):
    work = TrainingFolder(tmp_path / "output")
    work.path.mkdir()
    lora = Lora(rank=4, alpha=8.0, target_modules=("q_proj", "v_proj"))
    order = Order(
        spec=spec, training=replace(FULL, lora=lora), output=work.output, metrics=tmp_path / "m", save_seconds=3.0
    )
    write_order(work, order)
    assert read_order(work.order) == order


SAY = """printf '{"sentence": "the sentence", "errno": %s, "file": "a-file"}'"""


@pytest.mark.parametrize(
    ("script", "error", "told"),
    [
        ("echo first; echo the last line; exit 3", ValueError, r"ended with exit code 3 after step 0.*launch\.log \("),
        ("kill -9 $$", ValueError, r"was ended by SIGKILL after step 0.*\(empty\).*run again to go on"),
        ("exit 0", ValueError, r"ended with exit code 0 after step 0"),
        (f"{SAY % 'null'} > $(dirname $2)/failure.json; exit 2", ValueError, r"^the sentence$"),
        (f"{SAY % '28'} > $(dirname $2)/failure.json; exit 2", OSError, r"No space left on device: 'a-file'"),
    ],
)  # fmt: skip
def test_what_went_wrong_is_one_sentence(
    spec: ModelSpec, pairs: list[TrainingPair], script: str, error: type[Exception], told: str, tmp_path: Path
):
    trainer = LaunchedTrainer(spec, load_tokens(spec), ("sh", "-c", script))
    with pytest.raises(error, match=told):
        trainer.train(pairs, FULL, output=tmp_path / "output", metrics=tmp_path / "metrics.jsonl")


def test_a_start_waits_for_orphans_and_believes_nothing_that_an_earlier_one_said(
    spec: ModelSpec, pairs: list[TrainingPair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    work = TrainingFolder(tmp_path / "output")
    work.path.mkdir()
    work.failure.write_text('{"sentence": "an old sentence", "errno": null, "file": null}')
    trainer = LaunchedTrainer(spec, load_tokens(spec), ("sh", "-c", "exit 3"))
    monkeypatch.setattr(TrainingFolder.wait_for_orphans, "__defaults__", (0.1,))
    with work.at_work(), pytest.raises(ValueError, match="processes of an earlier start still train into"):
        trainer.train(pairs, FULL, output=work.output, metrics=tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match="ended with exit code 3"):
        trainer.train(pairs, FULL, output=work.output, metrics=tmp_path / "metrics.jsonl")


def test_a_driver_that_is_interrupted_ends_the_command(spec: ModelSpec, pairs: list[TrainingPair], tmp_path: Path):
    def interrupt(n: int) -> None:
        raise KeyboardInterrupt

    work = TrainingFolder(tmp_path / "output")
    trainer = LaunchedTrainer(spec, load_tokens(spec), ("sh", "-c", 'echo 1 > "$(dirname $2)/steps"; sleep 600'))
    with pytest.raises(KeyboardInterrupt):
        trainer.train(pairs, FULL, output=work.output, metrics=tmp_path / "metrics.jsonl", advance=interrupt)
    assert at_work(work) == []


def test_a_command_that_is_not_there_is_refused(spec: ModelSpec, pairs: list[TrainingPair], tmp_path: Path):
    trainer = LaunchedTrainer(spec, load_tokens(spec), ("acelerate", "launch"))
    with pytest.raises(ValueError, match=r"train\.launch: the command 'acelerate' is not there: expected one that"):
        trainer.train(pairs, FULL, output=tmp_path / "output", metrics=tmp_path / "metrics.jsonl")
    assert not list(tmp_path.iterdir())
    assert Path(found_program(("torchrun",))).name == "torchrun", "beside this Python, if not on the path"
