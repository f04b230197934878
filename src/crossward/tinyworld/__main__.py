"""python -m crossward.tinyworld [RECIPE] [section.key=value ...]: the demo, which `make demo` runs."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import get_args

from crossward import console
from crossward.tinyworld.mixing import Mode
from crossward.tinyworld.presets import PresetName


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m crossward.tinyworld", description=__doc__)
    parser.add_argument("recipe", type=Path, nargs="?", default=Path("recipes/demo.yaml"))
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="changes of the recipe")
    parser.add_argument("--preset", choices=get_args(PresetName), default="demo", help="fast: seconds, for tests")
    parser.add_argument("--mode", choices=get_args(Mode), default="plain", help="hard: answers mix languages")
    given = parser.parse_intermixed_args(arguments)

    def work() -> None:
        from crossward.tinyworld.demo import demo

        demo(given.recipe, given.overrides, preset=given.preset, mode=given.mode)

    again = shlex.join(["python", "-m", "crossward.tinyworld", *(arguments or sys.argv[1:])])
    return console.guarded(work, again=again, resumes=True)


if __name__ == "__main__":
    raise SystemExit(main())
