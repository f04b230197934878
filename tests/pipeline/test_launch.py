"""A command to train with is refused before anything runs where it cannot work; the shipped configurations can."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from tests.support.recipes import config_of, make_recipe

from crossward.config import Config
from crossward.pipeline.check import check
from crossward.pipeline.launch import processes_of, require_launch

CONFIGURATIONS = sorted((Path(__file__).parents[2] / "recipes" / "accelerate").glob("*.yaml"))


def with_launch(folder: Path, launch: str, **train: Any) -> Config:
    made = make_recipe(folder)
    return config_of({**made, "train": {**made["train"], **train, "launch": shlex.split(launch)}})


@pytest.fixture
def eight(tmp_path: Path) -> Path:
    path = tmp_path / "eight.yaml"
    path.write_text("num_processes: 8\n")
    return path


@pytest.mark.parametrize(
    ("words", "n"),
    [
        ("accelerate launch --config_file {eight}", 8),
        ("accelerate launch --config_file={eight} --num_processes 4", 4),
        ("accelerate launch --config-file {eight} --num-processes=2", 2),
        ("torchrun --nproc-per-node 2", 2),
        ("torchrun --nnodes=3 --nproc_per_node=2", 6),
        ("torchrun --nnodes 1:4 --nproc-per-node 2", None),
        ("srun --nodes 2 bash node.sh", None),
    ],
)
def test_how_many_processes_a_command_starts(words: str, n: int | None, eight: Path):
    assert processes_of(shlex.split(words.format(eight=eight))) == n


def test_what_cannot_work_is_told_by_check(tmp_path: Path, eight: Path):
    told = {
        "acelerate launch": "the command 'acelerate' is not there",
        "accelerate launch --config_file none.yaml": "accelerate configuration none.yaml does not exist",
        f"accelerate launch --config_file {eight}": "train.batch_size 4 cannot be shared out over 8 processes",
    }
    for number, (words, sentence) in enumerate(told.items()):
        config = with_launch(tmp_path / str(number), words, batch_size=4, micro_batch_size=1)
        (finding,) = [finding for finding in check(config) if finding.subject == "launch"]
        assert finding.level == "error"
        assert sentence in finding.text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("num_processes: [", "is not valid YAML"),
        ("- 8", "must hold keys such as those of recipes/accelerate/ddp.yaml, got list"),
        ("[" * 5000, "values are nested more than 64 deep"),
        ("num_processes: eight", "num_processes must be a whole number, 1 or more, got 'eight'"),
    ],
)
def test_a_configuration_that_cannot_be_read(tmp_path: Path, text: str, sentence: str):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=sentence):
        processes_of(("accelerate", "launch", "--config_file", str(path)))


def test_what_will_be_started_is_told(tmp_path: Path):
    config = with_launch(tmp_path, "torchrun --nproc-per-node 2", batch_size=8, micro_batch_size=2)
    assert require_launch(config).endswith("torchrun: 2 processes, 2 micro-batches of each a step")


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.name)
def test_shipped_configurations_are_accelerates(path: Path):
    """Its own loader takes every key, its launcher knows those of FSDP and DeepSpeed, and each has a comment."""
    loaded = load_config_from_file(str(path))
    assert loaded.num_processes in (2, 8)
    known = {action.dest for action in launch_command_parser()._actions}
    tree = yaml.safe_load(path.read_text())
    for section in ("fsdp_config", "deepspeed_config"):
        assert set(tree.get(section, {})) <= known
    for line in path.read_text().splitlines():
        assert line.startswith("#") or "# " in line or line.endswith("_config:"), line
