"""What the proofs in this folder share: an environment of a tool's own, and Crossward's command line in this one.

    python experiments/exports/<tool>.py [--environment FOLDER] [--run RUN]

Each script makes a virtual environment (in a temporary folder, or in FOLDER, which is then kept for the next time),
installs the tool there, exports with `crossward export`, and lets the tool itself read what was written. It prints what
it checked and ends with a nonzero code where something differs. RUN is a finished run, such as runs/demo/run of
`make demo`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def arguments(description: str, *, run: bool = True) -> argparse.Namespace:
    """The options of a proof."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, help="a folder for the environment, kept; default: a temporary one")
    if run:
        parser.add_argument("--run", type=Path, default=ROOT / "runs" / "demo" / "run", help="a finished run")
    return parser.parse_args()


@contextmanager
def environment(folder: Path | None, *installs: Sequence[str]) -> Iterator[Path]:
    """The interpreter of a virtual environment in which each of `installs` went through `pip install`."""
    with tempfile.TemporaryDirectory(prefix="crossward-proof-") as temporary:
        home = (folder or Path(temporary) / "environment").resolve()
        python = home / "bin" / "python"
        done = home / "installed.txt"
        wanted = "\n".join(" ".join(install) for install in installs)
        if not done.exists() or done.read_text(encoding="utf-8") != wanted:
            venv.create(home, with_pip=True, clear=False)
            for install in installs:
                subprocess.run([python, "-m", "pip", "install", "--quiet", *install], check=True)
            done.write_text(wanted, encoding="utf-8")
        yield python


def crossward(*words: object) -> str:
    """What `crossward …` prints; its errors go to the terminal."""
    command = [sys.executable, "-m", "crossward", *map(str, words)]
    search = {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | search)
    return done.stdout


def inside(python: Path, program: str, *words: object, **variables: str) -> str:
    """What a program prints in the tool's environment, offline, and with nothing of this one on its path."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryDirectory() as home:  # no cache of an earlier export
        done = subprocess.run(
            [python, "-c", program, *map(str, words)],
            stdout=subprocess.PIPE, text=True, env=clean | offline | {"HF_HOME": home} | variables,
        )  # fmt: skip
    if done.returncode:
        sys.exit(f"{done.stdout}\nfailed with {done.returncode}")
    return done.stdout
