"""The command line: one short function a verb. Heavy imports happen inside, so that --help is quick."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from crossward import console
from crossward.cli_diagnose import diagnose, show_noise
from crossward.cli_options import (
    Attempts,
    BaseUrl,
    Compatibility,
    Concurrency,
    Device,
    Engine,
    Input,
    Json,
    KeyEnv,
    Output,
    Overrides,
    Policy,
    Precision,
    Recipe,
    Reference,
    Run,
    Served,
    Timeout,
    Trust,
)


class _Guarded(TyperGroup):
    """Verbs whose errors are told by console.guarded: one sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        # The other verbs write their output at the end, in one step.
        resumes = sys.argv[1:2] in (["run"], ["sample"], ["score"])
        if code := console.guarded(lambda: super(_Guarded, self).invoke(ctx), again=_command_line(), resumes=resumes):
            raise typer.Exit(code)


app = typer.Typer(
    cls=_Guarded, no_args_is_help=True, add_completion=True, rich_markup_mode=None, pretty_exceptions_enable=False
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Align a language model in many languages from its English alignment alone."""
    if version:
        from crossward import __version__

        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def run(
    recipe: Recipe,
    overrides: Overrides = None,
    redo: Annotated[list[str] | None, typer.Option(help="A stage to do again, such as iteration-1/pair.")] = None,
) -> None:
    """Run a recipe from start to end, or continue it where it stopped.

    Example: crossward run recipes/smollm2.yaml sample.n=4 run=runs/small
    """
    from crossward.config import load
    from crossward.pipeline.iterate import run as run_recipe

    directory = run_recipe(load(recipe, overrides or ()), progress=console.Terminal(), redo=redo or ())
    console.out.print(f"report: {directory.report}", markup=False)


@app.command()
def check(recipe: Recipe, overrides: Overrides = None, json: Json = False) -> None:
    """Say what is wrong with a recipe before anything is computed.

    Exit code 2 where something is.

    Example: crossward check recipes/smollm2.yaml
    """
    from dataclasses import asdict

    from crossward.config import load
    from crossward.pipeline.check import check as check_recipe

    findings = check_recipe(load(recipe, overrides or ()))
    if json:
        console.show_json([asdict(finding) for finding in findings])
    else:
        console.show_table(
            str(recipe), ["", "what", "found"], [[finding.level, finding.subject, finding.text] for finding in findings]
        )
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(2)


@app.command()
def sample(
    input: Input,
    output: Output,
    policy: Annotated[str | None, typer.Option(help="The model; with openai the checkpoint that is served.")] = None,
    language: Annotated[str | None, typer.Option(help="Language of the prompts, where the rows do not say.")] = None,
    english: Annotated[Path | None, typer.Option(help="The English twins, joined by id.")] = None,
    id_field: Annotated[str, typer.Option(help="Field that holds the id.")] = "id",
    instruction_field: Annotated[str, typer.Option(help="Field that holds the prompt.")] = "instruction",
    n: Annotated[int, typer.Option(min=1, help="Responses per prompt.")] = 10,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.9,
    top_p: Annotated[float, typer.Option(min=0.01, max=1.0)] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 2400,
    seed: int = 42,
    engine: Annotated[
        Literal["auto", "transformers", "vllm", "openai"],
        typer.Option(help="auto: vLLM where it is installed for the device; openai: a server."),
    ] = "auto",
    base_url: BaseUrl = None,
    model: Served = None,
    api_key_env: KeyEnv = None,
    concurrency: Concurrency = 32,
    timeout: Timeout = 600.0,
    attempts: Attempts = 6,
    batch_rows: Annotated[int, typer.Option(min=1, help="transformers: responses generated at once.")] = 64,
    dtype: Precision = "bfloat16",
    device: Device = "auto",
    trust_remote_code: Trust = False,
    json: Json = False,
) -> None:
    """Sample responses to a file of prompts and write groups for `crossward score`.

    Example: crossward sample --policy P --input es.jsonl --english en.jsonl --language es --output groups.jsonl
    """
    from crossward.engines.protocols import ModelSpec, Sampling
    from crossward.pipeline.choose import endpoint_of, resolved
    from crossward.pipeline.resumable import sample_file
    from crossward.pipeline.standalone import read_prompts

    spec = ModelSpec(path=policy or "", dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    prompts = read_prompts(
        input, language=language, english=english, id_field=id_field, instruction_field=instruction_field
    )
    summary = sample_file(
        prompts,
        output,
        policy=spec if policy else None,
        engine=resolved(engine, spec),
        endpoint=endpoint_of(
            engine, base_url, model, api_key_env, concurrency=concurrency, timeout_s=timeout, attempts=attempts
        ),
        sampling=Sampling(n=n, temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, seed=seed),
        batch_rows=batch_rows,
        progress=console.Terminal(),
    )
    console.show_languages(summary, json=json, title=f"responses in {output}")


@app.command()
def score(
    policy: Policy,
    reference: Reference,
    input: Input,
    output: Output,
    view: Annotated[
        Literal["crosslingual", "multilingual"], typer.Option(help="The instruction that responses are judged under.")
    ] = "crosslingual",
    batch_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens at once; left out: what fits.")] = None,
    dtype: Precision = "bfloat16",
    device: Device = "auto",
    engine: Engine = "transformers",
    compatibility: Compatibility = "none",
    noise: Annotated[bool, typer.Option("--noise", help="Measure the noise floor: OUTPUT.noise.json.")] = False,
    trust_remote_code: Trust = False,
    json: Json = False,
) -> None:
    """Score every response with log π(y|x) under policy and reference: the implicit reward.

    Example: crossward score --policy P --reference R --input groups.jsonl --output scored.jsonl
    """
    from crossward.engines.protocols import ModelSpec
    from crossward.pipeline.resumable import score_file

    models = [
        ModelSpec(path=path, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
        for path in (policy, reference)
    ]
    summary = score_file(
        input,
        output,
        policy=models[0],
        reference=models[1],
        view=view,
        compatibility=compatibility,
        batch_tokens=batch_tokens,
        engine=engine,
        noise=noise,
        progress=console.Terminal(),
    )
    console.show_languages(summary, json=json, title=f"log-ratios in {output} (nats)")
    if noise and not json:
        show_noise(summary["languages"])


app.command()(diagnose)


@app.command()
def pair(
    input: Input,
    output: Output,
    length_unit: Annotated[
        Literal["characters", "tokens", "none"], typer.Option(help="Length that is controlled.")
    ] = "characters",
    upper_bound: Annotated[float | None, typer.Option(help="Never choose a response whose score reaches it.")] = None,
    min_margin: Annotated[str, typer.Option(help="Skip closer pairs (nats, or auto: INPUT.noise.json).")] = "0.0",
    language_filter: Annotated[
        Literal["none", "lingua"], typer.Option(help="lingua: leave out responses in the wrong language.")
    ] = "none",
    compatibility: Compatibility = "none",
    json: Json = False,
) -> None:
    """Make preference pairs of scored groups: best against worst.

    One α per language controls length.

    Example: crossward pair --input scored.jsonl --output pairs.jsonl --length-unit characters
    """
    from crossward.core.pairing import PairingRules, published_rules
    from crossward.pipeline.standalone import identifier_for, margins_for, pair_file

    smallest, margins = margins_for(min_margin, input)
    rules = PairingRules(length_unit=length_unit, upper_bound=upper_bound, min_margin=smallest)
    if compatibility == "published":
        if smallest or margins or language_filter != "none":
            raise ValueError("--compatibility published filters nothing: leave out --min-margin and --language-filter")
        rules = published_rules(length_unit, upper_bound)
    identifier = identifier_for(language_filter, input)
    summary = pair_file(input, output, rules=rules, margins=margins, identifier=identifier, progress=console.Terminal())
    console.show_languages({"languages": summary}, json=json, title=f"pairs in {output}", bare=True)


@app.command()
def train(
    policy: Policy,
    reference: Reference,
    input: Input,
    output: Annotated[Path, typer.Option("--output", help="Folder for the trained checkpoint.", show_default=False)],
    beta: Annotated[float, typer.Option(min=0.0)] = 0.1,
    nll_weight: Annotated[float, typer.Option(min=0.0, help="Weight of the NLL of the chosen, per sequence.")] = 1.0,
    learning_rate: Annotated[float, typer.Option(min=0.0)] = 5e-7,
    epochs: Annotated[float, typer.Option(min=0.01)] = 1.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Pairs per optimiser step.")] = 32,
    micro_batch_size: Annotated[int, typer.Option(min=1, help="Pairs at once.")] = 1,
    warmup_ratio: Annotated[float, typer.Option(min=0.0, max=0.99)] = 0.1,
    max_length: Annotated[int, typer.Option(min=2)] = 4096,
    lora_rank: Annotated[int | None, typer.Option(min=1, help="Train a LoRA adapter of this rank.")] = None,
    save_dtype: Precision = "float32",
    seed: int = 42,
    dtype: Precision = "bfloat16",
    device: Device = "auto",
    trust_remote_code: Trust = False,
    json: Json = False,
) -> None:
    """Train with DPO + NLL on a file of pairs, over an explicit reference.

    Example: crossward train --policy P --reference P --input pairs.jsonl --output aligned
    """
    from crossward.engines.protocols import Lora, ModelSpec, Training
    from crossward.pipeline.standalone import train_file

    models = [
        ModelSpec(path=path, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
        for path in (policy, reference)
    ]
    training = Training(
        beta=beta,
        nll_weight=nll_weight,
        learning_rate=learning_rate,
        epochs=epochs,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        warmup_ratio=warmup_ratio,
        max_length=max_length,
        seed=seed,
        lora=None if lora_rank is None else Lora(rank=lora_rank, alpha=2.0 * lora_rank),
        save_dtype=save_dtype,
    )
    summary = train_file(
        input,
        output,
        policy=models[0],
        reference=models[1],
        training=training,
        batch_tokens=None,
        progress=console.Terminal(),
    )
    if json:
        console.show_json(summary)
    else:
        console.show_table(f"training of {output}", ["", "value"], [[key, value] for key, value in summary.items()])


@app.command()
def show(
    run: Run,
    prompt: Annotated[str, typer.Option("--prompt", help="The prompt's id.", show_default=False)],
    language: Annotated[str | None, typer.Option(help="Only this language.")] = None,
) -> None:
    """Show one prompt's life: responses, scores, and its pair or why there is none.

    Example: crossward show runs/smollm2 --prompt 17 --language es
    """
    from crossward.pipeline.show import prompt_life

    for line in prompt_life(run, prompt, language):
        console.out.print(line, markup=False)


@app.command()
def report(run: Run) -> None:
    """Write the report of a run again, finished or not.

    Example: crossward report runs/smollm2
    """
    from crossward.pipeline.report.markdown import report_again

    console.out.print(f"report: {report_again(run)}", markup=False)


def _command_line() -> str:
    """What was typed, to be typed again."""
    return shlex.join(["crossward", *sys.argv[1:]])


def main() -> None:
    """Run the command line."""
    console.interrupt_when_terminated()
    app(prog_name="crossward")
