"""Concerns about what pairs are made from: cut, equal or foreign responses, lengths, noise, an α unlike the others'.

Numbers per language in, one concern or none out. A share is bad where the whole of its interval is: a handful of
prompts says nothing. Thresholds say why they are where they are; what they did on real runs is in
docs/troubleshooting.md. Knows no files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import atanh, sqrt, tanh
from statistics import median

from crossward.core.answer_concerns import in_order, shares_told, within
from crossward.core.chance import Share, farthest_by_chance
from crossward.core.concerns import Concern, shortened

# One response in ten: with the paper's ten responses every prompt loses one, and the longest ones are lost first.
CUT_RESPONSES = 0.1
# One response in ten in another language: the policy then leaves the language by itself, and the filter is what keeps
# pairs clean. Identifiers err on far fewer whole responses.
FOREIGN = 0.1
# Three in ten said twice: ten responses are then seven, and best and worst of seven lie 12 % closer than of ten.
DUPLICATES = 0.3
MORE_DUPLICATES = 0.1  # more than in iteration 1, beyond both intervals: diversity is on its way down
NO_CHOICE = 0.1  # of the prompts without a pair because their responses are equal or equally scored
# A quarter of the spread that iteration 1 had. The tiny world's healthiest recipe ends at a half.
SPREAD_LEFT = 0.25
FEW_PROMPTS = 20  # fewer say nothing of a mean
# Chosen and rejected differ by a quarter of their length: in the sound runs of the tiny world the largest is 0.21.
GAP = 0.25
SIDED = 0.6  # and it is no matter of a few long ones: 6 of 10 pairs lean the same way
# Log-ratio and length share a quarter of their variance (0.5² = 0.25) at the least, where nothing controls length.
CORRELATED = 0.5
# One pair in ten is a coin flip: its label is as likely wrong as right.
NOISY_PAIRS = 0.1
RESPONSES = "prompts' responses"
LEAST_FOR_ALPHA = 4  # languages: of three, two always agree against one
# α moves a response of mean length by this much of the usual spread of scores more than elsewhere: it decides pairs.
ALPHA_MATTERS = 0.5
# α leaves more than a tenth of a response between chosen and rejected: it does not do its work.
GAP_LEFT = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLengths:
    """The pairs of one language: how many, in how many the chosen is longer or shorter, mean gap and length (chars)."""

    n: int
    longer: int
    shorter: int
    gap: float
    mean: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Controlled:
    """Length control in one language: α, its unit's mean length of a response, mean spread of scores, gap left by α."""

    n: int
    alpha: float
    mean_length: float
    spread: float
    gap_left: float

    @property
    def weight(self) -> float:
        """α times a response's mean length over the spread: comparable between scripts, unlike α itself."""
        return self.alpha * self.mean_length / self.spread if self.spread else 0.0


def cut_responses(where: str, cut: Mapping[str, Share], *, max_new_tokens: int) -> Concern | None:
    """Sampled responses that the limit of tokens cut."""
    many = within(cut, lambda share: share.low > CUT_RESPONSES)
    if not many:
        return None
    return Concern(
        kind="truncation",
        where=where,
        languages=in_order(many),
        seen=f"responses cut at sample.max_new_tokens {max_new_tokens}: {shares_told(many, of=RESPONSES)}",
        why=(
            "cut responses are never paired, so pairs are made of the short ones alone and the policy learns brevity "
            "where it was asked for more; sampling them was paid for"
        ),
        advice="raise sample.max_new_tokens, or take prompts with shorter answers; if responses loop, mend that first",
    )


def foreign_responses(where: str, foreign: Mapping[str, Share]) -> Concern | None:
    """Responses that the language filter removed."""
    many = within(foreign, lambda share: share.low > FOREIGN)
    if not many:
        return None
    return Concern(
        kind="language-drift",
        where=where,
        languages=in_order(many),
        seen=f"responses removed because they are in another language: {shares_told(many, of=RESPONSES)}",
        why=(
            "the policy leaves the language by itself: its held-out answers do the same, and of prompts with few "
            "responses left the pairs are poor"
        ),
        advice=(
            "look at some (crossward show); raise sample.n so that enough stay; lower sample.temperature; if the "
            "start policy hardly speaks the language, fine-tune it there first"
        ),
    )


