"""The verbs `crossward export` and `crossward push`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from crossward import console
from crossward.cli_options import Json
from crossward.core.plain_markdown import one_line

Source = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, or a .jsonl file of pairs.")]
Iterations = Annotated[
    list[int] | None, typer.Option("--iteration", min=1, help="Which iteration; may be given again. Default: the last.")
]
Languages = Annotated[list[str] | None, typer.Option("--language", help="Only this language; may be given again.")]
MinMargin = Annotated[float | None, typer.Option(help="Leave out pairs whose scores are nearer than this.")]
License = Annotated[str, typer.Option(help="dataset, model: the licence in the card, such as cc-by-4.0.")]
BaseModel = Annotated[str | None, typer.Option(help="model: the hub name of the model it was made from.")]


def export(
    run: Source,
    to: Annotated[
        Literal["trl", "llamafactory", "openrlhf", "argilla", "alpaca-eval", "csv", "dataset", "model"],
        typer.Option(help="The tool or form to write for.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("--output", help="Folder to write.", show_default=False)],
    iteration: Iterations = None,
    language: Languages = None,
    min_margin: MinMargin = None,
    license: License = "unknown",
    base_model: BaseModel = None,
    link: Annotated[bool, typer.Option("--link", help="model: hard links to the checkpoint, no copies.")] = False,
    bom: Annotated[bool, typer.Option("--bom", help="csv: a byte-order mark, by which Excel knows UTF-8.")] = False,
    guard_formulas: Annotated[
        bool, typer.Option("--guard-formulas", help="csv: an apostrophe before cells that begin like a formula.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write into a folder that holds files of no export.")
    ] = False,
    json: Json = False,
) -> None:
    """Write a run's pairs, verdicts or checkpoint as another tool reads them (docs/exports.md).

    Example: crossward export runs/smollm2 --to llamafactory --output runs/llamafactory
    """
    from crossward.pipeline.exports.export import Wanted
    from crossward.pipeline.exports.export import export as write

    wanted = Wanted(
        format=to,
        iterations=tuple(iteration or ()),
        languages=tuple(language or ()),
        min_margin=min_margin,
        license=license,
        base_model=base_model,
        link=link,
        bom=bom,
        guard_formulas=guard_formulas,
        overwrite=overwrite,
    )
    found = write(run, output, wanted).summary()
    if json:
        console.show_json(found)
        return
    _show_languages(found)
    _show_files(found)
    for command in found["commands"]:
        console.line(f"read it with: {command}")


def push(
    run: Source,
    to_repo: Annotated[str, typer.Option(help="The repository: OWNER/NAME.", show_default=False)],
    what: Annotated[Literal["dataset", "model"], typer.Option(help="Pairs or a checkpoint.", show_default=False)],
    iteration: Iterations = None,
    language: Languages = None,
    min_margin: MinMargin = None,
    license: License = "unknown",
    base_model: BaseModel = None,
    private: Annotated[bool, typer.Option("--private/--public", help="Who sees a repository made new.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and contact nobody.")] = False,
    json: Json = False,
) -> None:
    """Push pairs or a checkpoint to the Hugging Face hub, with a card.

    The token is that of `hf auth login` or HF_TOKEN; it is never an option and never shown.

    Example: crossward push runs/smollm2 --to-repo me/pairs --what dataset --dry-run
    """
    from crossward.pipeline.exports.export import Wanted
    from crossward.pipeline.exports.push import push as push_run

    wanted = Wanted(
        format=what,
        iterations=tuple(iteration or ()),
        languages=tuple(language or ()),
        min_margin=min_margin,
        license=license,
        base_model=base_model,
    )
    done = push_run(run, to_repo, wanted, private=private, dry_run=dry_run, progress=console.Terminal())
    found = done.summary()
    if json:
        console.show_json(found)
        return
    _show_languages(found)
    _show_files(found)
    seen = "private" if private else "public"
    if dry_run:
        console.line(found["front_matter"])
        console.line(
            f"would go to {to_repo}, a {what} repository, {seen} where it is made new; nobody was contacted",
        )
    else:
        console.line(f"pushed to {found['url']} (commit {found['commit']})")


def _show_languages(found: dict[str, Any]) -> None:
    rows = [
        [one_line(language), counts["n_pairs"], counts["n_cut"], counts["skipped"]]
        for language, counts in found["languages"].items()
    ]
    if rows:
        verdicts = found.get("format") == "alpaca-eval"
        head = ["language", "verdicts" if verdicts else "pairs", "with a cut response", "left out or null, by reason"]
        console.show_table(f"{found.get('format', found.get('repo_type'))}", head, rows)
    for note in found["notes"]:
        console.note(f"note: {note}")


def _show_files(found: dict[str, Any]) -> None:
    rows = [[name, size] for name, size in found["files"].items()]
    console.show_table(f"files in {found.get('output', found.get('repo'))}", ["file", "bytes"], rows)
