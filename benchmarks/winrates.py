"""Time of the joint length-controlled win rate with its bootstrap: 805 instructions × 13 languages × 5 models.

    python benchmarks/winrates.py --resamples 1000

Prints seconds of wall and of processor, and how the intervals of two runs with other seeds differ: refits are exact
to a thousandth of a logit, so what differs is the draw.
"""

import argparse
import time

import numpy as np

from crossward.core.verdicts import Verdict
from crossward.core.winrates import WinRates, win_rates


def verdicts_of(n_languages: int, n_models: int, n: int) -> list[Verdict]:
    """Verdicts with shared difficulties and a judge that likes length."""
    random = np.random.default_rng(7)
    made = []
    for language in range(n_languages):
        difficulty = random.normal(0, 1, n)
        baseline = 1500 * np.exp(random.normal(0, 0.5, n))
        for model in range(n_models):
            lengths = baseline * np.exp(random.normal(0.2 * (model - 2), 0.4, n))
            eta = -1.5 + 0.4 * model + difficulty - 1.5 * np.tanh((baseline - lengths) / 1000)
            won = random.random(n) < 1 / (1 + np.exp(-eta))
            made += [
                Verdict(
                    id=str(i), language=f"l{language}", model=f"m{model}", baseline="base",
                    preference=float(won[i]), model_length=int(lengths[i]), baseline_length=int(baseline[i]),
                )
                for i in range(n)
            ]  # fmt: skip
    return made


def timed(verdicts: list[Verdict], resamples: int, seed: int) -> tuple[WinRates, float, float]:
    """The rates, seconds of wall, seconds of processor."""
    wall, processor = time.perf_counter(), time.process_time()
    found = win_rates(verdicts, resamples=resamples, seed=seed)
    return found, time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--languages", type=int, default=13)
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--instructions", type=int, default=805)
    parser.add_argument("--resamples", type=int, default=1000)
    arguments = parser.parse_args()
    verdicts = verdicts_of(arguments.languages, arguments.models, arguments.instructions)
    print(f"{len(verdicts)} verdicts, {arguments.resamples} resamples")
    runs = []
    for seed in (0, 1):
        found, wall, processor = timed(verdicts, arguments.resamples, seed)
        print(f"seed {seed}: {wall:.1f} s of wall, {processor:.1f} s of processor")
        runs.append(found)
    widths = [rate.lc_interval[1] - rate.lc_interval[0] for rate in runs[0].rates if rate.lc_interval]
    apart = [
        abs(one.lc_interval[end] - other.lc_interval[end])
        for one, other in zip(runs[0].rates, runs[1].rates, strict=True)
        for end in (0, 1)
        if one.lc_interval and other.lc_interval
    ]
    print(f"intervals: mean width {np.mean(widths):.2f} points, ends differ by {np.mean(apart):.2f} between seeds")


if __name__ == "__main__":
    main()