def collapsed(
    where: str, duplicates: Mapping[str, Share], *, first: Mapping[str, Share], no_choice: Mapping[str, Share]
) -> Concern | None:
    """Responses that say the same as another one, `first`: in iteration 1; and prompts that gave no choice for it."""
    many = within(duplicates, lambda share: share.low > DUPLICATES)
    rising = {
        code: share
        for code, share in duplicates.items()
        if code in first and share.low > first[code].high and share.part - first[code].part >= MORE_DUPLICATES
    }
    none = within(no_choice, lambda share: share.low > NO_CHOICE)
    parts = [f"duplicates among the responses: {shares_told(many | rising, of=RESPONSES)}"] if many or rising else []
    parts += (
        [f"in iteration 1 they were {shares_told({code: first[code] for code in rising}, of=RESPONSES)}"]
        if rising
        else []
    )
    parts += [f"prompts whose responses are equal or score equally: {shares_told(none)}"] if none else []
    if not parts:
        return None
    return Concern(
        kind="collapsed-diversity",
        where=where,
        languages=tuple(dict.fromkeys([*in_order(many | rising), *in_order(none)])),
        seen="; ".join(parts),
        why=(
            "best and worst of responses that are alike differ by accident; a policy that has lost its diversity "
            "gives the next iteration nothing to learn from"
        ),
        advice=(
            "raise sample.temperature or sample.n; stop after fewer iterations; try a higher train.beta, a lower "
            "train.learning_rate or fewer train.epochs; short factual prompts have one answer and are better left out"
        ),
    )


def collapsed_spread(where: str, now: Mapping[str, Share], *, first: Mapping[str, Share]) -> Concern | None:
    """Mean best-minus-worst log-ratio (nats, in `part`) that has fallen to a quarter of iteration 1's."""
    low = {
        code: spread
        for code, spread in now.items()
        if code in first
        and min(spread.n, first[code].n) >= FEW_PROMPTS
        and spread.part < SPREAD_LEFT * first[code].part
    }
    if not low:
        return None
    order = sorted(low, key=lambda code: low[code].part / first[code].part)
    told = shortened([f"{code} {first[code].part:.3g} → {low[code].part:.3g}" for code in order])
    return Concern(
        kind="reward-drift",
        where=where,
        languages=tuple(order),
        seen=f"the reward hardly tells responses apart any more; mean spread in nats, iteration 1 → now: {told}",
        why="margins shrink toward the noise floor, and the pairs then train on accidents",
        advice=(
            "stop at the iteration before; or give reward.policy: initial, fewer train.epochs, a lower "
            "train.learning_rate; compare the spread with the noise floor in the report"
        ),
    )


def length_gap(
    where: str, pairs: Mapping[str, PairLengths], *, correlations: Mapping[str, Share], controlled: bool
) -> Concern | None:
    """Chosen responses that are longer (or shorter) than rejected ones, after control.

    And, where nothing is `controlled`, a log-ratio that goes with length within prompts (−1 to 1, in `part`, over `n`
    prompts).
    """
    sided = {code: found for code, found in pairs.items() if _is_sided(found)}
    linked = {} if controlled else {code: found for code, found in correlations.items() if _is_linked(found)}
    if not sided and not linked:
        return None
    order = sorted(sided, key=lambda code: -abs(sided[code].gap) / sided[code].mean)
    told = [
        f"{code} {sided[code].gap:+.0f} of {sided[code].mean:.0f} characters, longer in {sided[code].longer} and "
        f"shorter in {sided[code].shorter} of {sided[code].n} pairs"
        for code in order
    ]
    parts = [f"chosen and rejected differ in length: {shortened(told, 5)}"] if told else []
    links = shortened([f"{code} {found.part:+.2f}" for code, found in sorted(linked.items())])
    parts += [f"log-ratio and length go together within prompts (correlation): {links}"] if linked else []
    return Concern(
        kind="length-exploitation",
        where=where,
        languages=tuple(dict.fromkeys([*order, *sorted(linked)])),
        seen="; ".join(parts),
        why="the pairs teach length before they teach anything else, and every iteration adds to it",
        advice=(
            "length control takes the mean gap away and is on: bound responses with pair.max_characters and "
            "pair.min_characters"
            if controlled
            else "switch length control on: pair.length_unit: tokens (or characters, as in the paper)"
        ),
    )


