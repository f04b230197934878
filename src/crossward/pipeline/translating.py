"""Texts through a translator until they have no problem: rounds of attempts, checks, what is kept, what is counted.

Equal texts are asked for once. What was said is kept under (translator, languages, text, attempt), window by window;
a window is asked as a whole, so that what shares a batch, and with it every rounding, is independent of where a stop
cut the work. Checks are made again each time: they cost little. Nothing here knows prompts or files.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from crossward.core.translation import Translation, problems, prose_of
from crossward.engines.protocols import Advance, KeptRows, LanguageIdentifier, Translator, no_progress
from crossward.pipeline.streams import SAMPLE_WINDOW, windows

FINAL = ("too-long", "refused", "no-answer")  # another attempt would end the same way, in this run
Attempts = Mapping[str, Sequence[Translation]]  # by text, every attempt at it; only the last may have no problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Translating:
    """From which language into which, and what is held against a translation.

    `checks` off: only an answer without a translation has a problem. Without an `identifier` nobody asks in which
    language a translation is. `window`: texts that are asked for together.
    """

    source: str
    target: str
    identifier: LanguageIdentifier | None = None
    checks: bool = True
    window: int = SAMPLE_WINDOW


def translate_texts(
    translator: Translator,
    texts: Sequence[str],
    *,
    source: str,
    target: str,
    attempts: int,
    identifier: LanguageIdentifier | None = None,
    checks: bool = True,
    kept: KeptRows | None = None,
    window: int = SAMPLE_WINDOW,
    advance: Advance = no_progress,
) -> list[Translation]:
    """A translation of each text, or why there is none after `attempts`; `advance` counts first attempts.

    Where source and target are one language, and where a text is blank, the text is its own translation.
    """
    how = Translating(source=source, target=target, identifier=identifier, checks=checks, window=window)
    own = [text for text in texts if source == target or not text.strip()]
    asked = list(dict.fromkeys(text for text in texts if source != target and text.strip()))
    advance(len(texts) - len(asked))

    def ask(pending: Sequence[str], attempt: int) -> list[Translation]:
        return ask_round(translator, pending, attempt, how, kept=kept, advance=no_progress if attempt else advance)

    found = rounds(asked, attempts, ask)
    last = {text: Translation(text=text) for text in own} | {text: tried[-1] for text, tried in found.items()}
    return [last[text] for text in texts]


def rounds(
    texts: Sequence[str], attempts: int, ask: Callable[[Sequence[str], int], Sequence[Translation]]
) -> dict[str, list[Translation]]:
    """Every attempt at every text: `ask` is given those that still have a problem, and which attempt it is (from 0)."""
    tried: dict[str, list[Translation]] = {text: [] for text in texts}
    pending = list(tried)
    for attempt in range(attempts):
        if not pending:
            break
        for text, found in zip(pending, ask(pending, attempt), strict=True):
            tried[text].append(found)
        pending = [text for text in pending if tried[text][-1].text is None and tried[text][-1].problem not in FINAL]
    return tried


def ask_round(
    translator: Translator,
    texts: Sequence[str],
    attempt: int,
    how: Translating,
    *,
    kept: KeptRows | None = None,
    advance: Advance = no_progress,
) -> list[Translation]:
    """One attempt at each of different texts, checked."""
    found: list[Translation] = []
    for window in windows(texts, how.window):
        found += _checked(window, _said(translator, window, attempt, how, kept, advance), how)
    return found


@dataclass(slots=True, kw_only=True)
class TranslationTally:
    """What became of texts in one language; `reasons` are the last ones of those that failed."""

    n: int = 0
    translated: int = 0
    retried: int = 0  # of the translated: not at the first attempt
    reasons: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)  # failed ones, of all texts, by reason

    def add(self, tried: Sequence[Translation]) -> None:
        """Count a text by its attempts."""
        self.n += 1
        if (problem := tried[-1].problem) is None:
            self.translated += 1
            self.retried += len(tried) > 1
        else:
            self.reasons[problem] += 1
        self.attempts.update(one.problem for one in tried if one.problem is not None)

    def counts(self) -> dict[str, Any]:
        """As plain values, the most frequent reason first."""
        return {
            "n_prompts": self.n,
            "n_translated": self.translated,
            "n_retried": self.retried,
            "n_failed": self.n - self.translated,
            "failed": dict(self.reasons.most_common()),
            "failed_attempts": dict(self.attempts.most_common()),
        }


def shown_round(
    translator: Translator,
    how: Translating,
    *,
    kept: KeptRows | None,
    task: Callable[[str, int], AbstractContextManager[Advance]],
) -> Callable[[Sequence[str], int], list[Translation]]:
    """`ask` for `rounds`, each round as a task of its own."""

    def ask(pending: Sequence[str], attempt: int) -> list[Translation]:
        again = f", attempt {attempt + 1}" if attempt else ""
        with task(f"translations into {how.target}{again}", len(pending)) as advance:
            return ask_round(translator, pending, attempt, how, kept=kept, advance=advance)

    return ask


def _said(
    translator: Translator,
    texts: Sequence[str],
    attempt: int,
    how: Translating,
    kept: KeptRows | None,
    advance: Advance,
) -> list[Translation]:
    """What the translator says to a window of texts: kept, or asked for as a whole."""
    keys = [_key(translator, text, attempt, how) for text in texts]
    rows = [None if kept is None else kept.get(key) for key in keys]
    found = [_translation_of(row) for row in rows if row is not None]
    if len(found) == len(texts):
        advance(len(texts))
        return found
    said = translator.translate(texts, source=how.source, target=how.target, attempt=attempt, advance=advance)
    for key, text, row, one in zip(keys, texts, rows, said, strict=True):
        new = _row_of(one, text, attempt, how)
        if kept is not None and new != row and one.problem != "no-answer":  # which the next run asks for again
            kept.put(key, new)
    return said


def _checked(texts: Sequence[str], said: Sequence[Translation], how: Translating) -> list[Translation]:
    if not how.checks:
        return list(said)
    # A language that the identifier does not know would be called something else.
    asks = how.identifier is not None and how.target not in how.identifier.unsupported
    languages: list[Any] = [None] * len(said)
    if asks and how.identifier is not None:
        languages = how.identifier.identify([prose_of(one.text or "") for one in said])
    checked = []
    for text, one, language in zip(texts, said, languages, strict=True):
        if one.text is not None:
            found = problems(text, one.text, source=how.source, target=how.target, identified=language)
            if found:
                one = Translation(text=None, problem=found[0], draft=one.text, also=found[1:])
        checked.append(one)
    return checked


def _key(translator: Translator, text: str, attempt: int, how: Translating) -> str:
    asked = [translator.identity, how.source, how.target, attempt, text]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _row_of(one: Translation, text: str, attempt: int, how: Translating) -> dict[str, Any]:
    """A row for people too: the text is cut, its hash is in the key."""
    return {
        "source": how.source,
        "target": how.target,
        "attempt": attempt,
        "of": text[:80],
        "translation": one.text,
        "problem": one.problem,
        "draft": one.draft,
    }


def _translation_of(row: dict[str, Any]) -> Translation:
    return Translation(text=row["translation"], problem=row["problem"], draft=row["draft"])
