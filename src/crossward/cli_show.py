"""The verbs that look at runs: show (a run, a stage, a prompt, a pair) and runs (all of them under a folder)."""

from pathlib import Path
from typing import Annotated, Any

import typer

from crossward import console
from crossward.cli_complete import iterations_of, languages_of, stages_of
from crossward.cli_options import Json, Run


def show(
    run: Run,
    prompt: Annotated[str | None, typer.Option("--prompt", help="The life of the prompt with this id.")] = None,
    pair: Annotated[str | None, typer.Option("--pair", help="The pair of the prompt with this id.")] = None,
    stage: Annotated[
        str | None,
        typer.Option("--stage", help="One stage in full, such as iteration-1/pair.", autocompletion=stages_of),
    ] = None,
    language: Annotated[str | None, typer.Option(help="Only this language.", autocompletion=languages_of)] = None,
    iteration: Annotated[
        int | None, typer.Option(min=1, help="Only this iteration.", autocompletion=iterations_of)
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a run: its state, stages, training and results; or one stage, one prompt's life, or one pair.

    Example: crossward show runs/smollm2 --prompt 17 --language es
    """
    named = [name for name, value in (("--prompt", prompt), ("--pair", pair), ("--stage", stage)) if value is not None]
    if len(named) > 1:
        raise ValueError(f"{' and '.join(named)} exclude each other: name one")
    if (language is not None or iteration is not None) and prompt is None and pair is None:
        raise ValueError("--language and --iteration belong to --prompt and --pair: name a prompt's id")
    if prompt is not None:
        _prompt(run, prompt, language, iteration, as_json=as_json)
    elif pair is not None:
        _pair(run, pair, language, iteration, as_json=as_json)
    elif stage is not None:
        _stage(run, stage, as_json=as_json)
    else:
        _run(run, as_json=as_json)


def runs(
    folder: Annotated[Path, typer.Argument(help="Where to look, in folders below it too.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """List the runs under a folder with their state, the latest change first.

    Example: crossward runs runs
    """
    from crossward.pipeline.runs import list_runs

    listing = list_runs(folder)
    for line in listing.unreadable:
        console.tell(f"left out, cannot be read: {line}")
    if listing.cut:
        console.tell(f"{folder} holds more folders than are looked into: name one below it")
    rows = [listed.row() for listed in listing.runs]
    if as_json:
        console.show_json(rows)
        return
    if not rows:
        console.line(f"no runs under {folder}")
        return
    console.show_table(
        str(folder),
        ["run", "state", "stages", "languages", "iterations", "changed (UTC)", "size", "report"],
        [
            [
                row["run"],
                row["state"] if row["at"] is None or row["state"] == "damaged" else f"{row['state']} at {row['at']}",
                f"{row['stages_done']}/{row['stages']}",
                " ".join(row["languages"]),
                row["iterations"],
                row["changed"].removesuffix("+00:00").replace("T", " "),
                told_size(row["bytes"]),
                "–" if row["report"] is None else Path(row["report"]).name,
            ]
            for row in rows
        ],
    )
    for row in rows:
        if row["problem"] is not None:
            console.tell(f"{row['run']}: {row['problem']}")


def _run(run: Path, *, as_json: bool) -> None:
    from crossward.pipeline.show_run import plain_run

    found = plain_run(run)
    if as_json:
        console.show_json(found)
        return
    at = "" if found["at"] is None else f" at {found['at']}"
    process = "" if found["process"] is None else f" by process {found['process']}"
    about: list[list[Any]] = [
        ["state", f"{found['state']}{at}{process}"],
        ["languages", " ".join(found["languages"])],
        ["iterations", found["iterations"]],
        ["policy", found["policy"]],
        ["reference", found["reference"]],
        ["seed", found["seed"]],
        ["size", told_size(found["bytes"])],
        ["report", found["report"]],
    ]
    console.show_table(str(run), ["", ""], about)
    rows = [[stage["stage"], stage["state"], stage["seconds"], stage["counts"] or ""] for stage in found["stages"]]
    console.show_table("stages", ["stage", "state", "seconds", "counts"], rows)
    if found["training"]:
        metrics = list(dict.fromkeys(name for values in found["training"].values() for name in values))
        lines = [[name, *(values.get(name) for values in found["training"].values())] for name in metrics]
        console.show_table("training, last step", ["", *found["training"]], lines)
    if found["headline"]:
        names = list(dict.fromkeys(name for values in found["headline"].values() for name in values))
        lines = [[policy, *(values.get(name) for name in names)] for policy, values in found["headline"].items()]
        console.show_table("answers, mean over languages", ["", *(n.replace("_", " ") for n in names)], lines)
    if found["problem"] is not None:
        console.tell(found["problem"])


def _stage(run: Path, title: str, *, as_json: bool) -> None:
    from crossward.pipeline.show_run import plain_stage, stage_table

    found = plain_stage(run, title)
    if as_json:
        console.show_json(found)
        return
    state = found["state"] if "seconds" not in found else f"{found['state']} in {found['seconds']:.1f} s"
    for part in ("settings", "inputs"):
        rows = [[key, value if isinstance(value, str) else _compact(value)] for key, value in found[part].items()]
        console.show_table(f"{title}, {state}: {part}", ["", part], rows)
    if (table := stage_table(run, title)) is not None:
        console.show_table(f"{title}: counts", *table)
    rest = {key: value for key, value in found.get("counts", {}).items() if key != "languages"}
    for name, values in rest.items():
        if isinstance(values, dict) and values:
            console.show_table(f"{title}: {name}", ["", "value"], [[key, value] for key, value in values.items()])


def _prompt(run: Path, prompt: str, language: str | None, iteration: int | None, *, as_json: bool) -> None:
    from crossward.pipeline.show import lines_of, lives, plain_life

    found = lives(run, prompt, language, iteration)
    if as_json:
        console.show_json([plain_life(life) for life in found])
        return
    for line in (line for life in found for line in lines_of(life)):
        console.line(line)


def _pair(run: Path, prompt: str, language: str | None, iteration: int | None, *, as_json: bool) -> None:
    from crossward.pipeline.show_pair import pairs_of

    found = pairs_of(run, prompt, language, iteration)
    if as_json:
        console.show_json([pair.plain() for pair in found])
        return
    for pair in found:
        asked = pair.life.prompt
        title = f"iteration {pair.life.iteration} · {asked.language} · {asked.id}: {asked.instruction}"
        console.show_columns(title, ["", "chosen", "rejected"], pair.rows())
        line = f"margin {pair.pair.margin:.3f} at α = {pair.pair.alpha:.6g}"
        console.line(line)


def told_size(size: int) -> str:
    """Bytes for people.

    >>> told_size(999), told_size(1_500_000), told_size(16_000_000_000)
    ('999 B', '1.5 MB', '16.0 GB')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"


def _compact(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)
