"""Difficulty of instructions, length bias and strength of models, estimated together from one language's verdicts.

Model m against the baseline on instruction i, with x_mi = tanh((baseline's length − model's length) / s):

    logit p_mi = ψ_m + a_m·x_mi + g_i,    g_i ~ N(γ·q_i, τ²),    a_m ~ N(ā, σ²)

Difficulties g are integrated out (Gauss–Hermite), so that few models do not bias τ. q_i are the log length of the
baseline's answer and the mean log length of the models', standardised: answers are longer where instructions are hard,
and a difficulty that moves with the lengths would pass for length bias (Mundlak 1978). Slopes are shrunk to their mean
ā, because the length bias is the judge's, and a model whose answers are all short tells little about it; σ² is a mean
of the slopes' own spread and of a prior guess. ψ, a, γ and log τ maximise the penalised likelihood (Newton); s is the
scale that explains the verdicts best. The length-free win rate is the mean over instructions of E[σ(ψ_m + g_i) |
verdicts]: the raw win rate where lengths are equal. Not alpaca_eval's, which takes g from a file of one English set.
"""

from dataclasses import dataclass, field
from typing import Any

Array = Any  # numpy.ndarray, imported late
NODES = 11
SCALES = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4)  # of the standard deviation of the length differences
SD_STRENGTH = 10.0  # of ψ: keeps a model that always loses finite, moves no other
SD_SHARED = 1.0  # of γ
SD_BIAS = 2.0  # of ā; alpaca_eval's public leaderboard lies around −1.5
GUESS_SLOPES = 0.3  # of σ, worth as much as GUESS_WEIGHT models
GUESS_WEIGHT = 8.0
LONGEST_STEP = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """theta [2M + Q + 2] is (ψ_1..M, a_1..M, ā, γ_1..Q, log τ); `slope_sd` σ; `pieces` each instruction's curvature."""

    theta: Array
    slope_sd: float
    pieces: Array  # [I, n, n]


