"""Concerns about what is measured of a run: rewards that rank worse, wins bought by length, too few verdicts to tell.

Numbers in, one concern or none out. Thresholds say why they are where they are; what they did on real runs is in
docs/troubleshooting.md. Knows no judge and no files.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crossward.core.answer_concerns import in_order, shares_told
from crossward.core.chance import Share, critical_z, standard_error
from crossward.core.concerns import Concern, shortened
from crossward.core.rewards import RewardAccuracy

# Accuracy fell by three points in a hundred: less changes few pairs.
ACCURACY_FELL = 0.03
# The whole interval lies within five points of a coin, or under it: of 100 pairs at most 5 more are right than wrong.
NEAR_CHANCE = 0.55
# One verdict in twenty null: nulls are rarely by chance (long answers, some scripts), and 5 % that all went one way
# would move a win rate by up to 5 points.
NULLS = 0.05
# A gain of 5 points is about what an iteration is hoped to give: the paper's two gave 8 and 5 on average.
EFFECT = 5.0
# A gain of which less than half is left at equal lengths is mostly length.
LEFT_AT_EQUAL_LENGTH = 0.5


def reward_drift(rows: Sequence[RewardAccuracy]) -> Concern | None:
    """Accuracy that fell from a run's first iteration to its last, or lies no better than a coin there.

    Compared are like with like: the same view, language and judge (`by`). Iterations share prompts, which is not
    known here, so the interval of a difference is too wide rather than too narrow.
    """
    kinds: dict[tuple[str, str, str], dict[int, RewardAccuracy]] = {}
    for row in rows:
        kinds.setdefault((row.view, row.by, row.language), {})[row.iteration] = row
    series = [[found[t] for t in sorted(found)] for found in kinds.values()]
    limit = critical_z(max(1, sum(len(found) > 1 for found in series)))
    fell = [(found[0], found[-1]) for found in series if len(found) > 1 and _fell(found[0], found[-1], limit)]
    coins = [found[-1] for found in series if found[-1].high < NEAR_CHANCE]
    if not fell and not coins:
        return None
    fell.sort(key=lambda both: both[1].accuracy - both[0].accuracy)
    coins.sort(key=lambda row: row.accuracy)
    parts = [
        "the reward ranks answers worse than in the first iteration: "
        + shortened(
            [f"{_name(first)} {first.accuracy:.1%} → {last.accuracy:.1%} {_interval(last)}" for first, last in fell]
        )
    ] * bool(fell)
    parts += [
        "the reward is hardly better than a coin: "
        + shortened([f"{_name(row)} {row.accuracy:.1%} {_interval(row)}" for row in coins])
    ] * bool(coins)
    named = [last.language for _, last in fell] + [row.language for row in coins]
    latest = max(row.iteration for row in [*(last for _, last in fell), *coins])
    return Concern(
        kind="reward-drift",
        where=f"iteration-{latest}/score",
        languages=tuple(dict.fromkeys(named)),
        seen="; ".join(parts),
        why=(
            "each policy is the next iteration's reward: once it ranks wrongly, training follows it away from what "
            "people want while its own numbers keep rising"
        ),
        advice=(
            "stop at the iteration before; keep the start policy's reward with reward.policy: initial; or penalise "
            "implausible tokens with reward.surprisal (docs/beyond.md); where it is no better than a coin, try "
            "another reward.view"
        ),
    )


def _fell(first: RewardAccuracy, last: RewardAccuracy, limit: float) -> bool:
    error = math.hypot(standard_error(first.low, first.high), standard_error(last.low, last.high))
    drop = first.accuracy - last.accuracy
    return drop >= ACCURACY_FELL and drop > limit * error


def _name(row: RewardAccuracy) -> str:
    return f"{row.language} ({row.view}, by {row.by})"


def _interval(row: RewardAccuracy) -> str:
    return f"[{row.low:.1%}, {row.high:.1%}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What one policy wins more than another, in percentage points with 95 % intervals, over `n` instructions."""

    language: str
    model: str
    other: str
    n: int
    win_rate: float
    low: float
    high: float
    controlled: float | None
    controlled_low: float | None


