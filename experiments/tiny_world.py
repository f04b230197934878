"""The tiny world over several seeds: what the method gains over its start, beside its controls.

    python experiments/tiny_world.py --seeds 101 102 103 --folder runs/experiment

For every seed: the demo's recipe with two iterations, then from the same samples one iteration with the own-language
reward, one with random pairs, and two with length control. Gains are win rates against π_I minus π_0's, paired by
request; the pooled interval resamples the requests of all seeds. `--split tuning` measures on the tuning requests:
settings are chosen there and on seeds 0 to 3 only. `--set section.key=value` changes the recipe of every arm.
"""

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from statistics import fmean

from crossward.config import Config, load
from crossward.console import Terminal
from crossward.core.intervals import clustered_mean, clustered_ratio
from crossward.core.records import View
from crossward.pipeline.iterate import run
from crossward.store.run_dir import IterationDir, RunDir
from crossward.tinyworld import judgement
from crossward.tinyworld.prepare import prepare
from crossward.tinyworld.world import Features

# A control: the key that it changes, its value, the first stage that is done again, how many iterations it has.
CONTROLS = {
    "own-language": ("reward", "view", "multilingual", "iteration-1/score", 1),
    "random": ("pair", "choice", "random", "iteration-1/pair", 1),
    "length-controlled": ("pair", "length_unit", "tokens", "iteration-1/pair", 2),
}
RECIPE = Path("recipes/demo.yaml")
Golds = dict[str, dict[judgement.Key, list[float]]]  # of one seed: policy -> prompt -> gold of every answer


def main() -> None:
    """Run every seed, then print the pooled tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--folder", type=Path, default=Path("runs/experiment"))
    parser.add_argument("--name", default="run", help="name of the runs, for several settings over the same worlds")
    parser.add_argument("--split", choices=["held-out", "tuning"], default="held-out")
    parser.add_argument("--set", dest="changes", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--controls", nargs="*", choices=list(CONTROLS), default=list(CONTROLS))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    golds: dict[int, Golds] = {}
    ranked: dict[int, dict[View, judgement.Ranked]] = {}
    feature_lines = []
    for seed in arguments.seeds:
        world = arguments.folder / f"seed-{seed}"
        config = recipe(world, seed, arguments)
        prepare(world, preset="demo", seed=seed, progress=Terminal())
        policies = run_all(config, arguments.controls)
        golds[seed] = {name: judgement.golds_of(here) for name, here in policies.items()}
        ranked[seed] = judgement.rank(config, RunDir(Path(config.run)), Terminal())
        for name, here in policies.items():
            found = judgement.mean_features(here)[judgement.NON_ENGLISH]
            feature_lines.append(f"| {seed} | {name} | {' | '.join(f'{value:.3f}' for value in found.values())} |")
    print(gains_table(golds), accuracy_table(ranked), features_table(feature_lines), sep="\n\n")


def recipe(world: Path, seed: int, arguments: argparse.Namespace) -> Config:
    """The demo's recipe in another folder, with the changes that were asked for."""
    paths = [
        f"run={world / arguments.name}",
        f"seed={seed}",
        f"models.policy={world / 'policy'}",
        f"models.reference={world / 'reference'}",
        f"prompts.path={world / 'prompts'}/{{language}}.jsonl",
        f"evaluate.prompts.path={world / arguments.split}/{{language}}.jsonl",
        f"runtime.threads={arguments.threads}",
    ]
    return load(RECIPE, [*paths, *arguments.changes])


def run_all(config: Config, controls: Sequence[str]) -> dict[str, IterationDir]:
    """The run and its controls, each from the run's own samples; the policies by name."""
    whole = run(config, progress=Terminal())
    policies = judgement.policies_of(whole)
    for control in controls:
        section, key, value, redone, iterations = CONTROLS[control]
        folder = whole.root.with_name(f"{whole.root.name}-{control}")
        tree = config.model_dump(mode="json") | {"run": str(folder), "iterations": iterations}
        tree[section][key] = value
        changed = Config.model_validate(tree)
        redo = () if folder.exists() else (redone,)
        if redo:
            shutil.copytree(whole.root, folder)
        directory = run(changed, progress=Terminal(), redo=redo)
        policies |= {f"π_{t} {control}": directory.iteration(t) for t in range(1, iterations + 1)}
    return policies


