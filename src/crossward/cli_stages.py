"""The stages as verbs on a user's own files: sample, score, pair, train. File in, file out."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from crossward import console
from crossward.cli_diagnose import show_noise
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
    Policy,
    Precision,
    Reference,
    Served,
    Timeout,
    Trust,
)


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
    progress = console.Terminal()
    prompts = read_prompts(
        input,
        language=language,
        english=english,
        id_field=id_field,
        instruction_field=instruction_field,
        progress=progress,
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
        progress=progress,
    )
    console.show_languages(summary, json=json, title=f"responses in {output}")


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
