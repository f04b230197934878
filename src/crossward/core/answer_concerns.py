"""Concerns about what a policy answers: another language than asked for, much longer, cut, worse in English.

Numbers per language in, one concern or none out; `languages` are in order of how bad they are. Every rule asks two
things: is it beyond chance, and is it large enough to matter. Thresholds say why they are where they are; what they
did on real runs is in docs/troubleshooting.md. Knows no files.
"""

from collections.abc import Callable, Mapping, Sequence

from crossward.core.chance import Paired, Share
from crossward.core.concerns import Concern, shortened

# Of all answers: under this a change is real perhaps, but no reader of the answers would notice it.
DRIFT = 0.03
# Nine in ten in the language asked for: identifiers of neighbouring languages (no and da, hr and sr) do better than
# that on whole answers, so less is the model's doing.
FAITHFUL = 0.9
# A tenth longer is the most that any sound run of the tiny world grew.
LONGER = 1.25
# One answer in twenty that stops in mid-sentence is lost with any judge: about the effect that people hope to see.
CUT_ANSWERS = 0.05


def language_drift(
    where: str, *, base: str, fidelity: Mapping[str, Paired], switching: Mapping[str, Paired]
) -> Concern | None:
    """Answers that leave the language of their prompt more than the policy named `base` did, prompt by prompt.

    Both measures are 0 to 1: fidelity falls, code-switching rises.
    """
    tests = len(fidelity) + len(switching)
    fell = {code: found for code, found in fidelity.items() if found.change <= -DRIFT and found.fell(tests=tests)}
    rose = {code: found for code, found in switching.items() if found.change >= DRIFT and found.rose(tests=tests)}
    worst = sorted(fell.keys() | rose.keys(), key=lambda code: -_drift(code, fell, rose))
    if not worst:
        return None
    parts = [f"answers in the language asked for fell against {base}: {_moved(fell, worst)}"] if fell else []
    parts += [f"text in other languages within answers rose against {base}: {_moved(rose, worst)}"] if rose else []
    return Concern(
        kind="language-drift",
        where=where,
        languages=tuple(worst),
        seen="; ".join(parts),
        why=(
            "the reward reads the English twin of a prompt, so fluent text in another language can score well and "
            "training then teaches it; such answers are useless to who asked, however good a judge finds them"
        ),
        advice=(
            "let pair.language_filter (lingua) leave such responses out, or lower pair.language_confidence; keep "
            "reward.steering's line that asks for the language; try fewer train.epochs or a lower train.learning_rate"
        ),
    )


def _drift(code: str, fell: Mapping[str, Paired], rose: Mapping[str, Paired]) -> float:
    return max(
        -fell[code].change if code in fell else 0.0,
        rose[code].change if code in rose else 0.0,
    )


def unfaithful(where: str, fidelity: Mapping[str, Share]) -> Concern | None:
    """Answers that are mostly not in the language asked for, whoever is to blame; shares of prompts."""
    low = {code: share for code, share in fidelity.items() if share.high < FAITHFUL}
    if not low:
        return None
    return Concern(
        kind="language-drift",
        where=where,
        languages=tuple(sorted(low, key=lambda code: low[code].part)),
        seen=f"fewer than {FAITHFUL:.0%} of the answers are in the language asked for: {shares_told(low)}",
        why=(
            "an answer in another language is no answer, and pairs made of such responses teach it; where the start "
            "policy does it too, it is a lack of the model and not of this run"
        ),
        advice=(
            "read some answers (evaluate/model_outputs); if the identifier errs between neighbouring languages, leave "
            "it; else align or fine-tune the start policy in these languages first, and keep pair.language_filter on"
        ),
    )


