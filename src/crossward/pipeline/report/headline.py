"""The first screen: what was made of what, what improved, what got worse, what to worry about."""

from collections.abc import Mapping, Sequence
from typing import Any

from crossward.config import Config
from crossward.core.comparisons import AVERAGE
from crossward.core.concerns import Concern, shortened
from crossward.pipeline.concerns import Look
from crossward.pipeline.policies import in_order
from crossward.pipeline.report.blocks import Advice, Block, Bullets, Section, Words, table
from crossward.pipeline.report.ranking import told_reward
from crossward.pipeline.report.winrates import rate_figures
from crossward.store import manifest
from crossward.store.rates_file import read_rates
from crossward.store.run_dir import RunDir

NOT_JUDGED = (
    "No judge compared the answers, so this run cannot say whether its policies are better: see what the answers show "
    "by themselves, or name evaluate.judge and evaluate.baseline (docs/evaluation.md)."
)
TITLES = {
    "length-exploitation": "Length exploitation",
    "language-drift": "Language drift",
    "reward-drift": "Reward drift",
    "collapsed-diversity": "Collapsed diversity",
    "alpha-at-odds": "α at odds with the other languages",
    "truncation": "Many truncations",
    "below-noise": "Pairs under the noise floor",
    "english-regressed": "English got worse",
    "few-judged": "Few judged",
    "not-the-child": "The policy is not the reference's child",
}
Apart = Mapping[str, Any]


def headline_section(directory: RunDir, config: Config, look: Look) -> Section:
    """The verdict in words, facts, and the win rates at a glance."""
    facts = [
        ("policy", config.models.policy),
        ("reference", config.models.reference),
        ("languages", ", ".join(config.languages)),
        ("iterations", _progress(directory, config)),
        ("made with", f"{told_reward(config)}; trained over the {config.train.reference} reference"),
        ("precision, seed", f"{config.models.dtype}, {config.seed}"),
    ]
    found = read_rates(directory.evaluation)
    blocks: list[Block] = [
        Bullets(items=(*verdicts(directory), *_worries(look))),
        table(["what", "this run"], facts),
        *(rate_figures(found)[:1] if found else []),
    ]
    return Section(anchor="headline", title="Headline", blocks=tuple(blocks))


def verdicts(directory: RunDir) -> list[Words]:
    """What improved and what got worse, by the win rates' paired differences."""
    found = read_rates(directory.evaluation)
    if found is None:
        return [Words(text=NOT_JUDGED)]
    return [
        words
        for model in in_order(apart["model"] for apart in found["differences"])
        if (words := _verdict(model, [a for a in found["differences"] if a["model"] == model and a["other"] == "π_0"]))
    ]


def concerns_section(concerns: Sequence[Concern]) -> Section | None:
    """Every concern in full; None where there is none."""
    if not concerns:
        return None
    blocks = [
        Advice(
            title=_title(concern),
            seen=concern.seen,
            why=concern.why,
            advice=concern.advice,
            page=concern.page,
        )
        for concern in concerns
    ]
    return Section(anchor="concerns", title="What to worry about", blocks=tuple(blocks))


def _title(concern: Concern) -> str:
    where = [concern.where, *([shortened(concern.languages)] if concern.languages else [])]
    return f"{TITLES[concern.kind]} ({', '.join(where)})"


def _verdict(model: str, aparts: Sequence[Apart]) -> Words | None:
    """One policy against π_0: the average in numbers, the languages by name."""
    controlled = all(apart["lc_interval"] for apart in aparts)  # or the languages are not alike
    judged = [(apart["language"], *_difference(apart, controlled)) for apart in aparts]
    judged = [found for found in judged if found[1] is not None]
    if not judged:
        return None
    better = [language for language, _, low, _ in judged if low > 0 and language != AVERAGE]
    worse = [language for language, _, _, high in judged if high < 0 and language != AVERAGE]
    open_ = [language for language, _, low, high in judged if low <= 0 <= high and language != AVERAGE]
    overall = next((found for found in judged if found[0] == AVERAGE), judged[0])
    _, points, low, high = overall
    where = "on average over the languages" if overall[0] == AVERAGE else f"in {overall[0]}"
    rate = "length-controlled win rate" if controlled else "win rate"
    told = f"{model}: {rate} {points:+.1f} points [{low:+.1f}, {high:+.1f}] over π_0 {where}"
    parts = [
        f"{name} {', '.join(languages)}"
        for name, languages in (("better in", better), ("worse in", worse), ("not sure in", open_))
        if languages
    ]
    tone = "good" if low > 0 and not worse else "bad" if high < 0 or worse else "plain"
    return Words(text=f"{told}; {'; '.join(parts)}.", tone=tone)


def _difference(apart: Apart, controlled: bool) -> tuple[float | None, float, float]:
    """Points and interval; None where there are none."""
    key, bounds = ("lc_win_rate", "lc_interval") if controlled else ("win_rate", "win_rate_interval")
    if apart[key] is None or apart[bounds] is None:
        return None, 0.0, 0.0
    return apart[key], *apart[bounds]


def _worries(look: Look) -> list[Words]:
    """What was found, and how much of what could be found was looked at."""
    kinds = list(dict.fromkeys(TITLES[concern.kind] for concern in look.concerns))
    found = [Words(text=f"To worry about: {', '.join(kinds)}.", tone="bad")] if kinds else []
    return [*found, Words(text=f"{look.lines()[-1].capitalize()}; docs/troubleshooting.md says what they are.")]


def _progress(directory: RunDir, config: Config) -> str:
    trained = [
        t for t in range(1, config.iterations + 1) if manifest.read(directory.iteration(t).stage("train")) is not None
    ]
    return f"{len(trained)} of {config.iterations} trained"
