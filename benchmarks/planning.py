"""The plan's estimate beside what a finished run measured: seconds of every stage, their ratio, and the total.

    python benchmarks/planning.py RECIPE [section.key=value ...] [--run FOLDER] [--hardware laptop] [--probe]
        [--response-tokens 9.5] [--measured sample=288,298 --measured score=228,168 ...]

The run's folder is read from the recipe, or named; its stages' seconds are in their stage.json. `--measured` gives
seconds by hand for a run that is not at hand. `--probe` calibrates the plan on this machine first, as `crossward check
--probe` does: do it on the machine, and under the load, that the run had. Bar: within a factor of 1.5.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from crossward.config import load
from crossward.console import Terminal
from crossward.core.planning import Plan
from crossward.pipeline.check_plan import Asked, check_and_plan
from crossward.pipeline.plan_inputs import Given

BAR = 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--run", type=Path, default=None, help="a finished run; default: the recipe's own")
    parser.add_argument("--hardware", default="laptop")
    parser.add_argument("--hardware-file", type=Path, default=None)
    parser.add_argument("--probe", action="store_true")
    parser.add_argument("--response-tokens", type=float, default=None)
    parser.add_argument("--measured", action="append", default=[], help="stage=seconds,seconds, one an iteration")
    arguments = parser.parse_args()
    config = load(arguments.recipe, arguments.overrides)
    asked = Asked(
        hardware=(arguments.hardware,),
        hardware_file=arguments.hardware_file,
        probe=arguments.probe,
        given=Given(response_tokens=arguments.response_tokens),
    )
    load_before = os.getloadavg()[0]
    checked = check_and_plan(config, asked, Terminal())
    if not checked.plans:
        raise SystemExit(checked.problem)
    measured = by_hand(arguments.measured) or of_run(arguments.run or Path(config.run))
    for line in checked.probed.lines() if checked.probed is not None else ():
        print(f"probe: {line}")
    print(f"load {load_before:.1f} at the start, {os.getloadavg()[0]:.1f} at the end")
    for each in checked.plans:
        show(each.plan, measured)


def of_run(run: Path) -> dict[str, list[float]]:
    """Seconds by kind of stage, one for each time that the run did it."""
    found: dict[str, list[float]] = {}
    for path in sorted(run.glob("*/*/stage.json")):
        name = path.parent.name.partition("-")[0]
        found.setdefault(name, []).append(json.loads(path.read_text(encoding="utf-8"))["seconds"])
    if not found:
        raise SystemExit(f"{run} holds no finished stage: name a run's folder with --run")
    return found


def by_hand(given: Sequence[str]) -> dict[str, list[float]]:
    return {
        name: [float(seconds) for seconds in values.split(",")]
        for name, _, values in (line.partition("=") for line in given)
    }


def show(plan: Plan, measured: dict[str, list[float]]) -> None:
    """A row a stage, all its times together."""
    print(f"\n{plan.hardware.name}: {'stage':10} {'times':>5} {'estimate s':>11} {'measured s':>11} {'ratio':>6}")
    total = [0.0, 0.0]
    for stage in plan.stages:
        seconds = measured.get(stage.name)
        if seconds is None:
            continue
        estimate = stage.wall_seconds * len(seconds)
        total = [total[0] + estimate, total[1] + sum(seconds)]
        row(stage.name, len(seconds), estimate, sum(seconds))
    row("all", 1, *total)


def row(name: str, times: int, estimate: float, measured: float) -> None:
    ratio = estimate / measured
    verdict = "" if 1 / BAR <= ratio <= BAR else f"  misses {BAR}"
    print(f"    {name:14} {times:5} {estimate:11.1f} {measured:11.1f} {ratio:6.2f}{verdict}")


if __name__ == "__main__":
    main()
