"""Win rates with known truth: models × instructions × languages whose judge likes length, estimated in every way.

    python experiments/winrate_simulation.py --worlds 200 --figure docs/winrate-simulation.svg

A world has its own difficulties in every language (correlated with the English ones), its own length bias, models
whose answers are shorter, as long, or longer than the baseline's, longer where an instruction is hard, and a judge
that is sometimes unsure, draws, or fails. The truth of a model is its win rate at equal lengths over all
instructions that there might be (100,000 are drawn). Estimates: raw, `minimal`, `published` with the English
difficulties and English gamed rows row by row (what the published code does in every language), and `joint`.
Printed: root mean squared error and bias in points, and how often the intervals hold the truth. Worlds differ by
seed alone; settings were chosen on other seeds.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from crossward.core.published_winrates import GamedRow, PublishedData, published_fit
from crossward.core.verdicts import Verdict
from crossward.core.winrates import win_rates

LANGUAGES = ("en", "es", "sw")
SCALE = {"en": 1000.0, "es": 1150.0, "sw": 900.0}  # characters that make tanh(1): what the judge notices
UNSURE = 0.05  # a judge's mean distance from 0 or 1
ESTIMATES = ("raw", "minimal", "published by row", "joint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Strength by language, how it takes difficulty, and its answers' log length over the baseline's."""

    strength: dict[str, float]
    loading: float
    slope: dict[str, float]
    length: float


def world(seed: int, n: int, n_models: int) -> tuple[list[Verdict], dict[tuple[str, str], float], PublishedData]:
    """Verdicts, the truth in percent by (language, model), and the English files of the published form."""
    random = np.random.default_rng(seed)
    english = random.normal(0, 1, n)
    spread = {code: random.uniform(0.6, 1.4) for code in LANGUAGES}
    bias = {code: random.normal(-1.5, 0.4) for code in LANGUAGES}
    alike = {"en": 1.0, "es": 0.6, "sw": 0.3}  # correlation of difficulties with the English ones
    models = {
        f"m{index}": Model(
            strength={code: random.normal(-1.2, 0.9) for code in LANGUAGES},
            loading=random.uniform(0.7, 1.2),
            slope={code: bias[code] + random.normal(0, 0.25) for code in LANGUAGES},
            length=random.normal(-0.15, 0.45),
        )
        for index in range(n_models)
    }
    verdicts, truth = [], {}
    for code in LANGUAGES:
        own = alike[code] * english + np.sqrt(1 - alike[code] ** 2) * random.normal(0, 1, n)
        baseline = SCALE[code] * np.exp(random.normal(0.5, 0.6, n) - 0.2 * own)
        for name, model in models.items():
            preference, lengths = judged(model, code, spread[code] * own, baseline, random)
            verdicts += [
                Verdict(
                    id=str(i), language=code, model=name, baseline="base", preference=value,
                    model_length=round(length), baseline_length=round(base),
                )
                for i, (value, length, base) in enumerate(zip(preference, lengths, baseline, strict=True))
            ]  # fmt: skip
            far = spread[code] * random.normal(0, 1, 100_000)
            equal = _logistic(model.strength[code] + model.loading * far).mean()
            truth[code, name] = 100 * (equal * (1 - 2 * UNSURE) + UNSURE)
    return verdicts, truth, published_files(english, spread["en"], bias["en"], random)


def judged(model: Model, code: str, difficulty: np.ndarray, baseline: np.ndarray, random: np.random.Generator):
    """Preferences (None: null) and lengths of a model's answers in one language."""
    n = len(difficulty)
    lengths = baseline * np.exp(random.normal(model.length, 0.4, n) - 0.15 * difficulty)
    x = np.tanh((baseline - lengths) / SCALE[code])
    p = _logistic(model.strength[code] + model.loading * difficulty + model.slope[code] * x)
    won = (random.random(n) < p).astype(float)
    unsure = random.beta(0.5, 0.5 / UNSURE - 0.5, n)
    preference = won * (1 - unsure) + (1 - won) * unsure
    null = random.random(n) < 0.02
    return [None if gone else float(value) for value, gone in zip(preference, null, strict=True)], lengths


def published_files(difficulty: np.ndarray, spread: float, bias: float, random: np.random.Generator) -> PublishedData:
    """English difficulties as many models would have shown them, and the baseline told to be long or brief."""
    g = spread * difficulty
    rows = []
    for shift in (-1.3, 1.0):
        x = shift + random.normal(0, 0.6, len(g))
        won = random.random(len(g)) < _logistic(g + bias * np.tanh(x))
        rows += [
            GamedRow(preference=float(a), length_difference=float(b), difficulty=float(c))
            for a, b, c in zip(won, x, g, strict=True)
        ]
    seen = g + random.normal(0, 0.2, len(g))
    return PublishedData(difficulty={str(i): float(value) for i, value in enumerate(seen)}, gamed=rows)