@dataclass(slots=True)
class JointModel:
    """Verdicts of M models on I instructions: y [M, I] in 0..1 (NaN: none), x [M, I] in −1..1, q [Q, I]."""

    y: Array
    x: Array
    q: Array
    _have: Array = field(init=False)
    _total: Array = field(init=False)
    _nodes: Array = field(init=False)
    _masses: Array = field(init=False)

    def __post_init__(self) -> None:
        import numpy as np

        self._have = np.isfinite(self.y)
        self.y = np.where(self._have, self.y, 0.0)
        self.x = np.where(self._have, self.x, 0.0)
        self._total = self.y.sum(axis=0)  # [I]
        nodes, masses = np.polynomial.hermite_e.hermegauss(NODES)
        self._nodes, self._masses = nodes, masses / masses.sum()

    def fit(self) -> Estimate:
        """The estimate on all instructions, each once."""
        import numpy as np

        m, n = self.y.shape
        rates = np.clip(self.y.sum(axis=1) / np.maximum(self._have.sum(axis=1), 1), 0.02, 0.98)
        theta = np.concatenate([np.log(rates / (1 - rates)), np.zeros(m + 2 + len(self.q))])
        weights, slope_sd = np.ones(n), GUESS_SLOPES
        centres = np.zeros(m + 1)
        for _ in range(50):
            theta = self.solve(theta, weights, slope_sd, centres)
            curvature = self.curvature(theta, weights, slope_sd)
            covariance = np.linalg.inv(curvature)
            spread = theta[m : 2 * m] - theta[2 * m]
            contrast = np.concatenate([np.eye(m), -np.ones((m, 1))], axis=1)  # a_m − ā
            inner = covariance[m : 2 * m + 1, m : 2 * m + 1]
            unsure = np.einsum("ij,jk,ik->i", contrast, inner, contrast)
            found = GUESS_WEIGHT * GUESS_SLOPES**2 + (spread**2 + unsure).sum()
            moved = float(np.sqrt(found / (GUESS_WEIGHT + m)))
            done = abs(moved - slope_sd) < 1e-5
            slope_sd = moved
            if done:
                break
        return Estimate(theta=theta, slope_sd=slope_sd, pieces=self.pieces(theta))

    def solve(self, theta: Array, weights: Array, slope_sd: float, centres: Array, *, tolerance: float = 1e-8) -> Array:
        """The maximum for instructions counted `weights` [I] times, from a start.

        `centres` [M + 1]: where the priors of the a_m − ā and of ā lie, 0 but in a bootstrap (`winrates_of_resample`).
        """
        import numpy as np

        for _ in range(60):
            curvature = self.curvature(theta, weights, slope_sd)
            step = np.linalg.solve(curvature, self.gradient(theta, weights, slope_sd, centres))
            step *= min(1.0, LONGEST_STEP / max(np.abs(step).max(), 1e-300))
            theta = theta + step
            if np.abs(step).max() < tolerance:
                break
        return theta

    def resample(self, found: Estimate, weights: Array, centres: Array) -> Array:
        """The maximum for a bootstrap's weights: Newton from the estimate, its curvature kept while that suffices."""
        import numpy as np

        m, theta = len(self.y), found.theta
        curvature = np.tensordot(weights, found.pieces, axes=1)
        _add_priors(curvature, m, found.slope_sd, np.exp(theta[-1]))
        try:
            np.linalg.cholesky(curvature)
        except np.linalg.LinAlgError:  # a resample so thin that the estimate is far from its maximum
            return self.solve(theta, weights, found.slope_sd, centres, tolerance=1e-4)
        inverse = np.linalg.inv(curvature)
        last = np.inf
        for _ in range(12):
            step = inverse @ self.gradient(theta, weights, found.slope_sd, centres)
            size = np.abs(step).max()
            if size > LONGEST_STEP or size > 0.7 * last:
                return self.solve(theta, weights, found.slope_sd, centres, tolerance=1e-4)
            theta = theta + step
            if size < 1e-3:  # what is left is a tenth of it or less: far below a percent of any standard error
                break
            last = size
        return theta

    def length_free(self, theta: Array, weights: Array) -> Array:
        """Win rates [M], 0 to 1, at equal lengths: mean over instructions of E[σ(ψ_m + g_i) | verdicts]."""
        import numpy as np

        m = len(self.y)
        posterior, _ = self._posterior(theta)
        masses = posterior * (weights / weights.sum())  # [K, I]
        easy = self._expected(theta) + np.exp(theta[-1]) * self._nodes[:, None]
        return np.array([(masses / (1 + np.exp(-strength - easy))).sum() for strength in theta[:m]])

    def difficulty(self, theta: Array) -> Array:
        """E[g_i | verdicts], [I], in logits: higher is easier for all models."""
        import numpy as np

        posterior, _ = self._posterior(theta)
        return self._expected(theta) + np.exp(theta[-1]) * (self._nodes @ posterior)

    def _expected(self, theta: Array) -> Array:
        """γ·q [I]: what lengths alone say of the difficulties."""
        return theta[2 * len(self.y) + 1 : -1] @ self.q

    def _posterior(self, theta: Array) -> tuple[Array, Array]:
        """P(node | verdicts) [K, I], and p [M, K, I], 0 where there is no verdict.

        exp(η) is a product of what depends on model and instruction and of what depends on the node alone.
        """
        import numpy as np

        m = len(self.y)
        tau = np.exp(theta[-1])
        eta = theta[:m, None] + theta[m : 2 * m, None] * self.x + self._expected(theta)
        base = np.exp(np.clip(eta, -300, 300)) * self._have  # [M, I]
        odds = base[:, None, :] * np.exp(np.clip(tau * self._nodes, -300, 300))[:, None]  # [M, K, I]
        above = 1 + odds
        logs = tau * self._nodes[:, None] * self._total - np.log(above).sum(axis=0)
        logs -= logs.max(axis=0)
        posterior = self._masses[:, None] * np.exp(logs)
        posterior /= posterior.sum(axis=0)
        return posterior, odds / above

    def log_likelihood(self, theta: Array) -> float:
        """Of the verdicts, difficulties integrated out, nats."""
        import numpy as np

        m = len(self.y)
        eta = theta[:m, None] + theta[m : 2 * m, None] * self.x + self._expected(theta)  # [M, I]
        at_node = eta[:, None, :] + np.exp(theta[-1]) * self._nodes[:, None]  # [M, K, I]
        terms = (self.y[:, None, :] * at_node - np.logaddexp(0, at_node)) * self._have[:, None, :]
        logs = np.log(self._masses)[:, None] + terms.sum(axis=0)
        return float(np.logaddexp.reduce(logs, axis=0).sum())

    def gradient(self, theta: Array, weights: Array, slope_sd: float, centres: Array) -> Array:
        """Of the penalised log-likelihood, [2M + Q + 2]."""
        import numpy as np

        m = len(self.y)
        posterior, p = self._posterior(theta)
        tau = np.exp(theta[-1])
        rest = (self.y - np.einsum("mki,ki->mi", p, posterior)) * weights  # [M, I]
        excess = posterior * (self._total - p.sum(axis=0))  # [K, I]
        found = np.empty(len(theta))
        found[:m] = rest.sum(axis=1) - theta[:m] / SD_STRENGTH**2
        pull = (theta[m : 2 * m] - theta[2 * m] - centres[:m]) / slope_sd**2
        found[m : 2 * m] = (rest * self.x).sum(axis=1) - pull
        found[2 * m] = pull.sum() - (theta[2 * m] - centres[m]) / SD_BIAS**2
        found[2 * m + 1 : -1] = self.q @ rest.sum(axis=0) - theta[2 * m + 1 : -1] / SD_SHARED**2
        found[-1] = tau * float(self._nodes @ (excess @ weights)) + 1 - tau  # prior of τ: Gamma(2, 1), never 0
        return found

    def curvature(self, theta: Array, weights: Array, slope_sd: float) -> Array:
        """Negative Hessian, square: of the complete data, less what not knowing the node takes (Louis 1982).

        Where that is not positive, far from the maximum, the complete data's alone.
        """
        import numpy as np

        m = len(self.y)
        posterior, p = self._posterior(theta)
        tau = np.exp(theta[-1])
        variance = p * (1 - p)  # [M, K, I]
        z = tau * self._nodes
        mixed = np.einsum("mki,ki->mi", variance, posterior) * weights
        tilted = np.einsum("mki,ki,k->mi", variance, posterior, z) * weights
        rest = self._have[:, None, :] * self.y[:, None, :] - p  # [M, K, I]
        excess = rest.sum(axis=0)  # [K, I]
        n = len(theta)
        complete = np.zeros((n, n))
        strength, slope, last = np.arange(m), np.arange(m, 2 * m), n - 1
        shared = slice(2 * m + 1, n - 1)
        complete[strength, strength] = mixed.sum(axis=1)
        complete[slope, slope] = (mixed * self.x**2).sum(axis=1)
        complete[strength, slope] = complete[slope, strength] = (mixed * self.x).sum(axis=1)
        complete[strength, shared] = mixed @ self.q.T
        complete[shared, strength] = complete[strength, shared].T
        complete[slope, shared] = (mixed * self.x) @ self.q.T
        complete[shared, slope] = complete[slope, shared].T
        complete[shared, shared] = (self.q * mixed.sum(axis=0)) @ self.q.T
        complete[strength, last] = complete[last, strength] = tilted.sum(axis=1)
        complete[slope, last] = complete[last, slope] = (tilted * self.x).sum(axis=1)
        complete[shared, last] = complete[last, shared] = self.q @ tilted.sum(axis=0)
        complete[last, last] = float(((variance.sum(axis=0) * posterior * (z**2)[:, None]) @ weights).sum())
        _add_priors(complete, m, slope_sd, tau)

        together = [self.q[:, None, :] * excess, (z[:, None] * excess)[None]]
        scores = np.concatenate([rest, rest * self.x[:, None, :], *together])  # [2M + Q + 1, K, I]
        mean = np.einsum("pki,ki->pi", scores, posterior)
        flat = (scores * np.sqrt(posterior * weights)).reshape(n - 1, -1)
        missing = flat @ flat.T - (mean * weights) @ mean.T
        # The second derivative of exp(log τ)·z: the score of log τ itself.
        own = float((mean[-1] * weights).sum())
        place = np.delete(np.arange(n), 2 * m)  # all but ā, which no verdict names
        observed = complete.copy()
        observed[np.ix_(place, place)] -= missing
        observed[last, last] -= own
        return observed if np.linalg.eigvalsh(observed)[0] > 1e-6 else complete

    def pieces(self, theta: Array) -> Array:
        """What each instruction adds to the curvature, [I, n, n]: with weights and the priors, `curvature` again."""
        import numpy as np

        m, n = len(self.y), len(theta)
        posterior, p = self._posterior(theta)
        slopes = np.zeros((*p.shape, n))  # of η_mik in theta, [M, K, I, n]
        for j in range(m):
            slopes[j, :, :, j] = 1.0
            slopes[j, :, :, m + j] = self.x[j]
        slopes[..., 2 * m + 1 : -1] = self.q.T
        slopes[..., -1] = (np.exp(theta[-1]) * self._nodes)[:, None]
        complete = np.einsum("mki,mkip,mkiq->ipq", p * (1 - p) * posterior, slopes, slopes, optimize=True)
        scores = np.einsum("mki,mkip->kip", self._have[:, None] * self.y[:, None] - p, slopes)
        mean = np.einsum("ki,kip->ip", posterior, scores)
        found = complete - np.einsum("ki,kip,kiq->ipq", posterior, scores, scores, optimize=True)
        found += mean[:, :, None] * mean[:, None, :]
        found[:, -1, -1] -= mean[:, -1]
        return found


