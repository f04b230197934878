"""The whole pipeline while things go wrong: the next run ends in the bytes of an undisturbed one, and is told why.

What is compared is in tests/support/faults.py; benchmarks/faults.py does the same at length.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from tests.support import sabotage
from tests.support.damage import DAMAGES, outcome
from tests.support.faults import Bench, bench, call, contents, differences

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="children are forked and watched by /proc")
AFTER_PAIRS = ("iteration-2/train", "iteration-2/evaluate", "iteration-2/judge")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("faults")) as found:
        yield found


def unlike(made: Bench) -> list[str]:
    return differences(contents(made.undisturbed), contents(made.run))


def without(made: Bench, *folders: str) -> None:
    """The undisturbed run before it had made these."""
    made.restore()
    for folder in folders:
        shutil.rmtree(made.run / folder)
    (made.run / "evaluation.json").unlink()


def test_the_undisturbed_run_holds_every_prompt_once(made: Bench):
    ids = {"p0", "p1"}
    for stage in ("reference/evaluate", "iteration-1/sample", "iteration-2/score", "iteration-2/pair"):
        rows = call("show", made.undisturbed, "--stage", stage, "--json")
        assert rows.code == 0, rows.said
    for verdicts in made.undisturbed.glob("iteration-*/judge/verdicts/*.jsonl"):
        found = re.findall(r'"id": "(\w+)"', verdicts.read_text())
        assert sorted(found) == sorted(ids)


def test_kills_right_behind_boundaries_all_over_the_run_change_nothing(made: Bench):
    made.forget()
    kills = 0
    for number in (5, 17, 33, 58, 66, 79, 83, 96, 102, 111, 120):
        ended = made.go(partial(sabotage.kill_at, made.run, number))
        kills += ended.code == -signal.SIGKILL
    assert kills >= 10
    assert made.go().code == 0
    assert unlike(made) == []


def test_a_training_is_killed_at_every_place_and_goes_on_from_its_last_whole_state(made: Bench):
    without(made, *AFTER_PAIRS)
    places = ("metrics.jsonl", "checkpoint.work/checkpoint-", "whole.json", ".checkpoint.tmp")
    told = ""
    for place in places:
        ended = made.go(partial(sabotage.kill_in_training, made.run, place))
        assert ended.code == -signal.SIGKILL, (place, ended.said)
        told = ended.said
    assert re.search(r"a state of the training at step \d is not finished: .*whole\.json", told)
    (moments,) = made.run.glob("iteration-2/train/checkpoint.work/checkpoint-*/optimizer.pt")
    DAMAGES["a bit flipped in the middle"](moments)
    ended = made.go(partial(sabotage.kill_in_training, made.run, "stage.json"))
    assert ended.code == -signal.SIGKILL, ended.said
    assert f"is damaged: {moments} holds other bytes than were written" in ended.said
    assert made.go().code == 0
    assert unlike(made) == []


def test_who_interrupts_is_told_and_the_next_run_goes_on(made: Bench):
    made.forget()
    twice = (signal.SIGINT, signal.SIGINT)
    for number, signals in ((30, (signal.SIGINT,)), (60, twice), (75, (signal.SIGTERM,)), (90, twice)):
        ended = made.go(partial(sabotage.signal_at, made.run, number, *signals))
        assert ended.code == 2, ended.said
        assert re.search("stopped: what was finished is kept; run the same command again to continue: ", ended.sentence)
        assert "Traceback" not in ended.said
    assert made.go().code == 0
    assert unlike(made) == []


def test_a_disk_that_refuses_is_told_with_the_path(made: Bench):
    made.forget()
    for number in (6, 27, 34, 62, 71, 90):
        ended = made.go(partial(sabotage.fail_at, made.run, number))
        assert ended.code == 2, ended.said
        assert f"no space left on the disk of {made.run}" in ended.sentence
        assert "Traceback" not in ended.said
    assert made.go().code == 0
    assert unlike(made) == []


@contextmanager
def small_disk(at: Path, size: str) -> Iterator[Path]:
    """A disk of so many bytes, where this process may have one."""
    at.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(at)], capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"no disk of a few bytes can be had here: {done.stderr.decode().strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


def again(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def test_a_full_disk_and_one_that_may_not_be_written_to(made: Bench, tmp_path: Path):
    with small_disk(tmp_path / "disk", "400k") as disk:
        elsewhere = (f"run={disk}/run",)
        shutil.copytree(made.undisturbed, disk / "run", ignore=shutil.ignore_patterns("iteration-*", "reference"))
        for size in ("400k", "700k"):
            again(disk, f"size={size}")
            ended = made.go(overrides=elsewhere)
            assert ended.code == 2, ended.said
            assert f"no space left on the disk of {disk}" in ended.sentence
            assert "Traceback" not in ended.said
        again(disk, "ro")
        ended = made.go(overrides=elsewhere)
        assert (ended.code, "Traceback" in ended.said) == (2, False)
        assert re.search(rf"{disk}/run/\S+: Read-only file system", ended.sentence)
        again(disk, "rw,size=32m")
        assert made.go(overrides=elsewhere).code == 0
        assert differences(contents(made.undisturbed), contents(disk / "run")) == []


@pytest.mark.parametrize(
    ("file", "damage", "healed"),
    [
        ("config.yaml", "a bit flipped near the head", False),
        ("provenance.json", "a bit flipped in the middle", True),
        ("evaluation.json", "a bit flipped in the middle", True),
        ("iteration-1/sample/stage.json", "a bit flipped in the middle", False),
        ("iteration-2/pair/inputs.json", "a bit flipped in the middle", True),
        ("iteration-2/sample/es/part-00001.parquet", "a bit flipped near the end", False),
        ("iteration-2/translate/es/part-00001.parquet", "removed", True),
        ("iteration-2/score/tokens/es.jsonl", "cut in half", False),
        ("iteration-2/pair/en.parquet", "a folder in its place", False),
        ("iteration-2/train/checkpoint/model.safetensors", "a bit flipped in the middle", False),
        ("iteration-2/train/stage.json", "removed", True),
        ("iteration-2/judge/verdicts/es.jsonl", "emptied", False),
    ],
)
def test_a_damaged_file_is_healed_or_refused_and_told(made: Bench, file: str, damage: str, healed: bool):
    made.restore()
    DAMAGES[damage](made.run / file)
    found = outcome(made, made.run / file)
    assert found.wrong == ()
    assert found.told
    assert found.healed is healed, found.sentence


@pytest.mark.parametrize("damage", ["a bit flipped at the end", "cut in half"])
def test_a_damaged_shard_of_an_unfinished_stage_is_not_gone_on_from(made: Bench, damage: str):
    without(made, *AFTER_PAIRS, "iteration-2/pair")
    (made.run / "iteration-2/score/stage.json").unlink()
    shard = made.run / "iteration-2/score/en/part-00000.parquet"
    DAMAGES[damage](shard)
    found = outcome(made, shard)
    assert (found.healed, found.told, found.wrong) == (False, True, ())


@pytest.mark.parametrize("mood", ["judge: 500", "judge: rubbish", "judge: cut", "judge: reset", "judge: other"])
def test_what_a_sick_judge_did_not_say_is_asked_again(made: Bench, mood: str):
    without(made, "iteration-2/judge")
    journal = made.run / "judgements.jsonl"
    kept = [line for line in journal.read_text().splitlines() if "π_2" not in line]
    journal.write_text("".join(f"{line}\n" for line in kept))
    made.mood.write_text(mood)
    try:
        ended = made.go()
    finally:
        made.mood.write_text("healthy")
    assert "Traceback" not in ended.said
    if ended.code == 0:
        assert "without a verdict" in ended.said
        assert '"null_reason"' in (made.run / "iteration-2/judge/verdicts/es.jsonl").read_text()
    else:
        assert (ended.code, "stopped" in ended.sentence or "no answer" in ended.sentence) == (2, True), ended.said
    assert made.go().code == 0
    assert unlike(made) == []


def test_two_drivers_and_a_clock_that_jumps(made: Bench, tmp_path: Path):
    made.forget()
    first = made.start(partial(sabotage.jumping_clock, 1))
    while not (made.run / "config.yaml").exists():
        assert first.wait(0.02) is None
    link = tmp_path / "link"
    link.symlink_to(made.run)
    for second in (made.start(), made.start(overrides=(f"run={link}",))):
        ended = second.wait()
        assert ended is not None
        assert ended.code == 2
        assert f"is in use by process {first.process.pid}: wait until it ends, or use another" in ended.sentence
    ended = first.wait()
    assert ended is not None
    assert ended.code == 0, ended.said
    assert unlike(made) == []
    for path in made.run.rglob("*"):
        os.utime(path, (4e9, 4e9))  # the year 2096
    ended = made.go()
    assert (ended.code, re.findall(r"(\S+): done in", ended.said)) == (0, [])
    assert unlike(made) == []
