"""The report's section on training: losses apart, log-probabilities and margins, step by step."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from crossward.engines.charts import Dot, Lines
from crossward.pipeline.policies import finished
from crossward.pipeline.report.blocks import Block, Figure, Section, Words, table
from crossward.pipeline.report.tables import cell
from crossward.store.metrics_file import read_metrics
from crossward.store.run_dir import RunDir, StageDir

STEPS = 60  # points of a line at most
CURVES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("Loss", "loss", {"DPO": "dpo_loss", "NLL": "nll_loss", "DPO + NLL": "loss"}),
    ("Log-probabilities", "log π, nats", {"chosen": "logps/chosen", "rejected": "logps/rejected"}),
    (
        "Rewards",
        "β·log-ratio",
        {"margin": "rewards/margins", "chosen": "rewards/chosen", "rejected": "rewards/rejected"},
    ),
)
Logged = Sequence[dict[str, Any]]


def training_section(directory: RunDir, iterations: int) -> Section | None:
    """Curves of all iterations beside each other; None where nothing was trained."""
    logged = {t: read_metrics(directory.iteration(t).stage("train").metrics) for t in range(1, iterations + 1)}
    logged = {t: lines for t, lines in logged.items() if lines}
    if not logged:
        return None
    blocks: list[Block] = []
    for title, axis, names in CURVES:
        dots = [
            Dot(panel=f"iteration {t}", series=name, x=line["step"], y=line[key])
            for t, lines in logged.items()
            for name, key in names.items()
            for line in thinned(lines)
            if isinstance(line.get(key), int | float)
        ]
        if dots:
            chart = Lines(title=title, x_axis="step", y_axis=axis, dots=tuple(dots))
            blocks.append(Figure(chart=chart, table=table(["line", "first step", "last step"], _ends(logged, names))))
    blocks += _broken(logged)
    blocks += _dropped(directory, iterations)
    return Section(anchor="training", title="Training", blocks=tuple(blocks))


def thinned(lines: Logged, most: int = STEPS) -> list[dict[str, Any]]:
    """Some of the lines, evenly, the first and the last among them."""
    if len(lines) <= most:
        return list(lines)
    return [lines[round(k * (len(lines) - 1) / (most - 1))] for k in range(most)]


def training_blocks(stage: StageDir) -> list[Block]:
    """First and last step of one training, every number that was logged."""
    lines = read_metrics(stage.metrics)
    if not lines:
        return []
    first, last = lines[0], lines[-1]
    names = [name for name in last if name not in ("step", "epoch") and isinstance(last[name], (int, float))]
    rows = [[name, first.get(name), last[name]] for name in names]
    return [table(["training", f"step {first.get('step')}", f"step {last.get('step')}"], rows)]


def _ends(logged: dict[int, list[dict[str, Any]]], names: dict[str, str]) -> list[list[object]]:
    return [
        [f"iteration {t}, {name}", lines[0].get(key), lines[-1].get(key)]
        for t, lines in logged.items()
        for name, key in names.items()
    ]


def _broken(logged: Mapping[int, Logged]) -> list[Block]:
    """What was no number any more, which no chart can show."""
    found: list[Block] = []
    for t, lines in logged.items():
        values = [(name, value) for line in lines for name, value in line.items() if isinstance(value, float)]
        if names := sorted({name for name, value in values if not isfinite(value)}):
            text = f"Iteration {t}: not a number in some steps: {', '.join(names)}."
            found.append(Words(text=text, tone="bad"))
    return found


def _dropped(directory: RunDir, iterations: int) -> list[Block]:
    found: list[Block] = []
    for t, trained in finished(directory, "train", iterations):
        summary = {k: v for k, v in trained.counts.get("training", {}).items() if k.startswith("dropped")}
        if any(summary.values()):
            found.append(Words(text=f"Iteration {t}: pairs left out of training: {cell(summary)}."))
    return found
