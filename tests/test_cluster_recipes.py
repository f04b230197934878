"""What recipes/cluster holds for real clusters: as much of it as can be looked at without one."""

import re
import subprocess
from itertools import pairwise
from pathlib import Path

import yaml

from crossward.config import load

FOLDER = Path(__file__).parent.parent / "recipes" / "cluster"


def test_the_recipe_is_valid_commented_and_names_what_a_driver_cannot_know():
    path = FOLDER / "multi-node.yaml"
    config = load(path)
    assert config.cluster is not None
    assert config.cluster.address == "auto"
    assert config.sample.engine == "vllm", "auto would ask the machine of the command"
    for before, line in pairwise(path.read_text(encoding="utf-8").splitlines()):
        sets_a_value = re.match(r" *\w+: *[^ #]", line)
        assert not sets_a_value or "#" in line or before.lstrip().startswith("# "), line


def test_the_slurm_script_is_bash_and_gives_the_address_that_it_starts():
    path = FOLDER / "run.slurm"
    subprocess.run(["bash", "-n", path], check=True)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#!/bin/bash\n")
    assert "ray start --head --port" in text
    assert 'ray start --address="$address"' in text
    assert 'crossward run "$recipe" cluster.address="$address"' in text
    drawn = text.index("export RAY_AUTH_MODE=token RAY_AUTH_TOKEN\n")
    assert text.index("RAY_AUTH_TOKEN=$(") < drawn < text.index("srun --"), "every step gets it"
    draw = re.search(r"^RAY_AUTH_TOKEN=.*$", text, re.MULTILINE)
    assert draw is not None
    words = {subprocess.check_output(["bash", "-c", f"{draw[0]}; printf %s $RAY_AUTH_TOKEN"]) for _ in range(2)}
    assert len(words) == 2
    assert all(re.fullmatch(b"[0-9a-f]{64}", word) for word in words)
    load(FOLDER / "multi-node.yaml", ["cluster.address=10.0.0.1:6379"])


def test_the_manifest_is_a_ray_job_whose_nodes_all_see_the_volume():
    job = yaml.safe_load((FOLDER / "rayjob.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    command, verb, recipe, override = job["spec"]["entrypoint"].split()
    assert (command, verb) == ("crossward", "run")
    assert load(FOLDER.parent.parent / recipe, [override]).cluster is not None
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    pins = (FOLDER.parent.parent / "constraints.txt").read_text(encoding="utf-8")
    assert f"ray=={cluster['rayVersion']}\n" in pins
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert all(group["replicas"] == group["minReplicas"] == group["maxReplicas"] for group in groups[1:])
    for group in groups:
        pod = group["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes["work"]["persistentVolumeClaim"]["claimName"] == "crossward-work"
        (container,) = pod["containers"]
        assert container["workingDir"] in {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
        assert container["resources"]["requests"] == container["resources"]["limits"]
