"""The tiny world over several seeds: what the method gains over its start, beside two controls.

    python experiments/tiny_world.py --seeds 101 102 103 --folder runs/experiment

For every seed: the demo's recipe with two iterations, then from the same samples one iteration with the own-language
reward and one with random pairs. Gains are win rates against π_I minus π_0's, paired by request; the pooled interval
resamples requests within each seed. `--split tuning` measures on the tuning requests: settings are chosen there and on
seeds 0 to 3 only. `--set section.key=value` changes the recipe of every arm.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from crossward.config import Config, load
from crossward.console import Terminal
from crossward.core.winrates import Interval, clustered_mean
from crossward.pipeline.iterate import run
from crossward.store.run_dir import IterationDir, RunDir
from crossward.tinyworld import judgement
from crossward.tinyworld.prepare import prepare

CONTROLS = {
    "own-language": ("reward.view=multilingual", "iteration-1/score"),
    "random": ("pair.choice=random", "iteration-1/pair"),
}
RECIPE = Path("recipes/demo.yaml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--folder", type=Path, default=Path("runs/experiment"))
    parser.add_argument("--name", default="run", help="name of the runs, for several settings over the same worlds")
    parser.add_argument("--split", choices=["held-out", "tuning"], default="held-out")
    parser.add_argument("--set", dest="changes", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--arms", nargs="*", choices=list(CONTROLS), default=list(CONTROLS))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    golds, accuracies = {}, []
    for seed in arguments.seeds:
        world = arguments.folder / f"seed-{seed}"
        prepare(world, preset="demo", seed=seed, progress=Terminal())
        config = recipe(world, seed, arguments)
        policies = run_all(config, arguments.arms)
        golds[seed] = {name: judgement.golds_of(here) for name, here in policies.items()}
        accuracies.append(judgement.accuracies(config, RunDir(Path(config.run)), Terminal()))
        means = {
            name: {k: round(v, 3) for k, v in f.items()}
            for name, f in ((n, judgement.mean_features(h)[judgement.NON_ENGLISH]) for n, h in policies.items())
        }
        for name, found in means.items():
            print(f"seed {seed} {name}: {json.dumps(found, ensure_ascii=False)}")
    print(gains_table(golds))
    print(accuracy_table(accuracies))


def recipe(world: Path, seed: int, arguments: argparse.Namespace) -> Config:
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


def run_all(config: Config, arms: Sequence[str]) -> dict[str, IterationDir]:
    """The run and its controls, each from the run's own samples; the policies by name."""
    main_run = run(config, progress=Terminal())
    policies = judgement.policies_of(main_run)
    for arm in arms:
        change, redone = CONTROLS[arm]
        key, _, value = change.partition("=")
        section, _, field = key.partition(".")
        folder = main_run.root.with_name(f"{main_run.root.name}-{arm}")
        tree = config.model_dump(mode="json") | {"run": str(folder), "iterations": 1}
        tree[section][field] = value
        first = Config.model_validate(tree)
        if not folder.exists():
            shutil.copytree(main_run.root, folder)
            run(first, progress=Terminal(), redo=[redone])
        else:
            run(first, progress=Terminal())
        policies[f"π_1 {arm}"] = RunDir(folder).iteration(1)
    return policies


def gains_table(golds: dict[int, dict[str, dict[judgement.Key, list[float]]]]) -> str:
    """Markdown: mean gold, win rate against π_I and gain over π_0, pooled over seeds, with every seed's gain."""
    lines = [
        "| policy | language | gold | win rate | gain over π_0 | gain by seed |",
        "|---|---|---:|---:|---:|---|",
    ]
    for name in next(iter(golds.values())):
        for group, languages in judgement.GROUPS.items():
            gold = [
                (f"{s} {k[1]}", v)
                for s, g in golds.items()
                for k, vs in g[name].items()
                if k[0] in languages
                for v in vs
            ]
            wins, differences, by_seed = [], [], []
            for seed, found in golds.items():
                ours = judgement.win_shares(found[name], found["π_I"])
                start = judgement.win_shares(found["π_0"], found["π_I"])
                wins += [(f"{seed} {k[1]}", v) for k, v in ours.items() if k[0] in languages]
                by_seed.append(judgement.gain(ours, start, languages))
                differences += [(f"{seed} {k[1]}", v - start[k]) for k, v in ours.items() if k[0] in languages]
            each = " ".join(f"{gain.estimate:+.3f}" for gain in by_seed)
            lines.append(
                f"| {name} | {group} | {clustered_mean(gold).estimate:.3f} | {_interval(clustered_mean(wins))} "
                f"| {_interval(clustered_mean(differences), '+')} | {each} |"
            )
    return "\n".join(lines)


def accuracy_table(found: list) -> str:
    """Markdown: pairwise accuracy of both views per language, mean over seeds, every seed beside."""
    lines = ["| language | cross-lingual | own-language | by seed |", "|---|---:|---:|---|"]
    for group in judgement.GROUPS:
        cross, own = ([seed[view][group].estimate for seed in found] for view in ("crosslingual", "multilingual"))
        each = ", ".join(f"{c:.3f} / {o:.3f}" for c, o in zip(cross, own, strict=True))
        lines.append(f"| {group} | {fmean(cross):.3f} | {fmean(own):.3f} | {each} |")
    return "\n".join(lines)


def _interval(found: Interval, sign: str = "") -> str:
    return f"{found.estimate:{sign}.3f} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"


if __name__ == "__main__":
    main()