def gains_table(golds: dict[int, Golds]) -> str:
    """Mean gold, win rate against π_I and gain over π_0, pooled over seeds, with every seed's gain."""
    lines = ["| policy | language | gold | win rate | gain over π_0 | by seed |", "|---|---|---:|---:|---:|---|"]
    wins = {
        seed: {name: judgement.win_shares(policy, found["π_I"]) for name, policy in found.items()}
        for seed, found in golds.items()
    }
    for name in next(iter(golds.values())):
        for group, languages in judgement.GROUPS.items():
            answers = [value for found in golds.values() for value in of(found[name], languages)]
            pooled = pool({seed: found[name] for seed, found in wins.items()}, languages)
            start = pool({seed: found["π_0"] for seed, found in wins.items()}, languages)
            differences = [
                (seed, request, ours - theirs[2]) for (seed, request, ours), theirs in zip(pooled, start, strict=True)
            ]
            by_seed = [fmean(value for seed, _, value in differences if seed == each) for each in golds]
            lines.append(
                f"| {name} | {group} | {fmean(answers):.3f} | {interval(pooled)} | {interval(differences, '+')} "
                f"| {' '.join(f'{gain:+.3f}' for gain in by_seed)} |"
            )
    return "\n".join(lines)


def of(golds: dict[judgement.Key, list[float]], languages: Sequence[str]) -> list[float]:
    return [value for (language, _), values in golds.items() if language in languages for value in values]


def pool(shares: dict[int, dict[judgement.Key, float]], languages: Sequence[str]) -> list[tuple[int, str, float]]:
    """(seed, request, value) of every prompt, in an order that is the same for every policy."""
    return [
        (seed, key[1], found[key]) for seed, found in shares.items() for key in sorted(found) if key[0] in languages
    ]


def interval(observations: Sequence[tuple[int, str, float]], sign: str = "") -> str:
    found = clustered_mean((f"{seed} {request}", value) for seed, request, value in observations)
    return f"{found.estimate:{sign}.3f} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"


def features_table(lines: Sequence[str]) -> str:
    """What gold is made of, non-English answers, per seed."""
    names = [field.name for field in fields(Features)]
    head = [f"| seed | policy | {' | '.join(names)} |", f"|---|---|{'---:|' * len(names)}"]
    return "\n".join([*head, *lines])


def accuracy_table(ranked: dict[int, dict[View, judgement.Ranked]]) -> str:
    """Pairwise accuracy of both views per language, pooled over seeds; their difference is paired by request."""
    lines = ["| language | cross-lingual | own-language | difference | by seed |", "|---|---:|---:|---:|---|"]
    for group, languages in judgement.GROUPS.items():
        found = [
            (seed, id, cross, views["multilingual"][language, id][0], n)
            for seed, views in ranked.items()
            for (language, id), (cross, n) in views["crosslingual"].items()
            if language in languages
        ]
        each = [[row for row in found if row[0] == seed] for seed in ranked]
        gain = clustered_ratio((f"{seed} {id}", cross - own, n) for seed, id, cross, own, n in found)
        (cross, own), by_seed = rates(found), [rates(rows) for rows in each]
        lines.append(
            f"| {group} | {cross:.3f} | {own:.3f} | {gain.estimate:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] "
            f"| {' '.join(f'{ours - theirs:+.3f}' for ours, theirs in by_seed)} |"
        )
    return "\n".join(lines)


def rates(rows: Sequence[tuple[int, str, float, float, int]]) -> tuple[float, float]:
    """Accuracy of the cross-lingual and of the own-language reward over (seed, request, right, right, pairs)."""
    total = sum(n for *_, n in rows)
    return sum(cross for _, _, cross, _, _ in rows) / total, sum(own for _, _, _, own, _ in rows) / total


if __name__ == "__main__":
    main()
