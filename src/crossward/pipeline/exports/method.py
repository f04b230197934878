"""How a run made its pairs and what it trained on, in sentences for its cards: each from the recipe, none from habit.

Knows no front matter and no format.
"""

from collections.abc import Sequence

from crossward.core.plain_markdown import code
from crossward.pipeline.exports.exported_run import ExportedRun

_OURS = "[Implicit Cross-Lingual Rewarding](https://arxiv.org/abs/2503.04647)"
_LIDR = "[Language Imbalance Driven Rewarding](https://arxiv.org/abs/2410.08964)"
_VIEWS = {
    "crosslingual": "the English twin of their prompt",
    "multilingual": "their own prompt",
    "translated": "the English twin of their prompt, translated into English",
}


def method_section(run: ExportedRun, iterations: Sequence[int]) -> str:
    """Who answered, what ranked the answers, sampling and pairing."""
    config, pairing = run.config, run.config.pair
    sampling = config.sample
    lines = [
        "## How it was made",
        "",
        _summary(run),
        "",
        f"- who answered: {_by_iteration(iterations, _answering(run))}",
    ]
    if config.method == "reward":
        lines.append(f"- ranked by: {_by_iteration(iterations, [ranked_by(run, t) for t in range(1, _last(run) + 1)])}")
    lines.append(
        f"- sampled: {sampling.n} {'response' if sampling.n == 1 else 'responses'} a prompt, temperature "
        f"{sampling.temperature}, top-p {sampling.top_p}, up to {sampling.max_new_tokens} new tokens, "
        f"seed {config.seed}"
    )
    if config.method == "reward":
        lines.append(
            f"- length control in {pairing.length_unit}; language filter {pairing.language_filter}; smallest margin "
            f"{pairing.min_margin}"
        )
    return "\n".join(lines)


def ranked_by(run: ExportedRun, t: int) -> str:
    """What ranked the answers of iteration t, with the models that it is made of."""
    reward = run.config.reward
    match reward.kind:
        case "implicit":
            ours = _policy(run, 0 if reward.policy == "initial" else t - 1)
            first = reward.reference == "initial" or t == 1
            base = code(run.public_name(run.config.models.reference)) if first else _policy(run, t - 2)
            broken = "" if reward.surprisal is None else f"; implausible tokens: {reward.surprisal.use}"
            return f"log-ratio of {ours} and {base}, {_told_views(run)}{broken}"
        case "reward-model":
            assert reward.reward_model is not None
            return f"the reward model {code(run.public_name(reward.reward_model.path))}, {_told_views(run)}"
        case "judge":
            named = reward.judge.model or reward.judge.checkpoint
            whose = _policy(run, t - 1) if named is None else code(run.public_name(named))
            return f"ratings from 0 to 5 by the judge {whose}, {_told_views(run)}"
        case "translation-likelihood":
            return "the likelihood of the English answers as their translations (MAPO)"
        case "given":
            return "ratings of a program of the run's owner"


def trained_on(run: ExportedRun, iteration: int) -> str:
    """The preference data behind the checkpoint of an iteration: that of all iterations up to it."""
    config = run.config
    which = "iteration 1" if iteration == 1 else f"iterations 1 to {iteration}"
    whose = "answers that a program gave" if config.sample.engine == "given" else "the policies' own answers"
    own = f"the pairs that {which} made of {whose}"
    if config.train.replay is None:
        return f"with no preference data but {own}"
    return f"on {own}, and on offline preference pairs of another source (`train.replay`)"


def replay_notes(run: ExportedRun | None) -> tuple[str, ...]:
    """That a run trained on more than its exports hold."""
    if run is None or run.config.train.replay is None:
        return ()
    return (
        "the run trained on offline pairs too (train.replay, a share of "
        f"{run.config.train.replay.share:g} of all pairs): they are in no export, so mix them in "
        "yourself to train alike",
    )


def preference_limit(run: ExportedRun | None) -> str:
    """Whose preferences the pairs are, as a card warns of it."""
    if run is None:
        return "Who preferred which response is not known here: ask whoever made the file of pairs."
    if run.config.method == "lidr":
        return (
            "Preferences follow from the direction of translation alone: neither people nor a model compared responses."
        )
    if run.config.reward.kind == "given":
        return "Preferences are those of a program of the run's owner, of which nothing more is known here."
    return (
        "Preferences are a model's, not people's: nobody read the responses. What the model likes wrongly (length, a "
        "style, English habits) is in the pairs."
    )


def _summary(run: ExportedRun) -> str:
    """The method in a sentence."""
    config = run.config
    if config.method == "lidr":
        return (
            f"By {_LIDR} with Crossward: the policy answers every prompt once, greedily, and translates the answers. "
            "In English its own answer is preferred to the translation of its answer in another language; in another "
            "language the translation of its English answer is preferred to its own. No reward ranks anything."
        )
    how = "every prompt is answered several times, the answers are ranked, and the best is paired with the worst"
    match config.reward.kind:
        case "implicit":
            return f"By {_OURS} with Crossward: {how}, by the log-ratio of a model and one that it was aligned from."
        case kind:
            return f"With Crossward, with a reward in the place of the implicit one of {_OURS} ({kind}): {how}."


def _answering(run: ExportedRun) -> list[str]:
    """Who answered, by iteration."""
    if run.config.sample.engine == "given":
        return ["a program of the run's owner"] * _last(run)
    return [_policy(run, t - 1) for t in range(1, _last(run) + 1)]


def _policy(run: ExportedRun, t: int) -> str:
    """π_t in words."""
    start = code(run.public_name(run.config.models.policy))
    return start if t == 0 else f"the policy that iteration {t} made of {start}"


def _told_views(run: ExportedRun) -> str:
    reward = run.config.reward
    if reward.view != "ensemble":
        return f"under {_VIEWS[reward.view]} (view {reward.view})"
    agreed = ", pairs only where all agree" if reward.agreement else ""
    return f"mean over the views {', '.join(reward.views)}{agreed}"


def _last(run: ExportedRun) -> int:
    return max([run.config.iterations, *run.directory.iterations()])


def _by_iteration(iterations: Sequence[int], told: Sequence[str]) -> str:
    return "; ".join(f"iteration {t}: {told[t - 1]}" for t in iterations)
