"""Where exported pairs come from: the finished pairs of a run, or a file of pairs; each language as a stream, counted.

Nothing is written here, and no format is known.
"""

import math
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from crossward.core.exported import ExportedPair, exported_pair
from crossward.core.records import Skipped
from crossward.pipeline.exports.exported_run import ExportedRun
from crossward.store import tables
from crossward.store.json_fields import shown
from crossward.store.json_lines import JsonLines, Row
from crossward.store.pair_rows import pair_of

OPTIONAL = frozenset({"iteration", "english_instruction", "chosen_score", "rejected_score", "alpha"})
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,34}")


@dataclass(slots=True, kw_only=True)
class Tally:
    """What became of one language: pairs written, those with a cut response, and what was left out, by reason."""

    n_pairs: int = 0
    n_cut: int = 0
    skipped: Counter[str] = field(default_factory=Counter)

    def counts(self) -> dict[str, Any]:
        """As plain values."""
        return {"n_pairs": self.n_pairs, "n_cut": self.n_cut, "skipped": dict(sorted(self.skipped.items()))}


class PairSource(Protocol):
    """Pairs by language; `tallies` count what was read through `of`."""

    tallies: dict[str, Tally]

    @property
    def languages(self) -> list[str]: ...

    @property
    def known(self) -> frozenset[str]:
        """Which of OPTIONAL some pair has: a column that no pair has is not written."""
        ...

    def of(self, language: str) -> Iterator[ExportedPair]:
        """The pairs of one language, one in memory at a time."""
        ...


@dataclass(kw_only=True)
class RunPairs:
    """The finished pairs of some iterations of a run. A stage's own skips are counted by their reason."""

    run: ExportedRun
    iterations: tuple[int, ...]
    only: tuple[str, ...] = ()
    min_margin: float | None = None
    tallies: dict[str, Tally] = field(default_factory=dict)

    @property
    def languages(self) -> list[str]:
        found = {path.stem for t in self.iterations for path in self.run.pair_stage(t).language_files()}
        return _chosen(sorted(found), self.only, str(self.run.root))

    @property
    def known(self) -> frozenset[str]:
        return OPTIONAL

    def of(self, language: str) -> Iterator[ExportedPair]:
        tally = self.tallies.setdefault(language, Tally())
        for t in self.iterations:
            path = self.run.pair_stage(t).language_file(language)
            if not path.exists():
                continue
            for outcome in tables.stream_outcomes(path):
                if isinstance(outcome, Skipped):
                    tally.skipped[outcome.reason] += 1
                elif kept := _kept(exported_pair(outcome, t), self.min_margin, tally, str(path)):
                    yield kept


@dataclass(kw_only=True)
class FilePairs:
    """The pairs of a JSON Lines file, ours or another tool's; it is read twice, once for the languages."""

    rows: JsonLines
    only: tuple[str, ...] = ()
    min_margin: float | None = None
    tallies: dict[str, Tally] = field(default_factory=dict)
    _places: dict[str, tuple[array, array]] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)

    @property
    def languages(self) -> list[str]:
        self._look()
        return _chosen(sorted(self._places), self.only, str(self.rows.path))

    @property
    def known(self) -> frozenset[str]:
        self._look()
        return frozenset(self._known)

    def _look(self) -> None:
        """The first reading: where the lines of each language begin, and what their pairs hold."""
        if self._places:
            return
        for number, offset, row in self.rows:
            pair = exported_row(row, f"{self.rows.path}, line {number}", number)
            numbers, offsets = self._places.setdefault(pair.language, (array("q"), array("q")))
            numbers.append(number)
            offsets.append(offset)
            self._known |= {name for name in OPTIONAL if row.get(name) not in (None, "")}
        self._known.discard("iteration")  # a file's own column of that name is not ours

    def of(self, language: str) -> Iterator[ExportedPair]:
        self._look()
        tally = self.tallies.setdefault(language, Tally())
        for number, offset in zip(*self._places[language], strict=True):
            where = f"{self.rows.path}, line {number}"
            pair = exported_row(self.rows.at(number, offset), where, number)
            if kept := _kept(pair, self.min_margin, tally, where):
                yield kept


@contextmanager
def opened_pairs(
    source: Path, *, iterations: Sequence[int], languages: Sequence[str], min_margin: float | None
) -> Iterator[RunPairs | FilePairs]:
    """The pairs of a run's folder or of a .jsonl file. Raises ValueError where `source` is neither."""
    if min_margin is not None and not 0 <= min_margin < math.inf:
        raise ValueError(f"--min-margin must be 0 or more, got {min_margin}")
    if source.is_dir():
        run = ExportedRun.at(source)
        yield RunPairs(run=run, iterations=run.with_pairs(iterations), only=tuple(languages), min_margin=min_margin)
        return
    if source.suffix != ".jsonl":
        raise ValueError(
            f"{source} is neither a run's folder nor a .jsonl file of pairs: name a folder that crossward run made, or "
            "a file that crossward pair made"
        )
    if iterations:
        raise ValueError(f"{source} is a file of pairs and has no iterations: leave --iteration out, or name a run")
    with JsonLines(source) as rows:
        yield FilePairs(rows=rows, only=tuple(languages), min_margin=min_margin)


def exported_row(row: Row, where: str, number: int) -> ExportedPair:
    """One row of a file of pairs; scores, α and the English twin where they are there."""
    pair = pair_of(row, where, number)
    twin = row.get("english_instruction")
    if twin is not None and not isinstance(twin, str):
        raise ValueError(f"{where}: field 'english_instruction' must be a text, got {shown(twin)}")
    return ExportedPair(
        id=pair.id,
        language=pair.language,
        instruction=pair.instruction,
        english_instruction=twin or "",
        chosen=pair.chosen.text,
        rejected=pair.rejected.text,
        chosen_score=_number(row, "chosen_score", where),
        rejected_score=_number(row, "rejected_score", where),
        alpha=_number(row, "alpha", where),
        rated=row.get("chosen_rating") is not None,
        chosen_finish_reason=pair.chosen.finish_reason,
        rejected_finish_reason=pair.rejected.finish_reason,
    )


def require_file_names(languages: Sequence[str]) -> None:
    """Raise ValueError where a language could not name a file, a data set or a configuration."""
    for language in languages:
        if _FILE_NAME.fullmatch(language) is None:
            raise ValueError(
                f"language {language[:40]!r} cannot name a file: expected a code such as 'es' or 'zh-Hant', so rename "
                "it in the pairs, or leave it out by naming the others with --language"
            )


def _kept(pair: ExportedPair, min_margin: float | None, tally: Tally, where: str) -> ExportedPair | None:
    """The pair, counted; None where its margin is too small."""
    if min_margin is not None:
        if pair.score_margin is None:
            raise ValueError(
                f"{where}: pair {pair.id!r} has no chosen_score and rejected_score, so --min-margin cannot be held "
                "against it: leave --min-margin out, or pair again with crossward pair"
            )
        if pair.score_margin < min_margin:
            tally.skipped["below-margin"] += 1
            return None
    tally.n_pairs += 1
    tally.n_cut += pair.cut
    return pair


def _chosen(found: list[str], only: tuple[str, ...], where: str) -> list[str]:
    """The languages asked for, of those there are."""
    if missing := [language for language in only if language not in found]:
        raise ValueError(f"{where} has no pairs in {missing[0]!r}: its languages are {', '.join(found) or 'none'}")
    return [language for language in found if not only or language in only]


def _number(row: Row, field: str, where: str) -> float | None:
    value = row.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{where}: field {field!r} must be a number, got {shown(value)}")
    return float(value)
