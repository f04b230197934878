"""The verb `crossward measure` with its tables."""

from pathlib import Path
from typing import Annotated, Any

import typer

from crossward import console
from crossward.cli_options import Input, Json


def measure(
    input: Input,
    reference_answers: Annotated[
        Path | None, typer.Option(help="Answers to hold these against (chrF): rows of id and output.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Other answers to the same prompts: what changed from them.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Language of the answers, where the rows do not say.")] = None,
    json: Json = False,
) -> None:
    """Say what answers show by themselves, with no judge.

    Length, emptiness, truncation, repetition, language, and with --against what got worse. The file is one of groups or
    alpaca_eval's model_outputs.json.

    Example: crossward measure --input groups.jsonl --against before.jsonl
    """
    from crossward.pipeline.measure_file import dropped, measure_file

    found = measure_file(
        input, language=language, reference_answers=reference_answers, against=against, progress=console.Terminal()
    )
    for code, change in dropped(found):
        interval = change["difference"]
        console.note(
            f"{code.upper()} DROPPED: {change['measure']} {change['before']:.3f} → {change['after']:.3f}, difference "
            f"{_span(interval, '+.3f')} over {change['n_prompts']} prompts",
        )
    if json:
        console.show_json(found)
        return
    _show_measures(found["languages"], str(input))
    if against is not None:
        _show_changes(found["against"], str(input), str(against))


def _show_measures(languages: dict[str, Any], title: str) -> None:
    names = ["n_chars", "empty", "truncated", "repetition", "looping", "fidelity", "code_switching", "chrf"]
    rows = [
        [code, counts["answers"], *(_mean(counts["measures"].get(name)) for name in names)]
        for code, counts in languages.items()
    ]
    head = ["language", "answers", "characters", *names[1:6], "code-switching", "chrF"]
    console.show_table(f"answers in {title}: means with 95 % intervals over prompts", head, rows)
    told = {code: counts["identified_as"] for code, counts in languages.items() if "identified_as" in counts}
    columns = [*sorted({name for named in told.values() for name in named} - {"unsure"}), "unsure"]
    if told:
        rows = [[code, *(named.get(name, 0) for name in columns)] for code, named in told.items()]
        console.show_table("asked for (rows) and identified (columns)", ["language", *columns], rows)


def _show_changes(against: dict[str, Any], input: str, other: str) -> None:
    rows = [
        [
            code,
            change["measure"].replace("n_chars", "characters"),
            change["n_prompts"],
            change["n_left_out"],
            change["before"],
            change["after"],
            _span(change["difference"], "+.3g"),
            change["smallest_shown"],
            "DROPPED" if change.get("dropped") else "" if "dropped" in change else "not tested",
        ]
        for code, seen in against.items()
        for change in (*seen["changes"], *seen["shown"])
    ]
    head = ["language", "measure", "prompts", "left out", "before", "after", "difference, 95 %", "smallest drop", ""]
    console.show_table(f"{input} against {other}, paired by prompt (tested: higher is better)", head, rows)
    tests = sum(len(seen["changes"]) for seen in against.values())
    expected = sum(seen["expected_false_alarms"] for seen in against.values())
    console.line(f"{tests} tests, each at 95 %: chance alone would show {expected:.2g} drops among them.")


def _mean(found: dict[str, Any] | None) -> str | None:
    return None if found is None else _span(found, ".3g" if found["estimate"] < 1000 else ".0f")


def _span(found: dict[str, Any], style: str) -> str:
    low, high = (format(found[key], style) for key in ("low", "high"))
    return f"{found['estimate']:{style}} [{low}, {high}]"
