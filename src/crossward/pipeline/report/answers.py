"""The report's sections on answers to held-out prompts: what they show by themselves, policy by policy."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from crossward.core.answer_measures import UNSURE
from crossward.engines.charts import Heat, Intervals, Mark
from crossward.pipeline.report.blocks import Block, Figure, Section, Words, table
from crossward.pipeline.report.tables import cell
from crossward.store.manifest import StageManifest

NOTE = (
    "Means with 95 % intervals over prompts; definitions: docs/measures.md. Empty, truncated, looping: shares of "
    "answers. Repetition: share of 12-character pieces that were said before. Fidelity: share of answers in the "
    "language of their prompt, among those whose language could be told. Code-switching: share, by characters, of "
    "sentences surely in another language. chrF: 0 to 100, likeness to the reference answers. A dash: not measured."
)
CONFUSION = "Answers by the language that was asked for (rows) and the one that was identified (columns)."
UNTOLD = "No identifier was asked for the language of the answers (pair.language_filter: none)."
MOST_COLUMNS, OTHERS = 24, "others"
_TABLES = (
    ("n_chars", "empty", "truncated", "repetition", "looping"),
    ("fidelity", "code_switching", "chrf"),
)
_NAMES = {"n_chars": "characters", "code_switching": "code-switching", "chrf": "chrF"}
Evaluated = Sequence[tuple[str, StageManifest]]  # policies by name, in order
Measured = Sequence[tuple[str, str, dict[str, Any]]]  # policy, language, its counts


def answers_section(done: Evaluated) -> Section | None:
    """Lengths as a chart, and tables of all policies; None where none has answered."""
    if not done:
        return None
    measured = measured_of(done)
    blocks: list[Block] = [*length_figure(measured)]
    for names in _TABLES:
        header = ["policy", "language", "answers", *(_NAMES.get(name, name) for name in names)]
        rows = [
            [policy, language, counts.get("answers"), *(_mean(counts, name) for name in names)]
            for policy, language, counts in measured
        ]
        blocks.append(table(header, rows))
    blocks.append(Words(text=NOTE, tone="note"))
    return Section(anchor="answers", title="Answers to held-out prompts", blocks=tuple(blocks))


def languages_section(done: Evaluated) -> Section | None:
    """In which language each policy answered; None where none has answered."""
    if not done:
        return None
    told = [item for item in measured_of(done) if "identified_as" in item[2]]
    blocks: list[Block] = [Words(text=UNTOLD, tone="note")]
    if told:
        blocks = [confusion_figure(policy, told) for policy in dict.fromkeys(item[0] for item in told)]
        blocks.append(Words(text=CONFUSION, tone="note"))
    return Section(anchor="languages", title="Language of the answers", blocks=tuple(blocks))


def measured_of(done: Evaluated) -> list[tuple[str, str, dict[str, Any]]]:
    """Every policy and language with its counts."""
    return [(policy, language, counts) for policy, found in done for language, counts in found.by_language]


def length_figure(measured: Measured) -> list[Figure]:
    """Mean length of the answers, a row a language; nothing where it was not measured."""
    marks = []
    for policy, language, counts in measured:
        if (found := counts.get("measures", {}).get("n_chars")) is not None:
            mark = Mark(place=language, series=policy, value=found["estimate"], low=found["low"], high=found["high"])
            marks.append(mark)
    if not marks:
        return []
    rows = [[mark.place, mark.series, mark.value, mark.low, mark.high] for mark in marks]
    chart = Intervals(title="Length of the answers", axis="characters, mean", marks=tuple(marks))
    return [Figure(chart=chart, table=table(["language", "policy", "characters", "low", "high"], rows))]


def confusion_figure(policy: str, told: Measured) -> Figure:
    """One policy's answers: share of each identified language in every asked one."""
    columns = _columns(told)
    own = [
        (language, {**counts["identified_as"], OTHERS: _others(counts["identified_as"], columns)})
        for name, language, counts in told
        if name == policy
    ]
    marks = tuple(
        Mark(place=language, series=code, value=found.get(code, 0) / (sum(found.get(c, 0) for c in columns) or 1))
        for language, found in own
        for code in columns
    )
    rows = [[language, *(found.get(code, 0) for code in columns)] for language, found in own]
    chart = Heat(title=f"Answers of {policy}", row_axis="asked for", column_axis="identified, % of row", marks=marks)
    return Figure(chart=chart, table=table(["asked for", *columns], rows))


def _columns(told: Measured) -> list[str]:
    """The languages that were identified, the commonest where they are many, the others together."""
    seen: Counter[str] = Counter()
    for _, _, counts in told:
        seen.update(counts["identified_as"])
    del seen[UNSURE]
    shown = sorted(code for code, _ in seen.most_common(MOST_COLUMNS))
    return [*shown, *([OTHERS] if len(seen) > MOST_COLUMNS else []), UNSURE]


def _others(found: Mapping[str, int], columns: Sequence[str]) -> int:
    return sum(n for code, n in found.items() if code not in columns)


def _mean(counts: dict[str, Any], name: str) -> str | None:
    found = counts.get("measures", {}).get(name)
    if found is None:
        return None
    shown = f"{cell(found['estimate'])} [{cell(found['low'])}, {cell(found['high'])}]"
    return shown if found["n_answers"] == counts["answers"] else f"{shown} of {found['n_answers']}"
