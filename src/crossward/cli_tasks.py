"""The verb `crossward tasks` with its tables: benchmark scores by language, their averages, and the coverage map."""

from pathlib import Path
from typing import Annotated, Any

import typer

from crossward import console
from crossward.cli_options import Device, Json, Precision, Trust


def tasks(
    model: Annotated[str | None, typer.Option(help="The model: a folder, a LoRA folder or a hub name.")] = None,
    output: Annotated[Path | None, typer.Option("--output", help="File to write (JSON).")] = None,
    language: Annotated[list[str] | None, typer.Option(help="A language code; may be given many times.")] = None,
    benchmark: Annotated[
        list[str] | None,
        typer.Option(help="arc, hellaswag, mmlu or truthfulqa; many times. Left out, without --task: all four."),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="A task of lm-eval or of --include-path; {language} in it stands for each language's code."),
    ] = None,
    include_path: Annotated[
        Path | None, typer.Option(help="A folder of task YAMLs. Python that they name is run.")
    ] = None,
    shots: Annotated[int, typer.Option(min=0, help="Examples before each question.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first questions of each task; a trial.")] = None,
    chat_template: Annotated[
        bool, typer.Option("--chat-template", help="Ask inside the chat template. Published tables are without.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Options scored at once.")] = 8,
    coverage: Annotated[bool, typer.Option("--coverage", help="Show which task exists for which language.")] = False,
    dtype: Precision = "bfloat16",
    device: Device = "auto",
    trust_remote_code: Trust = False,
    json: Json = False,
) -> None:
    """Score a model on ARC, HellaSwag, MMLU and TruthfulQA by language, with lm-evaluation-harness.

    Every task is kept beside the output when it is done; the same command again continues.

    Example: crossward tasks --model P --language es --language de --benchmark arc --output results.json
    """
    from crossward.pipeline import tasks as pipeline

    if coverage:
        found = pipeline.coverage(language or (), benchmark or ())
        return console.show_json(found) if json else _show_coverage(found)
    if model is None or output is None:
        raise ValueError("name the model with --model and the file to write with --output, or ask for --coverage")
    from crossward.engines.lm_eval_tasks import Prompting
    from crossward.engines.protocols import ModelSpec

    found = pipeline.tasks_file(
        output,
        model=ModelSpec(path=model, dtype=dtype, device=device, trust_remote_code=trust_remote_code),
        asked=pipeline.Asked(languages=language or (), benchmarks=benchmark or (), tasks=task or ()),
        prompting=Prompting(shots=shots, limit=limit, chat_template=chat_template),
        include=include_path,
        batch_size=batch_size,
        progress=console.Terminal(),
    )
    return console.show_json(found) if json else _show(found)


def _show(found: dict[str, Any]) -> None:
    rows = [
        [
            result["measure"],
            *(result[key] for key in ("language", "task", "shots", "n")),
            metric,
            score["value"],
            score["standard_error"],
        ]
        for result in found["results"]
        for metric, score in result["scores"].items()
    ]
    head = ["measure", "language", "task", "shots", "questions", "metric", "value", "± SE"]
    template = "in the chat template" if found["settings"]["chat_template"] else "plain text"
    console.show_table(f"{found['model']} ({template}, {found['settings']['dtype']})", head, rows)
    averages = [
        [average["measure"], average["metric"], ", ".join(average["languages"]), over]
        + [average[kind][key] for key in ("value", "standard_error", "clustered")]
        for average in found["pooled"]
        for over, kind in (("languages", "by_language"), ("questions", "by_item"))
    ]
    if averages:
        head = ["measure", "metric", "of", "every one counts the same", "value", "± SE, independent", "± SE, clustered"]
        console.show_table("averages", head, averages)


def _show_coverage(found: dict[str, Any]) -> None:
    rows = [
        [code, *(" ".join(tasks) or None for tasks in entry["tasks"].values())]
        for code, entry in found["languages"].items()
    ]
    console.show_table("tasks of lm-eval", ["language", *found["notes"]], rows)
    others = [
        [code, " ".join(entry["alternatives"])] for code, entry in found["languages"].items() if entry["alternatives"]
    ]
    if others:
        console.show_table("other benchmarks where one is missing, for --task", ["language", "tasks"], others)
    for benchmark, note in found["notes"].items():
        console.line(f"{benchmark}: {note}")