def joint_rates(
    preferences: Array, model_lengths: Array, baseline_lengths: Array, weights: Array, *, seed: int
) -> tuple[Array, Array]:
    """Length-free win rates [M], 0 to 1, and refits [b, M] for resamples that count the instructions `weights` [b, I].

    `preferences` [M, I] are 0 to 1, lengths [M, I] characters, all NaN where a model was not judged.
    """
    import numpy as np

    model, found = _best_scale(preferences, model_lengths, baseline_lengths)
    m = len(preferences)
    spread = np.concatenate([np.full(m, found.slope_sd), [SD_BIAS]])
    refits = np.empty((len(weights), m))
    for b, counted in enumerate(weights):
        # The priors' centres are drawn too: else shrinking would look like knowing.
        centres = np.random.default_rng((seed, b)).normal(size=m + 1) * spread
        refits[b] = model.length_free(model.resample(found, counted, centres), counted)
    return model.length_free(found.theta, np.ones(preferences.shape[1])), refits


def _best_scale(preferences: Array, model_lengths: Array, baseline_lengths: Array) -> tuple[JointModel, Estimate]:
    """The fit whose scale s explains the verdicts best; x is 0 where all lengths are equal."""
    import numpy as np

    differences = baseline_lengths - model_lengths
    q = _covariates(model_lengths, baseline_lengths)
    deviation = np.nanstd(differences, ddof=1) if np.isfinite(differences).sum() > 1 else 0.0
    if not deviation > 0:
        model = JointModel(preferences, np.zeros_like(differences), q[:0])
        return model, model.fit()
    models = [JointModel(preferences, np.tanh(differences / (factor * deviation)), q) for factor in SCALES]
    fits = [model.fit() for model in models]
    return max(zip(models, fits, strict=True), key=lambda pair: pair[0].log_likelihood(pair[1].theta))


