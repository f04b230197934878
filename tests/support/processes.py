"""Processes that train together, forked from this one: what torchrun starts, without the seconds of importing anew."""

import os
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from crossward.engines import train_worker

FSDP2 = {  # what accelerate puts into the environment for recipes/accelerate/fsdp2.yaml
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    "FSDP_OFFLOAD_PARAMS": "false",
    "FSDP_ACTIVATION_CHECKPOINTING": "false",
    "FSDP_USE_ORIG_PARAMS": "true",
}


def nothing(number: int) -> None:
    """No preparation."""


def train_together(
    order: Path,
    *,
    count: int = 2,
    environment: Mapping[str, str] | None = None,
    prepare: Callable[[int], None] = nothing,
) -> list[int]:
    """Carry out a work order in `count` forked processes; returns how each ended (negative: by that signal).

    `prepare(number)` runs in each of them before. When one ends badly the others are ended, as torchrun does.
    """
    log = order.with_name("launch.log")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **(environment or {})}
    running = {}
    for number in range(count):
        child = os.fork()
        if child == 0:
            _be(number, order, log, shared, prepare)
        running[child] = number
    ended: dict[int, int] = {}
    while len(ended) < count:
        child, status = os.wait()
        ended[running[child]] = os.waitstatus_to_exitcode(status)
        if ended[running[child]] != 0:
            for other, number in running.items():
                if number not in ended:
                    os.kill(other, 9)
    return [ended[number] for number in range(count)]


def _be(number: int, order: Path, log: Path, shared: Mapping[str, str], prepare: Callable[[int], None]) -> None:
    code = 1
    try:
        with log.open("ab") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        os.environ.update(shared, RANK=str(number), LOCAL_RANK=str(number))
        sys.argv = ["train_worker", str(order)]
        prepare(number)
        code = train_worker.main()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
