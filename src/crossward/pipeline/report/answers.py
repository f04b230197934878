"""The report's section on answers to held-out prompts: what they show by themselves, policy by policy."""

from collections.abc import Sequence
from typing import Any

from crossward.core.answer_measures import UNSURE
from crossward.pipeline.report.tables import cell, table
from crossward.store.manifest import StageManifest

NOTE = (
    "Means with 95 % intervals over prompts; definitions: docs/measures.md. Empty, truncated, looping: shares of "
    "answers. Repetition: share of 12-character pieces that were said before. Fidelity: share of answers in the "
    "language of their prompt, among those whose language could be told. Code-switching: share, by characters, of "
    "sentences surely in another language. chrF: 0 to 100, likeness to the reference answers. A dash: not measured."
)
CONFUSION = "Answers by the language that was asked for (rows) and the one that was identified (columns)."
_TABLES = (
    ("n_chars", "empty", "truncated", "repetition", "looping"),
    ("fidelity", "code_switching", "chrf"),
)
_NAMES = {"n_chars": "characters", "code_switching": "code-switching", "chrf": "chrF"}
Evaluated = Sequence[tuple[str, StageManifest]]  # policies by name, in order


def answers_section(done: Evaluated) -> str:
    """Tables of all policies; empty where none has answered."""
    if not done:
        return ""
    measured = [(policy, language, counts) for policy, found in done for language, counts in found.by_language]
    parts = ["## Answers to held-out prompts"]
    for names in _TABLES:
        header = ["policy", "language", "answers", *(_NAMES.get(name, name) for name in names)]
        rows = [
            [policy, language, counts.get("answers"), *(_mean(counts, name) for name in names)]
            for policy, language, counts in measured
        ]
        parts.append(table(header, rows))
    parts.append(NOTE)
    if told := [item for item in measured if "identified_as" in item[2]]:
        parts += [confusion_table(told), CONFUSION]
    return "\n\n".join(parts)


def confusion_table(told: Sequence[tuple[str, str, dict[str, Any]]]) -> str:
    """One row per (policy, asked language), one column per identified language, what could not be told last."""
    codes = {code for _, _, counts in told for code in counts["identified_as"]} - {UNSURE}
    columns = [*sorted(codes), UNSURE]
    rows = [
        [policy, language, *(counts["identified_as"].get(code, 0) for code in columns)]
        for policy, language, counts in told
    ]
    return table(["policy", "asked for", *columns], rows)


def _mean(counts: dict[str, Any], name: str) -> str | None:
    found = counts.get("measures", {}).get(name)
    if found is None:
        return None
    shown = f"{cell(found['estimate'])} [{cell(found['low'])}, {cell(found['high'])}]"
    return shown if found["n_answers"] == counts["answers"] else f"{shown} of {found['n_answers']}"
