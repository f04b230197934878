"""The length-controlled win rate as alpaca_eval 0.6.6 publishes it (`length_controlled_v1`), and its `minimal` form.

One model alone, rows r with y_r in 0..1 (1: the model wins), x_r = tanh(d_r / std(d)), d = baseline's length − model's:

    p_r = σ(a·x_r + c·g_r + ψ)      LC = mean over all rows, those without a verdict too, of σ(c·g_r + ψ)

g is a difficulty given from outside (the published file: English instructions, one judge, one baseline), joined by id.
2 × 805 rows of two models that were told to answer at length or briefly regularise a and c, at a weight of 0.1 each.
Estimated with an L1 penalty whose strength C is chosen by 5 folds out of 10: the same folds, solver and stopping rule,
on options that scikit-learn keeps. `minimal` knows neither g nor those rows. Intervals refit at the chosen C.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crossward.core.logistic import fit_l1
from crossward.core.verdicts import Verdict

Array = Any  # numpy.ndarray, imported late
FOLDS = 5
GAMED_WEIGHT = 0.2 / 2  # λ of the published code, over its two models
SEED = 123  # of the published solver's coordinate order


@dataclass(frozen=True, slots=True, kw_only=True)
class GamedRow:
    """A verdict on a model that was told to be long or brief: preference 0 to 1, length difference over its std."""

    preference: float
    length_difference: float
    difficulty: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedData:
    """What the published form takes from outside: difficulties by instruction id (in their order), and gamed rows."""

    difficulty: Mapping[str, float]
    gamed: Sequence[GamedRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFit:
    """LC (0 to 1), coefficients (a, c, ψ; without c for `minimal`), the C chosen, refits of it ([b]) if asked for."""

    lc_win_rate: float
    coefficients: tuple[float, ...]
    c: float
    replicates: Array | None = None


def published_fit(
    verdicts: Sequence[Verdict], data: PublishedData | None, *, resampled: Array | None = None
) -> PublishedFit:
    """The published estimate of one model in one language; `minimal` where `data` is None.

    The order of the rows decides the folds: the difficulties' own, else as given. `resampled` [b, n] counts the rows of
    each resample of a bootstrap. Raises ValueError where an id has no difficulty.
    """
    import numpy as np

    if data is not None:
        _require_difficulties(verdicts, data)
        rank = {id: place for place, id in enumerate(data.difficulty)}
        order = sorted(range(len(verdicts)), key=lambda i: rank[verdicts[i].id])
        verdicts = [verdicts[i] for i in order]
        resampled = None if resampled is None else resampled[:, order]
    y = np.array([np.nan if v.preference is None else v.preference for v in verdicts])
    lengths = np.array([v.baseline_length - v.model_length for v in verdicts], dtype=float)
    deviation = lengths.std(ddof=1)
    x = np.tanh(lengths / deviation) if deviation > 0 else np.zeros_like(lengths)
    ones = np.ones((len(y), 1))
    free = ones  # [n, 1 or 2]
    if data is not None:
        free = np.column_stack([[data.difficulty[v.id] for v in verdicts], ones])
    rows = np.column_stack([x, free])
    known = np.isfinite(y)
    features, labels, weights = rows[known], y[known], np.ones(int(known.sum()))
    n_gamed = 0
    if data is not None:
        n_gamed = len(data.gamed)
        before = np.array([[np.tanh(row.length_difference), row.difficulty, 0.0] for row in data.gamed])
        features = np.concatenate([before.reshape(-1, 3), features])
        labels = np.concatenate([[row.preference for row in data.gamed], labels])
        weights = np.concatenate([np.full(n_gamed, GAMED_WEIGHT), weights])
    c, coefficients = _cross_validated(features, labels, weights)
    rates = 1 / (1 + np.exp(-(free @ coefficients[1:])))
    replicates = None
    if resampled is not None:
        counted = np.concatenate([np.tile(weights[:n_gamed], (len(resampled), 1)), resampled[:, known]], axis=1)
        thetas = fit_l1(features, labels, counted, c=c, start=np.tile(coefficients, (len(resampled), 1)))
        each = 1 / (1 + np.exp(-(thetas[:, 1:] @ free.T)))  # [b, n]
        replicates = (each * resampled).sum(axis=1) / resampled.sum(axis=1)
    return PublishedFit(
        lc_win_rate=float(rates.mean()), coefficients=tuple(map(float, coefficients)), c=c, replicates=replicates
    )


def _require_difficulties(verdicts: Sequence[Verdict], data: PublishedData) -> None:
    if missing := [v for v in verdicts if v.id not in data.difficulty]:
        first = missing[0]
        raise ValueError(
            f"{len(missing)} of {len(verdicts)} instructions of {first.model!r} in {first.language!r} have no "
            f"difficulty, first id {first.id!r} (the difficulties' first id is {next(iter(data.difficulty), None)!r}): "
            "give a file of this instruction set, or use the variant joint"
        )


def _cross_validated(x: Array, y: Array, weights: Array) -> tuple[float, Array]:
    """C with the best mean held-out score, and the coefficients on all rows at that C."""
    import numpy as np

    n = len(y)
    folds = (n - 1 - np.arange(n)) % FOLDS  # scikit-learn's GroupKFold over n single rows
    grid = np.logspace(-4, 4, 10)
    scores = np.zeros((FOLDS, len(grid)))
    for fold in range(FOLDS):
        out = folds == fold
        order = np.random.RandomState(SEED)  # goes on from one C to the next, as in the published path
        for place, c in enumerate(grid):
            theta = _liblinear(x[~out], y[~out], weights[~out], c, order)
            p = np.clip(1 / (1 + np.exp(-(x[out] @ theta))), 1e-15, 1 - 1e-15)
            scores[fold, place] = (weights[out] * (y[out] * np.log(p) + (1 - y[out]) * np.log(1 - p))).mean()
    c = float(grid[scores.mean(axis=0).argmax()])
    return c, _liblinear(x, y, weights, c, np.random.RandomState(SEED))


def _liblinear(x: Array, y: Array, weights: Array, c: float, order: Any) -> Array:
    """The published solver, whose early stop moves LC by up to 0.06 points: the optimum itself would not agree.

    A label between 0 and 1 is two rows, 1 with weight y and 0 with weight 1 − y.
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(
        C=c, l1_ratio=1.0, solver="liblinear", fit_intercept=False, tol=1e-4, max_iter=100, random_state=order
    )
    labels = np.concatenate([np.ones(len(y)), np.zeros(len(y))])
    model.fit(np.concatenate([x, x]), labels, sample_weight=np.concatenate([weights * y, weights * (1 - y)]))
    return model.coef_[0]
