"""The command that a recipe trains with (`train.launch`): whether it is there, and whether a step can be shared out.

Reads the command's words and the configuration that they name; starts nothing.
"""

from collections.abc import Sequence
from pathlib import Path

from crossward.config import Config
from crossward.engines.launched_trainer import found_program
from crossward.yaml_keys import read_yaml


def require_launch(config: Config) -> str:
    """What will be started, in words. Raises ValueError where it is not there or its processes cannot share a step."""
    launch, train = config.train.launch, config.train
    if launch is None:
        return "in this process"
    program = found_program(launch)
    n = processes_of(launch)
    if n is None:
        return f"{program}; how many processes it starts is not known here"
    at_once = train.micro_batch_size * n
    if train.batch_size % at_once:
        raise ValueError(
            f"train.batch_size {train.batch_size} cannot be shared out over {n} processes (train.launch) in "
            f"micro-batches of {train.micro_batch_size}: expected a multiple of {at_once}"
        )
    return f"{program}: {n} processes, {train.batch_size // at_once} micro-batches of each a step"


def processes_of(launch: Sequence[str]) -> int | None:
    """How many processes a command starts in all, as far as its words and its configuration say; ValueError for a
    configuration that is not there or cannot be read.
    """
    configured = _configured(file) if (file := _value(launch, "config_file")) is not None else None
    if (told := _number(_value(launch, "num_processes"))) is not None:  # accelerate: over all machines
        return told
    if (each := _number(_value(launch, "nproc_per_node"))) is not None:  # torchrun: on each
        machines = _value(launch, "nnodes")
        return each if machines is None else None if (n := _number(machines)) is None else each * n
    return configured


def _configured(name: str) -> int | None:
    n = read_yaml(Path(name), "accelerate configuration", example="recipes/accelerate/ddp.yaml").get("num_processes")
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
        raise ValueError(f"{name}: num_processes must be a whole number, 1 or more, got {n!r}")
    return n


def _value(launch: Sequence[str], name: str) -> str | None:
    """What stands behind an option, as `--name value` or `--name=value`; both commands take - for _ in names."""
    for place, word in enumerate(launch):
        option, equals, value = word.partition("=")
        if option.startswith("--") and option[2:].replace("-", "_") == name:
            return value if equals else launch[place + 1] if place + 1 < len(launch) else None
    return None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and int(text) > 0 else None
