"""The verb `crossward evaluate`: answers against a baseline's, by a judge; and the table of what a judge did."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from crossward import console
from crossward.cli_options import Device, Json, Precision, Trust
from crossward.cli_winrate import Difficulty, Gamed, LengthControl, Resamples, show_paper_table, show_rates


def evaluate(
    answers: Annotated[
        list[Path], typer.Option(help="Answers (model_outputs.json or groups), {language} in the path; repeatable.")
    ],
    baseline: Annotated[Path, typer.Option(help="The baseline's answers, likewise.", show_default=False)],
    language: Annotated[list[str], typer.Option(help="A language; repeatable.", show_default=False)],
    output: Annotated[Path, typer.Option(help="Folder for verdicts, annotations and rates.", show_default=False)],
    name: Annotated[list[str] | None, typer.Option(help="Name of each --answers; left out: its generator.")] = None,
    baseline_name: Annotated[str | None, typer.Option(help="Left out: its generator.")] = None,
    judge_base_url: Annotated[str | None, typer.Option(help="The judge's server (OpenAI's protocol).")] = None,
    judge_model: Annotated[str | None, typer.Option(help="The judge, as the server knows it.")] = None,
    judge_api_key_env: Annotated[str | None, typer.Option(help="Environment variable that holds the key.")] = None,
    judge_checkpoint: Annotated[str | None, typer.Option(help="Or a checkpoint that judges here, by vLLM.")] = None,
    template: Annotated[Path | None, typer.Option(help="The judge's prompt; left out: Crossward's own.")] = None,
    order: Annotated[
        Literal["seeded", "both"], typer.Option(help="Which answer is shown first: drawn, or both in turn.")
    ] = "seeded",
    concurrency: Annotated[int, typer.Option(min=1, help="Questions at once.")] = 32,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds to wait for one answer.")] = 120.0,
    attempts: Annotated[int, typer.Option(min=1, help="Failed requests for one question before it is null.")] = 12,
    deadline: Annotated[float | None, typer.Option(min=0.0, help="Minutes after which no question is asked.")] = None,
    prompt_price: Annotated[float, typer.Option(min=0.0, help="Money per million prompt tokens.")] = 0.0,
    completion_price: Annotated[float, typer.Option(min=0.0, help="Money per million completion tokens.")] = 0.0,
    max_cost: Annotated[float | None, typer.Option(min=0.0, help="Money of one call, no question beyond it.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=0, help="Tokens of one call, no question beyond them.")] = None,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Judge what both sides answer.")] = False,
    variant: LengthControl = "joint",
    difficulty: Difficulty = None,
    gamed: Gamed = None,
    resamples: Resamples = 1000,
    seed: int = 0,
    estimate: Annotated[bool, typer.Option("--estimate", help="Say what it would take, and ask nobody.")] = False,
    dtype: Precision = "bfloat16",
    device: Device = "auto",
    trust_remote_code: Trust = False,
    json: Json = False,
) -> None:
    """Judge answers against a baseline's and tabulate win rates; run again, it continues where it stopped.

    Example: crossward evaluate --answers 'outputs/{language}.json' --baseline 'gpt/{language}.json' --language es
    --judge-base-url http://localhost:8000/v1 --judge-model M --output evaluation
    """
    from crossward.core.spending import Budget
    from crossward.engines.endpoint import Endpoint
    from crossward.engines.protocols import ModelSpec
    from crossward.pipeline.evaluate import LengthControl, comparisons_of, estimate_files, evaluate_files
    from crossward.pipeline.judges import JudgeSettings
    from crossward.pipeline.winrates import published_data

    if name and len(name) != len(answers):
        raise ValueError(f"--name is given {len(name)} times for {len(answers)} files of answers: one each, or none")
    if (judge_base_url is None) != (judge_model is None):
        raise ValueError("--judge-base-url and --judge-model name a server together: got one of them")
    endpoint = None
    if judge_base_url is not None and judge_model is not None:
        endpoint = Endpoint(
            base_url=judge_base_url,
            model=judge_model,
            api_key_env=judge_api_key_env,
            concurrency=concurrency,
            timeout_s=timeout,
            attempts=attempts,
            first_pause_s=0.5,
        )
    checkpoint = None
    if judge_checkpoint is not None:
        checkpoint = ModelSpec(path=judge_checkpoint, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    settings = JudgeSettings(
        endpoint=endpoint,
        checkpoint=checkpoint,
        template=template,
        order=order,
        seed=seed,
        budget=Budget(
            prompt_price=prompt_price, completion_price=completion_price, max_cost=max_cost, max_tokens=max_tokens
        ),
        deadline_s=None if deadline is None else 60 * deadline,
    )
    control = LengthControl(
        variant=variant, published=published_data(variant, difficulty, gamed), resamples=resamples, seed=seed
    )
    terminal = console.Terminal()
    comparisons = comparisons_of(
        list(zip(name or [None] * len(answers), answers, strict=True)),
        baseline,
        languages=language,
        baseline_name=baseline_name,
        allow_missing=allow_missing,
        progress=terminal,
    )
    if estimate:
        _show_estimate(estimate_files(comparisons, settings), json)
        return
    found = evaluate_files(comparisons, output, settings=settings, control=control, progress=terminal)
    if json:
        console.show_json(found.summary())
        return
    summary = found.summary()
    show_paper_table(summary)
    show_rates(found.rates)
    show_judge(summary["judge"])


def show_judge(rows: list[dict[str, Any]]) -> None:
    """What the judge did: nulls by reason, and its bias of position."""
    head = ["model", "language", "asked", "null", "why", "first shown preferred", "names' mass", "letters", "disagreed"]
    keys = ("model", "language", "n", "n_null", "nulls", "first_shown_preferred", "named_mass", "letters_only")
    keys = (*keys, "orders_disagreed")
    console.show_table("the judge", head, [[row[key] for key in keys] for row in rows])


def _show_estimate(found: dict[str, Any], json: bool) -> None:
    if json:
        console.show_json(found)
    else:
        console.show_table("what judging would take, roughly", list(found), [list(found.values())])
