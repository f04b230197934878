"""Logistic regression with an L1 penalty and few coefficients, solved exactly and many at a time.

    θ̂ = argmin_θ  Σ_k |θ_k| + C · Σ_r w_r [ −y_r log σ(x_r·θ) − (1 − y_r) log(1 − σ(x_r·θ)) ],   y_r in [0, 1]

No intercept: a column of ones is one, and is penalised like the others. The length-controlled win rate that alpaca_eval
publishes is such a fit. Proximal Newton steps with backtracking; every resample of a bootstrap is a row of weights.
"""

from typing import Any

Array = Any  # numpy.ndarray: numpy is imported late, so that the command line starts quickly
ITERATIONS = 100
SWEEPS = 100
TOLERANCE = 1e-9


def fit_l1(x: Array, y: Array, weights: Array, *, c: float, start: Array | None = None) -> Array:
    """Coefficients [b, k] for features x [n, k], labels y [n] and b sets of weights [b, n] (0 or more)."""
    import numpy as np

    theta = np.zeros((len(weights), x.shape[1])) if start is None else np.array(start, dtype=float)
    k = x.shape[1]
    upper = [(i, j) for i in range(k) for j in range(i, k)]
    products = np.stack([x[:, i] * x[:, j] for i, j in upper], axis=1)  # [n, k(k+1)/2]
    loss = _objective(x, y, weights, theta, c)
    for _ in range(ITERATIONS):
        p = 1 / (1 + np.exp(-(theta @ x.T)))  # [b, n]
        gradient = c * ((weights * (p - y)) @ x)
        packed = c * ((weights * p * (1 - p)) @ products)
        hessian = np.empty((len(weights), k, k))
        for place, (i, j) in enumerate(upper):
            hessian[:, i, j] = hessian[:, j, i] = packed[:, place]
        hessian[:, range(k), range(k)] += 1e-10
        step = _penalised_step(theta, gradient, hessian)
        size = np.ones(len(weights))
        moved, found = theta + step, _objective(x, y, weights, theta + step, c)
        for _ in range(40):
            worse = found > loss + 1e-12 * np.abs(loss)
            if not worse.any():
                break
            size = np.where(worse, size / 2, size)
            moved = theta + size[:, None] * step
            found = _objective(x, y, weights, moved, c)
        change = np.abs(moved - theta).max()
        theta, loss = moved, found
        if change < TOLERANCE:
            break
    return theta


def _penalised_step(theta: Array, gradient: Array, hessian: Array) -> Array:
    """argmin_d g·d + ½ dᵀHd + |θ + d|₁ by cyclic coordinate descent, all rows at once."""
    import numpy as np

    step = np.zeros_like(theta)
    for _ in range(SWEEPS):
        before = step.copy()
        for j in range(theta.shape[1]):
            curve = hessian[:, j, j]
            slope = gradient[:, j] + (hessian[:, j] * step).sum(axis=1) - curve * step[:, j]
            free = curve * theta[:, j] - slope
            step[:, j] = np.sign(free) * np.maximum(np.abs(free) - 1, 0) / curve - theta[:, j]
        if np.abs(step - before).max() < TOLERANCE / 10:
            break
    return step


def _objective(x: Array, y: Array, weights: Array, theta: Array, c: float) -> Array:
    import numpy as np

    eta = theta @ x.T
    losses = np.logaddexp(0, eta) - y * eta
    return np.abs(theta).sum(axis=1) + c * (weights * losses).sum(axis=1)