def longer_answers(where: str, *, base: str, characters: Mapping[str, Paired]) -> Concern | None:
    """Answers that grew, or shrank, by a quarter against the policy named `base`; mean characters of each prompt."""
    changed = {code: found for code, found in characters.items() if _is_longer(found, len(characters))}
    if not changed:
        return None
    worst = sorted(changed, key=lambda code: -abs(changed[code].change) / max(changed[code].before, 1.0))
    grew = sum(found.change > 0 for found in changed.values())
    direction = "longer" if grew == len(changed) else "shorter" if not grew else "longer or shorter"
    lengths = "; ".join(f"{code} {changed[code].before:.0f} → {changed[code].after:.0f}" for code in worst[:8])
    return Concern(
        kind="length-exploitation",
        where=where,
        languages=tuple(worst),
        seen=f"answers are much {direction} than those of {base}, in mean characters: {lengths}",
        why=(
            "the reward is a sum over tokens and can rise by brevity alone: answers that leave things out may score "
            "well and are worse"
            if not grew
            else "the reward is a sum over tokens and can rise by length alone, and judges favour long answers: a gain "
            "in win rate may then be nothing but length"
        ),
        advice=(
            "look at the length-controlled win rate, not the raw one; set pair.length_unit to tokens or characters; "
            "bound responses with pair.max_characters and pair.min_characters; try a higher train.beta"
        ),
    )


def _is_longer(found: Paired, tests: int) -> bool:
    if not found.before:
        return False
    ratio = found.after / found.before
    return (ratio >= LONGER and found.rose(tests=tests)) or (ratio <= 1 / LONGER and found.fell(tests=tests))


def cut_answers(where: str, cut: Mapping[str, Share], *, max_new_tokens: int) -> Concern | None:
    """Held-out answers that the limit of tokens cut; shares of prompts."""
    many = {code: share for code, share in cut.items() if share.low > CUT_ANSWERS}
    if not many:
        return None
    return Concern(
        kind="truncation",
        where=where,
        languages=in_order(many),
        seen=f"answers cut at evaluate.max_new_tokens {max_new_tokens}: {shares_told(many)}",
        why=(
            "a judge compares beginnings with whole answers, and lengths and repetition are those of stumps; scripts "
            "that cost more tokens a word are cut more, so languages are no longer comparable"
        ),
        advice="raise evaluate.max_new_tokens; if answers end in loops, mend that first (looping, in the same tables)",
    )


def english_regressed(where: str, drops: Sequence[str], *, tests: int, few: bool) -> Concern | None:
    """What the English guard found, a sentence a drop; `few`: of so few prompts that intervals are too narrow."""
    if not drops:
        return None
    caveat = ", of few prompts: take it for a hint" if few else ""
    return Concern(
        kind="english-regressed",
        where=where,
        languages=("en",),
        seen=f"English dropped against iteration 0{caveat} ({tests} measures tested): {'; '.join(drops)}",
        why=(
            "English is where the alignment comes from: what it loses the next iteration's reward has lost too, and "
            "users of English pay for the other languages"
        ),
        advice=(
            "keep en among languages, so that English pairs hold it; mix preferences in with train.replay; try a "
            "lower train.learning_rate, a higher train.beta, or train.reference: initial"
        ),
    )


def english_not_evaluated(languages: Sequence[str]) -> Concern:
    """English is not evaluated: what it loses will not be known."""
    return Concern(
        kind="english-regressed",
        where="check",
        languages=("en",),
        seen=f"English is not among the evaluated languages ({shortened(languages)}): what it loses will not be known",
        why="training on other languages can cost English, and nothing else in the run would show it",
        advice="name en in evaluate.languages (or leave that key out and name en in languages), with its prompts",
    )


# Words ----------------------------------------------------------------------------------------------------------------


def in_order(shares: Mapping[str, Share]) -> tuple[str, ...]:
    """Largest share first; the code decides between equals."""
    return tuple(sorted(shares, key=lambda code: (-shares[code].part, code)))


def shares_told(shares: Mapping[str, Share], *, of: str = "prompts") -> str:
    """ "de 31 % of 200 prompts, fr 28 % …", the largest first."""
    told = [f"{code} {shares[code].part:.1%} of {shares[code].n} {of}" for code in in_order(shares)]
    return shortened(told)


def _moved(found: Mapping[str, Paired], order: Sequence[str]) -> str:
    return shortened([f"{code} {found[code].before:.1%} → {found[code].after:.1%}" for code in order if code in found])


def within(shares: Mapping[str, Share], is_bad: Callable[[Share], bool]) -> dict[str, Share]:
    """The languages whose share is bad."""
    return {code: share for code, share in shares.items() if is_bad(share)}