def _is_sided(found: PairLengths) -> bool:
    apart = found.longer + found.shorter
    if not found.mean or not apart or abs(found.gap) < GAP * found.mean:
        return False
    leaning = found.longer if found.gap > 0 else found.shorter
    return Share(part=leaning / apart, n=apart).low > SIDED


def _is_linked(found: Share) -> bool:
    """The correlation's interval (Fisher's z over prompts) lies beyond CORRELATED, on either side."""
    if found.n < FEW_PROMPTS or abs(found.part) >= 1:
        return found.n >= FEW_PROMPTS
    return tanh(atanh(abs(found.part)) - 1.96 / sqrt(found.n - 3)) > CORRELATED


def below_noise(where: str, under: Mapping[str, Share], *, margins: Mapping[str, float]) -> Concern | None:
    """Pairs whose margin lies under the noise floor's margin of their language (nats)."""
    many = within(under, lambda share: share.low > NOISY_PAIRS)
    if not many:
        return None
    floors = ", ".join(f"{code} {margins[code]:.2g}" for code in in_order(many)[:8])
    return Concern(
        kind="below-noise",
        where=where,
        languages=in_order(many),
        seen=f"pairs whose margin is under the noise floor ({floors} nats): {shares_told(many, of='pairs')}",
        why=(
            "responses that are equally good differ by that much through rounding alone, so which one is chosen is "
            "a coin flip; training on wrong labels costs more than it teaches"
        ),
        advice=(
            "set pair.min_margin: auto, which leaves them out and counts them; or models.dtype: float32; or raise "
            "sample.n, which widens margins"
        ),
    )


def alpha_at_odds(where: str, languages: Mapping[str, Controlled], *, unit: str) -> Concern | None:
    """An α that weighs length quite otherwise than the other languages', or leaves a length gap."""
    enough = {code: found for code, found in languages.items() if found.n >= FEW_PROMPTS}
    odd = _odd(enough)
    left = {
        code: found
        for code, found in enough.items()
        if found.mean_length and abs(found.gap_left) > GAP_LEFT * found.mean_length
    }
    if not odd and not left:
        return None
    usual = median(found.weight for found in enough.values())
    parts = [
        "α × mean length ÷ spread of scores is far from the other languages' "
        f"(median {usual:+.2f}): " + shortened([f"{code} {enough[code].weight:+.2f}" for code in odd])
    ] * bool(odd)
    parts += [
        f"α leaves a length gap, in {unit}: "
        + shortened([f"{code} {left[code].gap_left:+.1f} of {left[code].mean_length:.0f}" for code in sorted(left)])
    ] * bool(left)
    return Concern(
        kind="alpha-at-odds",
        where=where,
        languages=tuple(dict.fromkeys([*odd, *sorted(left)])),
        seen="; ".join(parts),
        why=(
            "length is paid for there in another way than elsewhere: often a sign of loops, of answers cut or in "
            "another language, or of a tokenizer that splits the script into bytes (α alone differs between scripts, "
            "as a character of Chinese says more than one of Spanish: that is taken out here)"
        ),
        advice=(
            "read some pairs of these languages (crossward show); try pair.length_unit: tokens; if a gap is left, set "
            "pair.alpha_search: exact (the published grid knows no negative α) or take more prompts"
        ),
    )


def _odd(languages: Mapping[str, Controlled]) -> list[str]:
    """Farther from the median than chance takes one of so many, or alone of its sign; and so far that it matters."""
    if len(languages) < LEAST_FOR_ALPHA:
        return []
    weights = {code: found.weight for code, found in languages.items()}
    middle = median(weights.values())
    scale = 1.4826 * median(abs(weight - middle) for weight in weights.values())
    limit = max(farthest_by_chance(len(weights)) * scale, ALPHA_MATTERS)
    odd = [code for code, weight in weights.items() if abs(weight - middle) > limit or _alone(code, weights, middle)]
    return sorted(odd, key=lambda code: -abs(weights[code] - middle))


def _alone(code: str, weights: Mapping[str, float], middle: float) -> bool:
    """The only one of its sign, not by a hair, and far enough from the median to matter."""
    others = [weight > 0 for other, weight in weights.items() if other != code]
    own = weights[code] > 0
    clear = abs(weights[code]) > ALPHA_MATTERS / 2 and abs(weights[code] - middle) > ALPHA_MATTERS
    return clear and own not in others
