"""The demo: a world from nothing, the method on it, and what gold says of every policy.

Only the world's making and its gold are special here; the recipe, the pipeline and the engines are a user's own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from crossward import console
from crossward.config import Config, load
from crossward.core.intervals import Interval
from crossward.core.records import View
from crossward.core.verdicts import Verdict
from crossward.pipeline.concerns import Look
from crossward.pipeline.iterate import run
from crossward.pipeline.report.write import write_report
from crossward.pipeline.winrates import as_summary
from crossward.store.files import write_text
from crossward.store.rates_file import write_rates
from crossward.store.reward_accuracy_file import write_reward_accuracy
from crossward.store.run_dir import RunDir
from crossward.store.verdict_file import write_verdicts
from crossward.tinyworld.judgement import (
    GROUPS,
    NON_ENGLISH,
    PolicyJudgement,
    Ranked,
    accuracies,
    gold_rates,
    gold_verdicts,
    judge,
    policies_of,
    rank,
    reward_accuracies,
)
from crossward.tinyworld.mixing import Mode
from crossward.tinyworld.prepare import prepare
from crossward.tinyworld.presets import PresetName

Rows = list[list[str]]
LIMITS = (
    "It does not show that a real model gains: here a word is a token, an answer is a list, gold is a rule, "
    "and this is one seed (five fresh ones: docs/results.md)."
)


def demo(recipe: Path, overrides: Sequence[str] = (), *, preset: PresetName = "demo", mode: Mode = "plain") -> None:
    """Make the world that a recipe names (beside its policy), run the recipe, print what gold says.

    Raises ValueError where the recipe is wrong or its folders hold another world or run.
    """
    config = load(recipe, overrides)
    terminal = console.Terminal()
    prepare(Path(config.models.policy).parent, preset=preset, seed=config.seed, mode=mode, progress=terminal)
    directory = run(config, progress=terminal)
    policies = policies_of(directory)
    judged = judge(policies)
    verdicts = directory.root / "gold" / "verdicts.jsonl"
    found = gold_verdicts(policies)
    write_verdicts(verdicts, ((verdict, {"judge": "gold"}) for verdict in found))
    ranked = {t: rank(config, directory, terminal, t=t) for t in range(1, config.iterations + 1)}
    rows = table(judged, accuracies(ranked[1]))
    look = _tell_the_report(directory, config, found, ranked)
    world = "Tiny world" if mode == "plain" else f"Tiny world ({mode} mode)"
    title = f"{world}, seed {config.seed}: held-out requests, sampled answers, 95 % intervals over requests"
    header = ["", *GROUPS]
    gold_report = directory.root / "gold.md"
    write_text(gold_report, markdown(title, header, rows, judged))
    console.show_table(title, header, [[row[0], *(cell.replace(" [", "\n[") for cell in row[1:])] for row in rows])
    for line in look.lines():
        console.note(line)
    where = f"report: {directory.report}   gold, feature by feature: {gold_report}   as a judge's verdicts: {verdicts}"
    for line in [*conclusion(judged), where]:
        console.line(line)


def _tell_the_report(
    directory: RunDir, config: Config, verdicts: Sequence[Verdict], ranked: Mapping[int, Mapping[View, Ranked]]
) -> Look:
    """What gold knows, where a run's report looks for it; a run with a judge of its own keeps that one's rates."""
    if config.evaluate.judge is None:
        write_rates(directory.evaluation, {"judge": "gold, by rule", **as_summary(gold_rates(verdicts))})
    write_reward_accuracy(directory.reward_accuracy, reward_accuracies(ranked))
    return write_report(directory, config)


def table(judged: Sequence[PolicyJudgement], ranked: dict[View, dict[str, Interval]]) -> Rows:
    """One row per quantity and policy, one cell per language and for all but English together."""
    rows: Rows = [[f"gold {policy.name}", *(_cell(policy.gold[g], 3) for g in GROUPS)] for policy in judged]
    later = [policy for policy in judged if policy.name != "π_I"]
    rows += [[f"win % {policy.name}", *(_cell(policy.win_rate[g], 1, 100) for g in GROUPS)] for policy in later]
    rows += [
        [f"gain {policy.name}", *(_cell(policy.gain[g], 1, 100, "+") for g in GROUPS)]
        for policy in later
        if policy.name != "π_0"
    ]
    names: dict[View, str] = {"crosslingual": "cross-lingual", "multilingual": "own language"}
    rows += [[f"reward {names[view]}", *(_cell(found[g], 3) for g in GROUPS)] for view, found in ranked.items()]
    return rows


def conclusion(judged: Sequence[PolicyJudgement]) -> list[str]:
    """What the numbers show, in a line, and what they do not."""
    gain = next(policy for policy in judged if policy.name == "π_1").gain[NON_ENGLISH]
    change = f"{100 * gain.estimate:+.1f} points [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
    if gain.low > 0:
        shown = f"Shown: with English preferences alone, iteration 1 changes the non-English win rate by {change}."
    else:
        shown = f"Not shown: iteration 1 changes the non-English win rate by {change}, not clearly above zero."
    return [
        "gold: 0 to 1, by rule · win: against π_I, ties half · gain: over π_0, paired · reward: pairs of π_0's answers "
        "ranked as gold ranks them, by log π_0/π_I under either instruction (chance 0.5)",
        shown,
        LIMITS,
    ]


def markdown(title: str, header: Sequence[str], rows: Rows, judged: Sequence[PolicyJudgement]) -> str:
    """The same table for a file, with the features that gold is made of."""
    names = list(judged[0].features[NON_ENGLISH])
    by_feature = [
        [policy.name, group, *(f"{policy.features[group][name]:.3f}" for name in names)]
        for policy in judged
        for group in GROUPS
    ]
    parts = [
        f"# {title}",
        _markdown_table(header, rows),
        *conclusion(judged),
        "## Features of the answers",
        _markdown_table(["policy", "language", *names], by_feature),
        "A feature near 0 or 1 in the last policy was driven there: what one iteration gains, two can overdo.",
    ]
    return "\n\n".join(parts) + "\n"


def _markdown_table(header: Sequence[str], rows: Rows) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(found: Interval, digits: int, scale: float = 1, sign: str = "") -> str:
    """`0.738 [0.72, 0.75]`"""
    bounds = ", ".join(f"{scale * bound:{sign}.{max(1, digits - 1)}f}" for bound in (found.low, found.high))
    return f"{scale * found.estimate:{sign}.{digits}f} [{bounds}]"
