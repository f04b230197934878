"""The simulator's clock: no work is lost or done twice, no replica does two things at once; a run goes through it."""

import argparse
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))

import simulation  # noqa: E402
from sleeping_engines import Costs, Faults, schedule  # noqa: E402

COSTS = Costs(prompt_s=2.0, open_s=10.0)


def test_one_replica_does_one_piece_after_another():
    done, pool = schedule([(0.0, 0, 3.0), (0.0, 1, 5.0)], "sampler", COSTS, 1, Faults())
    assert [(each.piece, each.began, each.ended) for each in done] == [(0, 10.0, 16.0), (1, 16.0, 26.0)]
    assert (pool.busy, pool.ended, pool.first_idle) == (16.0, 26.0, 26.0)


def test_replicas_are_never_more_than_there_are_and_every_piece_is_done_once():
    ready = [(float(k % 7), k, 1.0 + k % 5) for k in range(300)]
    faults = Faults(seed=4, dies=0.1, slow=0.05)
    done, pool = schedule(ready, "policy", COSTS, 8, faults)
    assert sorted(each.piece for each in done) == list(range(300))
    at_work = sorted(
        [(each.began, 1) for each in done] + [(each.ended, -1) for each in done], key=lambda e: (e[0], e[1])
    )
    level = 0
    for _, change in at_work:
        level += change
        assert level <= 8
    assert pool.deaths == sum(faults.of(k, "policy", 0)[0] is not None for k in range(300)) > 10
    assert pool.slow == sum(faults.of(k, "policy", 0)[1] > 1 for k in range(300)) > 5
    assert pool.busy == pytest.approx(sum(2.0 * n * faults.of(k, "policy", 0)[1] for _, k, n in ready))
    assert pool.busy + pool.lost <= 8 * pool.ended


def test_a_small_run_goes_through_the_real_pipeline_and_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    languages = ["af", "am", "en"]
    asked = argparse.Namespace(
        languages=languages, n=2, response_tokens=6, shard_size=4, parameters=8e9, hardware="h100-80gb", replicas=4,
        dies=0.2, slow=0.2, seed=1, kill_at=None,
    )  # fmt: skip
    simulation.write_prompt_files(tmp_path / "prompts", languages, 10)
    found = simulation.run_one(tmp_path, asked)
    assert found["prompts"] == 30
    sample, score = (found["parts"][name]["streams"][0] for name in ("sample", "score"))
    assert (sample["pieces"], score["pieces"]) == (9, 9)
    assert sample["wall_s"] > sample["ideal_s"] > 0
    assert sorted(path.name for path in (tmp_path / "run").glob("iteration-1/pair/*.parquet")) == [
        "af.parquet", "am.parquet", "en.parquet",
    ]  # fmt: skip
    simulation.tell(found, 4)
    assert "one driver feeds" in capsys.readouterr().out
