"""How many pairs of a finished run the quirks of the published code change.

    python experiments/published_quirks.py runs/demo/run [--prompts 48]

Takes the scored responses of iteration 1 and pairs them four ways: ours, published scoring with our pairing, our
scoring with published pairing, published throughout. Counts the prompts whose pair of texts differs from ours.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import yaml

from crossward.config import parse
from crossward.console import Terminal
from crossward.core.pairing import PairingRules, published_rules
from crossward.core.records import PreferencePair, SampledPrompt, ScoredPrompt
from crossward.engines.published_scorer import PublishedScorer
from crossward.pipeline.assemble import Engines
from crossward.pipeline.stage_files import read_scored
from crossward.pipeline.streams import pair_language, score_groups
from crossward.pipeline.unpack import rules_of
from crossward.store.run_dir import RunDir

Texts = dict[str, tuple[str, str] | None]  # prompt id -> chosen and rejected, or None where there is no pair


def main() -> None:
    """Print the counts as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--prompts", type=int, default=None, help="only the first so many of each language")
    arguments = parser.parse_args()
    run = RunDir(arguments.run)
    config = parse(yaml.safe_load(run.config.read_text(encoding="utf-8")), where=str(run.config))
    engines = Engines(config)
    models = engines.policy(), engines.reference()
    policy, reference = (PublishedScorer(model.spec, engines.tokens(model)) for model in models)
    ours, theirs = rules_of(config, seed=0), published_rules()
    print("| language | prompts | our pairs | published scoring | published pairing | both |")
    print("|---|---:|---:|---:|---:|---:|")
    for language in config.languages:
        scored = read_scored(run.iteration(1).stage("score"), language)[: arguments.prompts]
        sampled = [
            SampledPrompt(prompt=group.prompt, responses=tuple(scored.response for scored in group.responses))
            for group in scored
        ]
        with Terminal().task(f"{language}: published scoring", 2 * sum(len(g.responses) for g in sampled)) as advance:
            published = score_groups(sampled, scored[0].view, policy, reference, advance=advance)
        kept = texts(scored, ours, engines)
        changed = [
            differ(kept, texts(groups, rules, engines))
            for groups, rules in ((published, ours), (scored, theirs), (published, theirs))
        ]
        made = sum(pair is not None for pair in kept.values())
        print(f"| {language} | {len(scored)} | {made} | {' | '.join(map(str, changed))} |")


def texts(groups: Sequence[ScoredPrompt], rules: PairingRules, engines: Engines) -> Texts:
    """The pair that every prompt gives under the rules."""
    outcomes = pair_language(groups, rules, engines.identifier()).outcomes
    return {
        outcome.prompt.id: (outcome.chosen.response.text, outcome.rejected.response.text)
        if isinstance(outcome, PreferencePair)
        else None
        for outcome in outcomes
    }


def differ(ours: Texts, theirs: Texts) -> int:
    """Prompts whose pair differs, a pair on one side only included."""
    return sum(ours[name] != theirs[name] for name in ours)


if __name__ == "__main__":
    main()