def _logistic(x):
    return 1 / (1 + np.exp(-x))


Result = tuple[str, str, float, bool | None]  # estimate, language, error in points, whether its interval held


def results(seed: int, *, n: int, n_models: int, resamples: int) -> list[Result]:
    """One world, every estimate."""
    verdicts, truth, files = world(seed, n, n_models)
    found: list[Result] = []
    joint = win_rates(verdicts, resamples=resamples, seed=seed, differences=False)
    for rate in joint.rates:
        aim = truth[rate.language, rate.model]
        assert rate.win_rate_se is not None
        assert rate.lc_win_rate is not None
        assert rate.lc_interval is not None
        found.append(("raw", rate.language, rate.win_rate - aim, abs(rate.win_rate - aim) < 1.96 * rate.win_rate_se))
        low, high = rate.lc_interval
        found.append(("joint", rate.language, rate.lc_win_rate - aim, low <= aim <= high))
    groups = defaultdict(list)
    for verdict in verdicts:
        groups[verdict.language, verdict.model].append(verdict)
    for (code, name), rows in groups.items():
        aim = truth[code, name]
        plain = published_fit(rows, None)
        found.append(("minimal", code, 100 * plain.lc_win_rate - aim, None))
        fit = published_fit(rows, files)
        _, c, psi = fit.coefficients
        each = _logistic(c * np.array(list(files.difficulty.values())) + psi)
        error = 1.96 * 100 * each.std(ddof=1) / np.sqrt(len(each))  # the published standard error
        found.append(("published by row", code, 100 * fit.lc_win_rate - aim, abs(100 * fit.lc_win_rate - aim) < error))
    return found


def table(found: list[Result]) -> Iterator[list[str]]:
    """A row per estimate and language."""
    groups = defaultdict(list)
    for estimate, code, error, held in found:
        for language in (code, "all"):
            groups[estimate, language].append((error, held))
    for estimate in ESTIMATES:
        for language in (*LANGUAGES, "all"):
            errors = np.array([error for error, _ in groups[estimate, language]])
            held = [held for _, held in groups[estimate, language] if held is not None]
            cover = f"{100 * np.mean(held):.1f}" if held else "-"
            yield [estimate, language, f"{np.sqrt((errors**2).mean()):.2f}", f"{errors.mean():+.2f}", cover]


def draw(found: list[Result], path: Path) -> None:
    """Distribution of errors by estimate, as an SVG of bars from the 5th to the 95th percentile."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="720" height="220" font-family="sans-serif" font-size="13">'
    ]
    for row, estimate in enumerate(ESTIMATES):
        errors = np.array([error for name, _, error, _ in found if name == estimate])
        low, first, middle, third, high = (400 + 12 * np.quantile(errors, q) for q in (0.05, 0.25, 0.5, 0.75, 0.95))
        y = 40 + 40 * row
        parts.append(f'<text x="8" y="{y + 4}">{estimate}</text>')
        parts.append(f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="#456" stroke-width="2"/>')
        parts.append(f'<rect x="{first:.1f}" y="{y - 9}" width="{third - first:.1f}" height="18" fill="#8ac"/>')
        parts.append(f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="{y - 9}" y2="{y + 9}" stroke="#123"/>')
    parts.append('<line x1="400" x2="400" y1="16" y2="190" stroke="#c33" stroke-dasharray="4 3"/>')
    for points in (-20, -10, 10, 20):
        parts.append(f'<text x="{400 + 12 * points - 10}" y="208">{points:+d}</text>')
    parts.append('<text x="340" y="208">error 0, points</text></svg>')
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--instructions", type=int, default=400)
    parser.add_argument("--models", type=int, default=6)
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    one = partial(results, n=arguments.instructions, n_models=arguments.models, resamples=arguments.resamples)
    with ProcessPoolExecutor(2) as pool:
        seeds = range(arguments.first_seed, arguments.first_seed + arguments.worlds)
        found = [result for each in pool.map(one, seeds) for result in each]
    print(f"{arguments.worlds} worlds from seed {arguments.first_seed}, {arguments.instructions} instructions, "
          f"{arguments.models} models, {arguments.resamples} resamples")  # fmt: skip
    print("| estimate | language | RMSE | bias | 95 % interval holds the truth, % |\n|---|---|---:|---:|---:|")
    for row in table(found):
        print(f"| {' | '.join(row)} |")
    if arguments.figure:
        draw(found, arguments.figure)


if __name__ == "__main__":
    main()
