"""One of the processes that train together: `python -m crossward.engines.train_worker ORDER`, started by torchrun.

It carries out the order of launched_trainer.py with TrlTrainer and says how far it is, or why it cannot go on. It ends
by itself when what started it is gone. Knows no runs.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from crossward.engines.launched_trainer import Order, read_order
from crossward.engines.training_folder import TrainingFolder

LOOK_SECONDS = 0.2  # how often the parent is looked for


def main() -> int:
    """Train; returns the exit code: 0 done, 2 the order cannot be carried out (the sentence is in its folder)."""
    _end_with_parent(os.getppid())
    order = read_order(Path(sys.argv[1]))
    work = TrainingFolder(order.output)
    with work.at_work():
        try:
            _train(order, work)
        except ValueError as error:
            _say(work, {"sentence": str(error), "errno": None, "file": None})
            return 2
        except OSError as error:
            if error.errno is None or isinstance(error, ConnectionError):
                raise
            _say(work, {"sentence": str(error), "errno": error.errno, "file": error.filename})
            return 2
    return 0


def _train(order: Order, work: TrainingFolder) -> None:
    from torch import distributed

    from crossward.engines.models import settle
    from crossward.engines.processes import processes_here
    from crossward.engines.tokens import load_tokens
    from crossward.engines.trl_trainer import TrlTrainer

    settle()
    processes = processes_here()
    trainer = TrlTrainer(order.spec, load_tokens(order.spec), save_seconds=order.save_seconds, processes=processes)
    done = 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        if processes.first:
            work.steps.write_text(str(done), encoding="ascii")

    result = trainer.train_table(
        work.pairs, order.training, output=order.output, metrics=order.metrics, advance=advance
    )
    if processes.first:
        work.result.write_text(json.dumps(result), encoding="utf-8")
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


def _say(work: TrainingFolder, failure: dict[str, Any]) -> None:
    """The first process that fails tells why; the others may fail because it did."""
    own = work.failure.with_name(f"failure-{os.getpid()}.json")
    own.write_text(json.dumps(failure), encoding="utf-8")
    try:
        os.link(own, work.failure)
    except FileExistsError:
        pass
    finally:
        own.unlink()


def _end_with_parent(parent: int) -> None:
    """A thread, as a process that waits for others in a library's code hears no handler."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
