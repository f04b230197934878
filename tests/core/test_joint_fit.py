"""The joint fit: gradient and curvature against finite differences, refits against fits, truth found."""

import numpy as np
import pytest

from crossward.core.joint_fit import SD_BIAS, SD_SHARED, SD_STRENGTH, JointModel, _add_priors, joint_rates

M, I, Q = 4, 300, 2  # noqa: E741
SLOPE_SD = 0.4


def world(seed: int = 0):
    """Verdicts with holes, and what they were drawn from."""
    draw = np.random.default_rng(seed)
    difficulty, strength, slope = draw.normal(size=I), draw.normal(-1, 0.7, M), draw.normal(-1.5, 0.2, M)
    lengths = 800 * (draw.normal(size=(M, I)) + np.linspace(-0.6, 0.6, M)[:, None])
    p = 1 / (1 + np.exp(-(strength[:, None] + slope[:, None] * np.tanh(lengths / 800) + difficulty)))
    y = (draw.random((M, I)) < p).astype(float)
    y[draw.random((M, I)) < 0.05] = np.nan
    truth = np.mean(1 / (1 + np.exp(-strength[:, None] - draw.normal(size=200_000))), axis=1)
    return y, lengths, truth


def covariates() -> np.ndarray:
    return np.random.default_rng(5).normal(size=(Q, I))


def model() -> JointModel:
    y, lengths, _ = world()
    return JointModel(y, np.tanh(lengths / 800), covariates())


def objective(m: JointModel, theta, weights, centres) -> float:
    """The penalised log-likelihood, straight from the formulas."""
    nodes, masses = np.polynomial.hermite_e.hermegauss(11)
    judged = m.x != 0
    eta = (theta[:M, None] + theta[M : 2 * M, None] * m.x + theta[2 * M + 1 : -1] @ m.q)[:, None]
    eta = eta + np.exp(theta[-1]) * nodes[:, None]  # [M, K, I]
    terms = ((m.y[:, None] * eta - np.logaddexp(0, eta)) * judged[:, None]).sum(axis=0)
    found = float(np.log(((masses / masses.sum())[:, None] * np.exp(terms)).sum(axis=0)) @ weights)
    found -= (theta[:M] ** 2).sum() / (2 * SD_STRENGTH**2)
    found -= ((theta[M : 2 * M] - theta[2 * M] - centres[:M]) ** 2).sum() / (2 * SLOPE_SD**2)
    found -= (theta[2 * M] - centres[M]) ** 2 / (2 * SD_BIAS**2) + (theta[2 * M + 1 : -1] ** 2).sum() / (
        2 * SD_SHARED**2
    )
    return found + theta[-1] - np.exp(theta[-1])


def numeric(function, theta, h: float = 1e-5):
    steps = np.eye(len(theta)) * h
    return np.array([(function(theta + step) - function(theta - step)) / (2 * h) for step in steps])


def test_gradient_and_curvature_are_those_of_the_likelihood():
    m, draw = model(), np.random.default_rng(1)
    theta = np.concatenate([draw.normal(-1, 0.5, M), draw.normal(-1, 0.5, M + 1), [0.3, 0.4, -0.2]])
    weights = draw.multinomial(I, np.full(I, 1 / I)).astype(float)
    centres = draw.normal(0, 0.3, M + 1)
    gradient = m.gradient(theta, weights, SLOPE_SD, centres)
    assert gradient == pytest.approx(numeric(lambda at: objective(m, at, weights, centres), theta), abs=1e-5)
    fitted = m.fit().theta  # at the maximum the curvature is positive, and exact
    curvature = m.curvature(fitted, weights, SLOPE_SD)
    expected = -numeric(lambda at: m.gradient(at, weights, SLOPE_SD, centres), fitted)
    assert curvature == pytest.approx(expected, abs=1e-4)
    pieces = np.tensordot(weights, m.pieces(fitted), axes=1)
    _add_priors(pieces, M, SLOPE_SD, np.exp(fitted[-1]))
    assert pieces == pytest.approx(expected, abs=1e-4)


def test_the_fit_is_a_maximum_and_a_refit_of_the_same_rows_stays_there():
    m = model()
    found = m.fit()
    ones, none = np.ones(I), np.zeros(M + 1)
    assert np.abs(m.gradient(found.theta, ones, found.slope_sd, none)).max() < 1e-4
    assert m.resample(found, ones, none) == pytest.approx(found.theta, abs=1e-6)


def test_refits_are_what_a_fit_from_anywhere_finds():
    m, draw = model(), np.random.default_rng(2)
    found = m.fit()
    for _ in range(5):
        weights, centres = draw.multinomial(I, np.full(I, 1 / I)).astype(float), draw.normal(0, 0.3, M + 1)
        exact = m.solve(np.zeros(2 * M + Q + 2), weights, found.slope_sd, centres)
        quick = m.resample(found, weights, centres)
        assert m.length_free(quick, weights) == pytest.approx(m.length_free(exact, weights), abs=2e-4)


def test_weights_are_copies():
    y, lengths, _ = world(3)
    x = np.tanh(lengths / 800)
    twice = np.concatenate([np.arange(I), np.arange(40)])
    weights = np.bincount(twice, minlength=I).astype(float)
    q = covariates()
    one, other = JointModel(y, x, q), JointModel(y[:, twice], x[:, twice], q[:, twice])
    theta, none = one.fit().theta, np.zeros(M + 1)
    assert one.gradient(theta, weights, SLOPE_SD, none) == pytest.approx(
        other.gradient(theta, np.ones(len(twice)), SLOPE_SD, none)
    )
    assert one.length_free(theta, weights) == pytest.approx(other.length_free(theta, np.ones(len(twice))))


def test_the_truth_is_within_the_intervals():
    held = []
    for seed in range(6):
        y, lengths, truth = world(seed)
        weights = np.random.default_rng(seed).multinomial(I, np.full(I, 1 / I), size=100).astype(float)
        rates, refits = joint_rates(y, 4000 - lengths, np.full((M, I), 4000.0), weights, seed=seed)
        low, high = np.quantile(refits, (0.025, 0.975), axis=0)
        held += list((low <= truth) & (truth <= high))
        assert np.abs(rates - truth).max() < 0.12
    assert np.mean(held) > 0.8


def test_extremes_stay_finite():
    y = np.stack([np.zeros(40), np.ones(40), np.full(40, np.nan)])
    y[2, :5] = 0.5
    lengths = np.stack([np.full(40, 5000.0), np.full(40, -5000.0), np.arange(40.0)])
    base = np.full((3, 40), 6000.0)
    rates, refits = joint_rates(y, base - lengths, base, np.ones((3, 40)), seed=0)
    assert np.isfinite(refits).all()
    assert rates[0] < 0.2
    assert rates[1] > 0.8
    alone, _ = joint_rates(y[:1], base[:1], base[:1], np.ones((3, 40)), seed=0)
    assert 0 <= alone[0] < 0.02


def test_what_no_verdict_tells_is_not_known():
    """Both models' answers are always shorter by as much: what equal lengths would change is the prior's guess."""
    draw = np.random.default_rng(4)
    y = (draw.random((2, I)) < 0.3).astype(float)
    base = np.full((2, I), 2000.0)
    weights = draw.multinomial(I, np.full(I, 1 / I), size=200).astype(float)
    _, refits = joint_rates(y, base - np.array([[1000.0], [1100.0]]), base, weights, seed=0)
    low, high = np.quantile(refits, (0.025, 0.975), axis=0)
    assert (high - low > 0.4).all()
