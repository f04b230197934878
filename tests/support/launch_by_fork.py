"""A command that stands for torchrun: `python launch_by_fork.py [--hold STEP] -m MODULE ORDER` forks two processes.

One import for both. `--hold`: the first process stops for ever behind that step, as one that waits for another does.
"""

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.processes import train_together

from crossward.engines import trl_callbacks


def main() -> None:
    """Fork, wait, and end as badly as the worst of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hold", type=int, default=0)
    parser.add_argument("-m", dest="module")
    parser.add_argument("order", type=Path)
    options = parser.parse_args()
    log = trl_callbacks.Journal.on_log

    def hold(self, args, state, control, logs=None, **kwargs):
        log(self, args, state, control, logs=logs, **kwargs)
        while state.global_step == options.hold and os.environ["RANK"] == "0":
            time.sleep(1.0)

    trl_callbacks.Journal.on_log = hold
    codes = train_together(options.order)
    sys.exit(max(map(abs, codes)))


if __name__ == "__main__":
    main()
