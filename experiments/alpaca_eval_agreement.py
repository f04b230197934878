"""Win rates of published judgements beside what alpaca_eval 0.6.6 returns for them.

    python experiments/alpaca_eval_agreement.py --data FOLDER

FOLDER holds annotations/<model>.json (len_1, len_2, preference in 1..2), instruction_difficulty.csv and df_gamed.csv
(reconstructed from published coefficients: the originals are on a hub alone), and expected.json, what alpaca_eval
returns. Printed: the largest differences of win rate, standard error, `published` and `minimal`, and a row per model
with our intervals and with `joint`, which knows nothing but the judgements themselves.
"""

import argparse
import json
from pathlib import Path

from crossward.core.verdicts import Verdict
from crossward.core.winrates import Rate, win_rates
from crossward.store.difficulty_file import read_published


def verdicts_of(folder: Path) -> list[Verdict]:
    """The judgements; the id of a row is its place in AlpacaEval's set, as the difficulties' index is."""
    found = []
    for path in sorted((folder / "annotations").glob("*.json")):
        row = json.loads(path.read_text(encoding="utf-8"))
        for i, (preference, ours, base) in enumerate(zip(row["preference"], row["len_2"], row["len_1"], strict=True)):
            found.append(
                Verdict(
                    id=str(i), language="en", model=path.stem, baseline=row["generator_1"],
                    preference=preference - 1, model_length=ours, baseline_length=base,
                )
            )  # fmt: skip
    return found


def shown(rate: Rate) -> str:
    assert rate.lc_interval is not None
    return f"{rate.lc_win_rate:.3f} [{rate.lc_interval[0]:.1f}, {rate.lc_interval[1]:.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--resamples", type=int, default=1000)
    arguments = parser.parse_args()
    verdicts = verdicts_of(arguments.data)
    expected = json.loads((arguments.data / "expected.json").read_text(encoding="utf-8"))
    data = read_published(arguments.data / "instruction_difficulty.csv", arguments.data / "df_gamed.csv")
    rates = {
        variant: win_rates(
            verdicts, variant=variant, published=data if variant == "published" else None, resamples=arguments.resamples
        ).rates
        for variant in ("published", "minimal", "joint")
    }
    print("| model | WR | SE | published | alpaca_eval | minimal | alpaca_eval | joint |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    apart = dict.fromkeys(("WR", "SE", "published", "minimal"), 0.0)
    for published, minimal, joint in zip(*rates.values(), strict=True):
        theirs = expected[published.model]
        v1 = theirs["length_controlled_v1"]["length_controlled_winrate"]
        plain = theirs["length_controlled_minimal"]["length_controlled_winrate"]
        assert published.win_rate_se is not None
        assert published.lc_win_rate is not None
        assert minimal.lc_win_rate is not None
        differences = (
            published.win_rate - theirs["winrate"]["win_rate"],
            published.win_rate_se - theirs["winrate"]["standard_error"],
            published.lc_win_rate - v1,
            minimal.lc_win_rate - plain,
        )
        apart = {key: max(value, abs(new)) for (key, value), new in zip(apart.items(), differences, strict=True)}
        print(
            f"| {published.model} | {published.win_rate:.3f} | {published.win_rate_se:.3f} | {shown(published)} "
            f"| {v1:.3f} | {shown(minimal)} | {plain:.3f} | {shown(joint)} |"
        )
    print("largest differences: " + ", ".join(f"{key} {value:.1e}" for key, value in apart.items()))


if __name__ == "__main__":
    main()
