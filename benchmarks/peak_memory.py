"""Peak memory of scoring at a vocabulary of 128,256, Crossward against the published procedure.

    python benchmarks/peak_memory.py [--dtype float32|bfloat16 …]

A Llama of 4 layers with random weights on the CPU, 3 groups of 10 responses of 60 to 700 tokens; each side in a fresh
process, whose peak resident memory is printed: interpreter, libraries and weights included. Bar: at most a third.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from random_model import SMALL, make_groups, make_model

VOCABULARY = 128_256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--side", nargs=3, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        run(*arguments.side)
        return
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder), VOCABULARY, SMALL)
        for dtype in arguments.dtype:
            ours, theirs = (measure(side, folder, dtype) for side in ("crossward", "published"))
            print(f"{dtype:9} crossward {ours:6.0f} MB  published {theirs:6.0f} MB  share {ours / theirs:.2f}")


def measure(side: str, folder: str, dtype: str) -> float:
    """Peak MB of one side in a process of its own."""
    command = [sys.executable, __file__, "--side", side, folder, dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def run(side: str, folder: str, dtype: str) -> None:
    from scoring import published

    from crossward.engines.hf_scorer import HfScorer
    from crossward.engines.models import load_model
    from crossward.engines.protocols import ModelSpec
    from crossward.engines.tokens import load_tokens

    assert dtype in ("float32", "bfloat16")
    spec = ModelSpec(path=folder, dtype="float32" if dtype == "float32" else "bfloat16", device="cpu")
    tokens, groups = load_tokens(spec), make_groups(3, VOCABULARY)
    if side == "crossward":
        HfScorer(spec, tokens).score(groups)
    else:
        published(load_model(spec), tokens, groups)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)


if __name__ == "__main__":
    main()