def _covariates(model_lengths: Array, baseline_lengths: Array) -> Array:
    """q [Q, I]: mean log lengths of the baseline's and of the models' answers to each instruction, standardised.

    None for one model: its lengths cannot tell difficulty from length bias. 0 where an instruction has no length.
    """
    import numpy as np

    if len(model_lengths) < 2:
        return np.zeros((0, model_lengths.shape[1]))
    rows = []
    for lengths in (baseline_lengths, model_lengths):
        logs = np.log1p(lengths)
        known = np.isfinite(logs)
        mean = np.where(known, logs, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        there = known.any(axis=0)
        deviation = mean[there].std()
        if deviation > 0:
            rows.append(np.where(there, (mean - mean[there].mean()) / deviation, 0.0))
    return np.array(rows).reshape(len(rows), model_lengths.shape[1])


def _add_priors(curvature: Array, m: int, slope_sd: float, tau: float) -> None:
    for j in range(m):
        curvature[j, j] += 1 / SD_STRENGTH**2
        curvature[m + j, m + j] += 1 / slope_sd**2
        curvature[m + j, 2 * m] -= 1 / slope_sd**2
        curvature[2 * m, m + j] -= 1 / slope_sd**2
    curvature[2 * m, 2 * m] += m / slope_sd**2 + 1 / SD_BIAS**2
    for j in range(2 * m + 1, len(curvature) - 1):
        curvature[j, j] += 1 / SD_SHARED**2
    curvature[-1, -1] += tau