def bought_by_length(gains: Sequence[Gain]) -> Concern | None:
    """Win rates that rise for sure while length-controlled ones do not."""
    bought = [gain for gain in gains if _is_bought(gain)]
    if not bought:
        return None
    told = [
        f"{gain.language} {gain.win_rate:+.1f} points [{gain.low:+.1f}, {gain.high:+.1f}] raw, "
        f"{gain.controlled:+.1f} length-controlled"
        for gain in bought
    ]
    return Concern(
        kind="length-exploitation",
        where="evaluation",
        languages=tuple(gain.language for gain in bought if gain.language != "average"),
        seen=f"{bought[0].model} wins more than {bought[0].other}, but not at equal lengths: {shortened(told, 5)}",
        why="the judge favours length, and the policy has learnt it: at equal lengths little or nothing was gained",
        advice=(
            "report the length-controlled win rate; set pair.length_unit to tokens or characters; bound responses "
            "with pair.max_characters"
        ),
    )


def _is_bought(gain: Gain) -> bool:
    if gain.controlled is None or gain.controlled_low is None:
        return False
    return gain.low > 0 and gain.controlled_low <= 0 and gain.controlled < LEFT_AT_EQUAL_LENGTH * gain.win_rate


def few_judged(nulls: Mapping[str, Share], gains: Sequence[Gain]) -> Concern | None:
    """Verdicts that are null, and gains whose interval is so wide that 5 points more or less could not be seen."""
    many = {code: share for code, share in nulls.items() if share.low > NULLS}
    wide = [gain for gain in gains if (gain.high - gain.low) / 2 > EFFECT and gain.low <= 0 <= gain.high]
    if not many and not wide:
        return None
    parts = [f"verdicts that are null: {shares_told(many, of='questions')}"] if many else []
    wide.sort(key=lambda gain: gain.low - gain.high)
    told = [
        f"{gain.language} {gain.win_rate:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}] of {gain.n}, needed about "
        f"{needed(gain)}"
        for gain in wide
    ]
    if told:
        parts.append(
            f"too few prompts to see {EFFECT:.0f} points between {wide[0].model} and {wide[0].other}: "
            + shortened(told, 5)
        )
    languages = [*in_order(many), *(gain.language for gain in wide if gain.language != "average")]
    return Concern(
        kind="few-judged",
        where="evaluation",
        languages=tuple(dict.fromkeys(languages)),
        seen="; ".join(parts),
        why=(
            "no gain can be told from none there, in either direction; and instructions that the judge did not "
            "answer are seldom like the others"
        ),
        advice=(
            "take more held-out prompts (evaluate.prompts.limit); run again, which asks for null verdicts again; look "
            "at what the judge answers (judgements.jsonl); read the average over languages, which is surer"
        ),
    )


def needed(gain: Gain) -> int:
    """How many instructions would have shown EFFECT: an interval narrows with the square root of their number."""
    return math.ceil(gain.n * ((gain.high - gain.low) / 2 / EFFECT) ** 2)


# A win rate near 50 % of verdicts that are wins or losses has s = 50 points: n = (1.96·50 / 5)².
ENOUGH = math.ceil((1.96 * 50 / EFFECT) ** 2)


def few_to_judge(prompts: Mapping[str, int]) -> Concern | None:
    """Before anything is asked: languages with too few held-out prompts for a win rate to ± 5 points."""
    few = {code: n for code, n in prompts.items() if n < ENOUGH}
    if not few:
        return None
    order = sorted(few, key=lambda code: (few[code], code))
    told = [f"{code} {few[code]} (± {1.96 * 50 / math.sqrt(few[code]):.0f} points)" for code in order if few[code]]
    return Concern(
        kind="few-judged",
        where="check",
        languages=tuple(order),
        seen=f"few held-out prompts to judge: {shortened(told)}; ± {EFFECT:.0f} points take {ENOUGH} of clear verdicts",
        why="a win rate of one language will be too uncertain to show the gain of an iteration there",
        advice=(
            "raise evaluate.prompts.limit where there are more; a difference between two policies on the same prompts "
            "and the average over languages are surer than one language's rate"
        ),
    )
