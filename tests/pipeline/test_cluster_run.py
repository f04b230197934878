"""A whole tiny run in a Ray cluster: the same digest of every stage as in one process."""

from pathlib import Path

import pytest
from tests.support.ray_steps import ray_session
from tests.support.recipes import config_of, make_recipe

from crossward.engines.ray_workers import RayWorkers
from crossward.pipeline.assemble import Engines
from crossward.pipeline.iterate import run
from crossward.pipeline.progress import Silent
from crossward.store import manifest
from crossward.store.run_dir import RunDir

pytest.importorskip("ray")


def digests(directory: RunDir) -> dict[str, str]:
    """Of every stage that is done; training is the driver's in both, and writes its time beside its weights."""
    found = {}
    for path in sorted(directory.root.rglob("stage.json")):
        name = str(path.parent.relative_to(directory.root))
        made = manifest.read(directory.stage_named(name))
        assert made is not None
        found[name] = made.digest
    return found


def test_every_model_takes_what_the_recipe_gives_a_replica(tmp_path: Path):
    """The float32 models of the noise floor too; no GPU where the device is a CPU."""
    replicas = {"score_policy": 3, "translate": 2}
    cluster = {"replicas": replicas, "resources": {"cpus": 4, "memory_gib": 8, "custom": {"disk": 1}}}
    workers = Engines(config_of(make_recipe(tmp_path) | {"cluster": cluster})).workers()
    assert isinstance(workers, RayWorkers)
    pools = {name: asked.pool(name, on_gpus=True) for name, asked in workers._replicas.items()}
    assert {name: pool.replicas for name, pool in pools.items()} == {
        "sampler": None, "policy": 3, "reference": None, "translator": 2, "scorer": None,
    }  # fmt: skip
    assert all(pool.needs == {"CPU": 4, "GPU": 0, "memory": 8 * 2**30, "disk": 1} for pool in pools.values())


def test_a_run_in_a_cluster_has_the_same_digests(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    recipe = make_recipe(tmp_path, iterations=1, score={"noise_sample": 0})
    recipe |= {"evaluate": {}, "runtime": recipe["runtime"] | {"threads": 1}}
    spread = recipe | {
        "run": str(tmp_path / "spread"),
        "cluster": {"replicas": 1, "resources": {"cpus": 0.1}},
    }
    here = digests(run(config_of(recipe), progress=Silent()))
    capfd.readouterr()
    with ray_session():
        there = digests(run(config_of(spread), progress=Silent()))
    assert set(here) == {f"iteration-1/{stage}" for stage in ("sample", "score", "pair", "train")}
    assert there == here
    assert capfd.readouterr() == ("", "")
