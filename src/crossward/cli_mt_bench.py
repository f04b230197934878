"""The verb `crossward mt-bench` with its table."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from crossward import console
from crossward.cli_options import BaseUrl, Device, Json, KeyEnv, Precision, Served, Trust

Questions = Annotated[str, typer.Option(help="Question files, such as 'q/{language}.jsonl'.", show_default=False)]
Folder = Annotated[Path, typer.Option("--output", help="Folder for answers, ratings and scores.", show_default=False)]
Languages = Annotated[list[str], typer.Option("--language", help="A language to grade in; give it once for each.")]


def mt_bench(
    questions: Questions,
    language: Languages,
    output: Folder,
    judge_base_url: Annotated[str, typer.Option(help="The judge's server, such as http://localhost:8000/v1.")],
    judge_model: Annotated[str, typer.Option(help="The name under which the server knows the judge.")],
    judge_api_key_env: Annotated[str | None, typer.Option(help="Environment variable with the judge's key.")] = None,
    judge_max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of one judgement.")] = 2048,
    judge_tries: Annotated[int, typer.Option(min=1, help="Answers without a rating before it is null.")] = 4,
    references: Annotated[str | None, typer.Option(help="Right answers, such as 'r/{language}.jsonl'.")] = None,
    allow_missing_references: Annotated[
        bool, typer.Option("--allow-missing-references", help="Grade math, reasoning and coding without, and count.")
    ] = False,
    templates: Annotated[Path | None, typer.Option(help="Folder of judge's templates in place of ours.")] = None,
    answers: Annotated[str | None, typer.Option(help="Answers that are there, such as 'a/{language}.jsonl'.")] = None,
    policy: Annotated[str | None, typer.Option(help="The model; with openai the checkpoint that is served.")] = None,
    engine: Annotated[
        Literal["auto", "transformers", "vllm", "openai"],
        typer.Option(help="What answers. auto: vLLM where it is installed for the device; openai: a server."),
    ] = "auto",
    base_url: BaseUrl = None,
    model: Served = None,
    api_key_env: KeyEnv = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of one answer.")] = 1024,
    seed: int = 42,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at once, to a server.")] = 32,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds to wait for one answer of a server.")] = 600.0,
    attempts: Annotated[int, typer.Option(min=1, help="Failed requests for one thing before it is given up.")] = 6,
    batch_rows: Annotated[int, typer.Option(min=1, help="transformers: answers generated at once.")] = 64,
    dtype: Precision = "bfloat16",
    device: Device = "auto",
    trust_remote_code: Trust = False,
    json: Json = False,
) -> None:
    """MT-Bench: answer questions of two turns, let a judge rate them.

    Continues where it stopped; run again, it asks only for what is missing.

    Example: crossward mt-bench --questions 'q/{language}.jsonl' --language es --policy P
    --judge-base-url http://localhost:8000/v1 --judge-model J --output out
    """
    from crossward.engines.endpoint import Endpoint
    from crossward.engines.mt_bench_judge import Grading
    from crossward.engines.protocols import ModelSpec
    from crossward.pipeline.mt_bench import QuestionFiles
    from crossward.pipeline.mt_bench import mt_bench as grade
    from crossward.pipeline.mt_bench_answers import AskedPolicy

    patience: Any = {"concurrency": concurrency, "timeout_s": timeout, "attempts": attempts}
    asked = None
    if policy or base_url or model or api_key_env or engine != "auto":
        from crossward.pipeline.choose import endpoint_of

        spec = ModelSpec(path=policy or "", dtype=dtype, device=device, trust_remote_code=trust_remote_code)
        served = endpoint_of(engine, base_url, model, api_key_env, **patience)
        asked = AskedPolicy(
            spec=spec if policy else None,
            engine=engine,
            endpoint=served,
            batch_rows=batch_rows,
            max_new_tokens=max_new_tokens,
            seed=seed,
        )
    summary = grade(
        output,
        files=QuestionFiles(
            questions=questions,
            languages=tuple(language),
            references=references,
            allow_missing_references=allow_missing_references,
        ),
        answers=answers,
        policy=asked,
        judge=Endpoint(base_url=judge_base_url, model=judge_model, api_key_env=judge_api_key_env, **patience),
        grading=Grading(max_tokens=judge_max_tokens, tries=judge_tries, seed=seed),
        templates=templates,
        progress=console.Terminal(),
    )
    if json:
        console.show_json(summary)
    else:
        _show(summary)


def _show(summary: dict[str, Any]) -> None:
    """A row a language: each category's mean, both turns', the mean of all, how sure it is, and what is missing."""
    languages = summary["languages"]
    categories = list(dict.fromkeys(name for found in languages.values() for name in found["categories"]))
    head = ["language", *categories, "turn 1", "turn 2", "mean", "± s.e.", "95 %", "rated", "null", "tokens"]
    rows = [
        [
            code,
            *(_mean(found["categories"].get(name)) for name in categories),
            *(_mean(found["turns"][turn]) for turn in found["turns"]),
            *_total(found),
            found["tokens"],
        ]
        for code, found in languages.items()
    ]
    if summary["all"] is not None:
        rows.append(["all", *[None] * (len(categories) + 2), *_total(summary["all"]), summary["tokens"]])
    console.show_table(f"MT-Bench of {summary['model']}, judged by {summary['judge']} (ratings 1 to 10)", head, rows)
    for reason, count in summary["reasons"].items():
        console.line(f"null: {count} × {reason}")
    for code, found in languages.items():
        if found["n_without_reference"]:
            console.line(f"{code}: {found['n_without_reference']} questions judged without a reference answer")
        if found["n_cut"]:
            console.line(f"{code}: {found['n_cut']} answers were cut at their longest length")


def _mean(score: dict[str, Any] | None) -> str | None:
    return None if score is None or score["mean"] is None else f"{score['mean']:.2f}"


def _total(score: dict[str, Any]) -> list[object]:
    error, low, high = (score[name] for name in ("standard_error", "low", "high"))
    return [
        _mean(score),
        None if error is None else f"{error:.2f}",
        None if low is None else f"{low:.2f} to {high:.2f}",
        score["n_rated"],
        score["n_null"],
    ]
