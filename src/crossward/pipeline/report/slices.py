"""A portion of a run's groups with what became of them, read once for pictures and for looking through.

The first prompts of each language, so that the work is bounded however large the run is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from crossward.core.records import PreferencePair, Prompt, Ranked, Skipped
from crossward.pipeline.stage_files import ranked_stage, stream_ranked
from crossward.store import tables
from crossward.store.run_dir import IterationDir, RunDir

LOOKED_AT = 3000  # prompts of each language and iteration


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One prompt: its ranked responses (None where pairs are made by direction, without a rank), and its outcome.

    `outcome` is None where it was not paired yet.
    """

    prompt: Prompt
    ranked: Ranked | None
    outcome: PreferencePair | Skipped | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Prompts of one language in one iteration; `whole` where they are all that there are."""

    iteration: int
    language: str
    seen: tuple[Seen, ...]
    whole: bool


def slices(directory: RunDir, iterations: int) -> Iterator[Slice]:
    """Slice after slice of all iterations, one in memory at a time."""
    for t in range(1, iterations + 1):
        here = directory.iteration(t)
        languages = ranked_stage(here).languages() or [path.stem for path in here.stage("pair").language_files()]
        for language in languages:
            yield _slice(here, t, language)


def _slice(here: IterationDir, t: int, language: str) -> Slice:
    groups = list(islice(stream_ranked(ranked_stage(here), language), LOOKED_AT + 1))
    path = here.stage("pair").language_file(language)
    outcomes = list(islice(tables.stream_outcomes(path), LOOKED_AT + 1)) if path.exists() else []
    if groups:
        became = {outcome.prompt.id: outcome for outcome in outcomes}
        seen = [Seen(prompt=g.prompt, ranked=g, outcome=became.get(g.prompt.id)) for g in groups]
    else:
        seen = [Seen(prompt=outcome.prompt, ranked=None, outcome=outcome) for outcome in outcomes]
    return Slice(iteration=t, language=language, seen=tuple(seen[:LOOKED_AT]), whole=len(seen) <= LOOKED_AT)
