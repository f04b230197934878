"""The verb `crossward prompts`: English prompts to parallel prompts in the languages named."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from crossward import console
from crossward.cli_options import Attempts as Requests
from crossward.cli_options import BaseUrl, Concurrency, Device, Json, KeyEnv, Served, Timeout, Trust


def prompts(
    input: Annotated[str, typer.Option("--input", help="English prompts: a file or a dataset.", show_default=False)],
    languages: Annotated[str, typer.Option(help="Languages to translate into: es,de,sw.", show_default=False)],
    output: Annotated[str, typer.Option(help="Files to write: 'prompts/{language}.jsonl'.", show_default=False)],
    translator: Annotated[str | None, typer.Option(help="The model: a folder or a hub name.")] = None,
    engine: Annotated[
        Literal["auto", "transformers", "vllm", "openai", "seq2seq"],
        typer.Option(help="auto: seq2seq for an encoder-decoder; else vLLM where it is installed, or transformers."),
    ] = "auto",
    base_url: BaseUrl = None,
    model: Served = None,
    api_key_env: KeyEnv = None,
    template: Annotated[Path | None, typer.Option(help="A file with {target} and {text}, or plain.")] = None,
    attempts: Annotated[int, typer.Option(min=1, help="How often a prompt is tried.")] = 3,
    complete: Annotated[
        bool, typer.Option("--complete", help="Write only prompts that exist in every language.")
    ] = False,
    keep_english_fields: Annotated[
        bool, typer.Option("--keep-english-fields", help="Copy the other fields of English rows.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first prompts.")] = None,
    id_field: Annotated[str, typer.Option(help="Field that holds the id.")] = "id",
    instruction_field: Annotated[str, typer.Option(help="Field that holds the prompt.")] = "instruction",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of one translation, at most.")] = 8192,
    beams: Annotated[int, typer.Option(min=1, help="seq2seq: beams of the first attempt.")] = 1,
    batch_rows: Annotated[int, typer.Option(min=1, help="transformers, seq2seq: texts at once.")] = 64,
    concurrency: Concurrency = 32,
    timeout: Timeout = 600.0,
    requests: Requests = 6,
    seed: int = 42,
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option(help="Weights of the translator.")] = "bfloat16",
    device: Device = "auto",
    trust_remote_code: Trust = False,
    json: Json = False,
) -> None:
    """Translate English prompts into parallel files, checked and tried again.

    Continues where it stopped; what fails goes, with its reason, into LANGUAGE.failed.jsonl.

    Example: crossward prompts --input english.jsonl --languages es,de --output 'prompts/{language}.jsonl'
    --translator P
    """
    from crossward.engines.protocols import ModelSpec
    from crossward.pipeline.choose import endpoint_of
    from crossward.pipeline.parallel_prompts import parallel_prompts
    from crossward.pipeline.translators import TranslatorSettings
    from crossward.store.sources import Source

    endpoint = endpoint_of(
        engine, base_url, model, api_key_env, concurrency=concurrency, timeout_s=timeout, attempts=requests
    )
    if endpoint is not None and translator is not None:
        raise ValueError("--engine openai takes the server's --model: leave out --translator")
    if endpoint is None and translator is None:
        raise ValueError("name who translates: --translator (a folder or a hub name), or a server with --engine openai")
    spec = None
    if translator is not None:
        spec = ModelSpec(path=translator, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    summary = parallel_prompts(
        Source(path=input, id_field=id_field, instruction_field=instruction_field),
        [code for code in (part.strip() for part in languages.split(",")) if code],
        output,
        settings=TranslatorSettings(
            engine=engine,
            model=spec,
            endpoint=endpoint,
            template=template,
            max_new_tokens=max_new_tokens,
            attempts=attempts,
            seed=seed,
            batch_rows=batch_rows,
            beams=beams,
        ),
        keep_fields=keep_english_fields,
        complete=complete,
        limit=limit,
        progress=console.Terminal(),
    )
    if json:
        console.show_json(summary)
    else:
        _show(summary)


def _show(summary: dict[str, Any]) -> None:
    """A row a language, with the reasons of what failed."""
    header = ["language", "prompts", "translated", "after a retry", "failed", "why", "written"]
    keys = ["n_prompts", "n_translated", "n_retried", "n_failed", "failed", "n_written"]
    rows = [[code, *(found[key] for key in keys)] for code, found in summary["languages"].items()]
    console.show_table(f"prompts in {summary['output']}, translated by {summary['translator']}", header, rows)
    console.line(f"{summary['n_in_every_language']} of {summary['n_prompts']} are in every language")
    if any(found["n_written"] < summary["n_prompts"] for found in summary["languages"].values()):
        console.line(
            "a recipe takes a language that lacks ids with prompts.allow_missing: true; --complete leaves them out",
        )
