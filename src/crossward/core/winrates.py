"""Win rates and length-controlled win rates of models against a baseline, per language and over languages.

A win rate is the mean preference over the instructions judged. Its length-controlled form answers: at equal lengths?
Variants: `joint` (core/joint_fit.py, the default), `published` and `minimal` (core/published_winrates.py), `none`.
Intervals come from resampling instructions, one draw for all models and languages at once, and fitting again, so that
differences are paired and an average over languages knows that they share instructions (core/comparisons.py).
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, get_args

from crossward.core.comparisons import Average, Difference, averages
from crossward.core.comparisons import differences as paired_differences
from crossward.core.joint_fit import joint_rates
from crossward.core.judged import Array, Judged, Key, draw_instructions, grouped, percent_interval
from crossward.core.published_winrates import PublishedData, published_fit
from crossward.core.verdicts import Verdict

Variant = Literal["joint", "published", "minimal", "none"]
FEWEST = 30  # verdicts of a model in a language for a length-controlled win rate
RESAMPLES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """One model in one language. Percent; `win_rate_se` is the standard error over instructions (None of one).

    `n_null` instructions have no usable verdict: they are in no win rate. `lc_interval` is 95 %.
    """

    language: str
    model: str
    baseline: str
    n_judged: int
    n_null: int
    win_rate: float
    win_rate_se: float | None
    lc_win_rate: float | None
    lc_variant: Variant
    lc_interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WinRates:
    """All that a set of verdicts says."""

    rates: tuple[Rate, ...]
    averages: tuple[Average, ...]
    differences: tuple[Difference, ...]


def win_rate(preferences: Sequence[float]) -> tuple[float, float | None]:
    """Mean of preferences in percent and its standard error, s/√n with n − 1 in s; None of one preference.

    >>> win_rate([1.0, 0.5, 0.0, 0.5])  # s² = 1/6, s/√4 = 0.204
    (50.0, 20.412414523193153)
    """
    import numpy as np

    values = np.asarray(preferences, dtype=float)
    error = 100 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else None
    return 100 * float(values.mean()), error


def win_rates(
    verdicts: Sequence[Verdict],
    *,
    variant: Variant = "joint",
    published: PublishedData | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    differences: bool = True,
    few: Literal["refuse", "raw"] = "refuse",
    advance: Callable[[int], None] = lambda n: None,
) -> WinRates:
    """Every rate, average and difference. `advance` counts fits of a language (joint) or of a model in one (others).

    With `few` "raw" a model with too few usable verdicts in a language has its raw rate alone there, and one with none
    is left out, instead of an error. Raises ValueError for verdicts that carry no rate: none usable, fewer than 30 for
    a length-controlled one, a model against itself, an instruction twice, none of its difficulty (published).
    """
    if variant not in get_args(Variant):
        raise ValueError(f"variant must be one of {', '.join(get_args(Variant))}, got {variant!r}")
    if (variant == "published") != (published is not None):
        raise ValueError("the variant published needs instruction difficulties and gamed rows, and no other takes them")
    judged, n_ids = grouped(verdicts)
    if few == "raw":
        judged = {key: found for key, found in judged.items() if found.n_usable} or judged
    _require_enough(judged, "none" if few == "raw" else variant)
    weights = draw_instructions(n_ids, resamples, seed)
    enough = {key: found for key, found in judged.items() if found.n_usable >= FEWEST}
    match variant:
        case "joint":
            _fit_joint(enough, weights, seed, advance)
        case "published" | "minimal":
            for found in enough.values():
                fit = published_fit(found.verdicts, published, resampled=weights[:, found.places])
                found.lc, found.replicates = fit.lc_win_rate, fit.replicates
                advance(1)
        case "none":
            pass
    return WinRates(
        rates=tuple(_rate(key, found, variant) for key, found in judged.items()),
        averages=tuple(averages(judged, weights)),
        differences=tuple(paired_differences(judged, weights)) if differences else (),
    )


def n_fits(verdicts: Sequence[Verdict], variant: Variant) -> int:
    """How often `advance` is called."""
    models = {(v.language, v.baseline, v.model) for v in verdicts}
    return len({key[:2] for key in models}) if variant == "joint" else len(models) * (variant != "none")


def _require_enough(judged: Mapping[Key, Judged], variant: Variant) -> None:
    if not judged:
        raise ValueError("there is no verdict: judge some answers first")
    for (language, _, model), found in judged.items():
        n = found.n_usable
        if n == 0:
            raise ValueError(
                f"all {len(found.verdicts)} verdicts of {model!r} in {language!r} are null: the judge gave no usable "
                "answer, so there is no win rate; look at its template and at what it answers"
            )
        if n < FEWEST and variant != "none":
            raise ValueError(
                f"{model!r} has {n} usable verdicts in {language!r}: a length-controlled win rate needs {FEWEST} or "
                "more; judge more, or take the raw win rate with the variant none"
            )


def _fit_joint(judged: Mapping[Key, Judged], weights: Array, seed: int, advance: Callable[[int], None]) -> None:
    """All models of each language (and baseline) together."""
    groups: dict[tuple[str, str], list[Judged]] = {}
    for (language, baseline, _), found in judged.items():
        groups.setdefault((language, baseline), []).append(found)
    with ThreadPoolExecutor() as pool:  # numpy lets go of the interpreter's lock
        for future in [pool.submit(_fit_language, members, weights, seed) for members in groups.values()]:
            future.result()
            advance(1)


def _fit_language(members: Sequence[Judged], weights: Array, seed: int) -> None:
    import numpy as np

    places = np.unique(np.concatenate([found.places for found in members]))
    preferences = np.full((len(members), len(places)), np.nan)
    own, base = np.full(preferences.shape, np.nan), np.full(preferences.shape, np.nan)
    for row, found in enumerate(members):
        columns = np.searchsorted(places, found.places)
        preferences[row, columns] = found.preference
        own[row, columns] = [v.model_length for v in found.verdicts]
        base[row, columns] = [v.baseline_length for v in found.verdicts]
    rates, replicates = joint_rates(preferences, own, base, weights[:, places], seed=seed)
    for row, found in enumerate(members):
        found.lc, found.replicates = float(rates[row]), replicates[:, row]


def _rate(key: Key, found: Judged, variant: Variant) -> Rate:
    import numpy as np

    language, baseline, model = key
    usable = found.preference[np.isfinite(found.preference)]
    rate, error = win_rate(usable)
    return Rate(
        language=language,
        model=model,
        baseline=baseline,
        n_judged=len(usable),
        n_null=len(found.preference) - len(usable),
        win_rate=rate,
        win_rate_se=error,
        lc_win_rate=None if found.lc is None else 100 * found.lc,
        lc_variant=variant if found.lc is not None else "none",
        lc_interval=None if found.replicates is None else percent_interval(found.replicates),
    )
