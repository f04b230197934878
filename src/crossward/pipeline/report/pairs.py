"""The report's sections on pairs: length before and after its control, the α curve, and every prompt without a pair."""

from collections.abc import Sequence
from typing import Any

from crossward.engines.charts import Dot, Intervals, Lines, Mark, Rule, Stacks
from crossward.pipeline.report.blocks import Block, Figure, Section, Words, table
from crossward.store.manifest import StageManifest

Paired = Sequence[tuple[int, StageManifest]]  # iterations that have pairs, in order
CURVE_DOTS, CURVE_FEWEST = 60, 16
LENGTH = (
    "Length gap: chosen minus rejected, mean over the prompts that α was found on, in {unit}; at α = 0 nothing is "
    "controlled. Curve: the gap D(α) at other α, the chosen α dashed."
)
UNCONTROLLED = "Length was not controlled (pair.length_unit: none): α is 0 and the gap is what the reward left."


def length_section(paired: Paired) -> Section | None:
    """Gaps before and after by language and iteration, and D(α); None where nothing was paired."""
    if not paired:
        return None
    controlled = any(done.settings.get("length_unit") not in (None, "none") for _, done in paired)
    unit = "tokens" if any(done.settings.get("length_unit") == "tokens" for _, done in paired) else "characters"
    found = _found(paired)
    marks, rows = [], []
    for t, language, counts in found:
        before, after = counts["length_gap_before"], counts["length_gap_after"]
        rows.append([language, t, counts["alpha"], before, after])
        for name, value in ((f"iteration {t}, α = 0", before), (f"iteration {t}, at α", after)):
            if value is not None and (controlled or value == before):
                marks.append(Mark(place=language, series=name, value=value))
    blocks: list[Block] = []
    if marks:
        chart = Intervals(
            title="Length gap of the pairs", axis=f"chosen − rejected, {unit}", marks=tuple(marks), rule=0.0
        )
        header = ["language", "iteration", "α", "gap at α = 0", "gap at α"]
        blocks.append(Figure(chart=chart, table=table(header, rows)))
    blocks += [_curve(t, done, unit) for t, done in paired if any(c.get("curve") for _, c in done.by_language)]
    blocks.append(Words(text=LENGTH.format(unit=unit) if controlled else UNCONTROLLED, tone="note"))
    return Section(anchor="length", title="Length control", blocks=tuple(blocks))


def _curve(t: int, done: StageManifest, unit: str) -> Figure:
    """D(α), a panel a language: thinned, for it may have a step a prompt."""
    dots, rules, rows = [], [], []
    for language, counts in done.by_language:
        curve = counts.get("curve") or []
        near = _near(curve, counts["alpha"])
        dots += [Dot(panel=language, series="D(α)", x=alpha, y=gap) for alpha, gap in near]
        rows += [[language, alpha, gap] for alpha, gap in near]
        if near:
            rules.append(Rule(panel=language, x=counts["alpha"], name=f"α = {counts['alpha']:.4g}"))
    chart = Lines(
        title=f"Gap by α, iteration {t}", x_axis="α", y_axis=unit, dots=tuple(dots), rules=tuple(rules), steps=True
    )
    return Figure(chart=chart, table=table(["language", "α", "gap"], rows))


def _near(curve: Sequence[Sequence[float]], alpha: float) -> list[tuple[float, float]]:
    """Points of the curve around α: 0 and α among them, at least a few, without the far ends where all is flat."""
    points = sorted(((float(at), float(gap)) for at, gap in curve), key=lambda point: abs(point[0] - alpha))
    reach = 2 * abs(alpha)
    inside = [point for k, point in enumerate(points) if k < CURVE_FEWEST or abs(point[0] - alpha) <= reach]
    step = max(1, len(inside) // CURVE_DOTS)
    kept = {*sorted(inside)[::step], points[0], min(points, key=lambda point: abs(point[0]))} if points else set()
    return sorted(kept)


def skips_section(paired: Paired) -> Section | None:
    """What became of every prompt, by reason; None where nothing was paired."""
    if not paired:
        return None
    blocks: list[Block] = []
    for t, done in paired:
        marks = [
            Mark(place=language, series=reason, value=float(n))
            for language, counts in done.by_language
            for reason, n in {"pair": counts["n_pairs"], **counts["skipped"]}.items()
        ]
        reasons = list(dict.fromkeys(mark.series for mark in marks))
        rows = [
            [
                language,
                counts["n_groups"],
                *(({"pair": counts["n_pairs"], **counts["skipped"]}).get(r, 0) for r in reasons),
            ]
            for language, counts in done.by_language
        ]
        chart = Stacks(title=f"Prompts of iteration {t}", axis="prompts", marks=tuple(marks))
        blocks.append(Figure(chart=chart, table=table(["language", "prompts", *reasons], rows)))
    removed = [
        [t, language, counts["removed_responses"]]
        for t, language, counts in _found(paired)
        if counts["removed_responses"]
    ]
    if removed:
        blocks.append(table(["iteration", "language", "responses left out, by reason"], removed))
    blocks.append(
        Words(text="A prompt is a pair or is skipped for one reason; nothing else happens to it.", tone="note")
    )
    return Section(anchor="skips", title="Pairs and skips", blocks=tuple(blocks))


def _found(paired: Paired) -> list[tuple[int, str, dict[str, Any]]]:
    return [(t, language, counts) for t, done in paired for language, counts in done.by_language]
