"""The report of a run, section by section: what stands where, and nothing else."""

from math import isfinite

from crossward.config import Config
from crossward.core.records import PreferencePair, ScoredPrompt
from crossward.pipeline.concerns import Look
from crossward.pipeline.policies import finished, policies_of
from crossward.pipeline.report.answers import answers_section, languages_section
from crossward.pipeline.report.blocks import Block, Browser, Report, Section
from crossward.pipeline.report.browse import Browsed
from crossward.pipeline.report.guard import guard_section
from crossward.pipeline.report.headline import concerns_section, headline_section
from crossward.pipeline.report.iterations import iteration_section
from crossward.pipeline.report.pairs import length_section, skips_section
from crossward.pipeline.report.reward import accuracy_section, distribution_figure, noise_floors
from crossward.pipeline.report.slices import slices
from crossward.pipeline.report.times import provenance_section, times_section
from crossward.pipeline.report.training import training_section
from crossward.pipeline.report.winrates import winrates_section
from crossward.pipeline.stage_files import ranked_stage
from crossward.store import manifest
from crossward.store.run_dir import RunDir
from crossward.store.token_file import read_token_terms

SCORES = "What responses were ranked by, a line an iteration{unit}."
MARGINS = (
    "Chosen minus rejected{unit}; dashed: the noise floor, below which the order of two responses is chance at 95 %."
)


def report_of(directory: RunDir, config: Config, look: Look) -> Report:
    """Everything there is to say of a run, finished or not: what is not done yet is left out."""
    n = config.iterations
    evaluated = [
        (name, done)
        for name, here in policies_of(directory, n).items()
        if (done := manifest.read(here.stage("evaluate"))) is not None
    ]
    paired = list(finished(directory, "pair", n))
    pictures, browser = _looked_at(directory, n)
    found = [
        headline_section(directory, config, look),
        concerns_section(look.concerns),
        winrates_section(directory, n),
        guard_section(directory, look.guarded),
        accuracy_section(directory, n),
        pictures,
        length_section(paired),
        skips_section(paired),
        answers_section(evaluated),
        languages_section(evaluated),
        training_section(directory, n),
        browser,
        *(iteration_section(directory, t) for t in range(1, n + 1)),
        times_section(directory, n),
        provenance_section(directory),
    ]
    return Report(
        title="/".join(directory.root.absolute().parts[-2:]).lstrip("/"),
        sections=tuple(s for s in found if s is not None),
    )


def _looked_at(directory: RunDir, iterations: int) -> tuple[Section | None, Section | None]:
    """Distributions of scores and margins, and the pair browser: one pass over the groups."""
    n_slices = sum(
        len(ranked_stage(directory.iteration(t)).languages() or directory.iteration(t).stage("pair").language_files())
        for t in range(1, iterations + 1)
    )
    browsed = Browsed(n_slices)
    scores: dict[str, dict[str, list[float]]] = {}
    margins: dict[str, dict[str, list[float]]] = {}
    whole, in_nats, ranked_any = True, True, False
    for found in slices(directory, iterations):
        terms = read_token_terms(directory.iteration(found.iteration).stage("score").tokens_file(found.language))
        browsed.add(found, terms)
        name = f"iteration {found.iteration}"
        ranked = [seen.ranked for seen in found.seen if seen.ranked is not None]
        scores.setdefault(found.language, {})[name] = [
            r.score for group in ranked for r in group.responses if isfinite(r.score)
        ]
        margins.setdefault(found.language, {})[name] = [
            seen.outcome.margin
            for seen in found.seen
            if isinstance(seen.outcome, PreferencePair) and isfinite(seen.outcome.margin)
        ]
        whole = whole and found.whole
        in_nats = in_nats and all(isinstance(group, ScoredPrompt) for group in ranked)
        ranked_any = ranked_any or bool(ranked)
    if not browsed.groups:
        return None, None
    nats = in_nats and ranked_any  # pairs by direction have no score at all
    unit = ", nats" if nats else ""
    figures: list[Block] = [
        distribution_figure(values, title=title, axis=axis, floors=floors, note=note.format(unit=unit))
        for values, title, axis, floors, note in (
            (scores, "Log-ratios" if nats else "Ratings", f"score{unit}", {}, SCORES),
            (margins, "Margins of the pairs", f"margin{unit}", noise_floors(directory, iterations), MARGINS),
        )
        if any(series for by in values.values() for series in by.values())
    ]
    browser = Browser(groups=browsed.groups, note=browsed.note(whole=whole))
    return (
        Section(anchor="distributions", title="Log-ratios and margins", blocks=tuple(figures)) if figures else None,
        Section(anchor="pairs", title="Pair browser", blocks=(browser,)),
    )
