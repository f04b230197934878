"""The verb `align`: π_0 from an SFT model and a file of preferences."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from crossward import console
from crossward.cli_options import Device, Json, Precision, Trust

if TYPE_CHECKING:
    from crossward.engines.protocols import Alignment, Training

AlignMethod = Literal["dpo", "kto", "simpo", "orpo"]
Sft = Annotated[str, typer.Option(help="The SFT model: a folder or a hub name.", show_default=False)]
PreferenceSource = Annotated[
    str, typer.Option(help="A .jsonl, .json, .csv or .parquet file, or a hub dataset.", show_default=False)
]
Checkpoint = Annotated[Path, typer.Option(help="Folder for the aligned checkpoint.", show_default=False)]
Split = Annotated[str, typer.Option(help="A dataset's split.")]
Configuration = Annotated[str | None, typer.Option(help="A dataset's configuration.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Stop reading after so many usable rows.")]
Beta = Annotated[float | None, typer.Option(help="β, for orpo λ [dpo 0.01, kto 0.1, simpo 2, orpo 0.1].")]
Gamma = Annotated[float | None, typer.Option(min=0.0, help="simpo: the margin γ [half of β].")]
NllWeight = Annotated[float | None, typer.Option(min=0.0, help="dpo, simpo: weight of the NLL of the chosen [0].")]
Desirable = Annotated[float | None, typer.Option(min=0.001, help="kto: λ_D [1].")]
Undesirable = Annotated[float | None, typer.Option(min=0.001, help="kto: λ_U [1].")]
Rate = Annotated[float | None, typer.Option(min=0.0, help="[dpo 5e-7, kto 5e-7, simpo 6e-7, orpo 5e-6]")]
Epochs = Annotated[float, typer.Option(min=0.01)]
Batch = Annotated[int, typer.Option(min=1, help="Pairs (kto: answers) per optimiser step.")]
MicroBatch = Annotated[int | None, typer.Option(min=1, help="Pairs (kto: answers) at once [1, kto 4].")]
MaxLength = Annotated[int, typer.Option(min=2, help="Tokens of prompt and answer; longer is left out.")]
Warmup = Annotated[float, typer.Option(min=0.0, max=0.99)]
Checkpointing = Annotated[bool, typer.Option("--gradient-checkpointing", help="Less memory, more time.")]
LoraRank = Annotated[int | None, typer.Option(min=1, help="Train a LoRA adapter of this rank.")]


def align(
    model: Sft,
    preferences: PreferenceSource,
    output: Checkpoint,
    method: Annotated[AlignMethod, typer.Option(help="What is trained; docs/align.md says what each assumes.")] = "dpo",
    split: Split = "train",
    config: Configuration = None,
    limit: Limit = None,
    beta: Beta = None,
    gamma: Gamma = None,
    nll_weight: NllWeight = None,
    desirable_weight: Desirable = None,
    undesirable_weight: Undesirable = None,
    learning_rate: Rate = None,
    epochs: Epochs = 1.0,
    batch_size: Batch = 128,
    micro_batch_size: MicroBatch = None,
    max_length: MaxLength = 2048,
    warmup_ratio: Warmup = 0.1,
    scheduler: Literal["cosine", "linear", "constant"] = "cosine",
    gradient_checkpointing: Checkpointing = False,
    lora_rank: LoraRank = None,
    save_dtype: Precision = "float32",
    seed: int = 42,
    dtype: Precision = "bfloat16",
    device: Device = "auto",
    trust_remote_code: Trust = False,
    json: Json = False,
) -> None:
    """Make an aligned model from an SFT model and a file of preferences: the start of the method.

    Example: crossward align --model SFT --preferences pairs.jsonl --output aligned --method dpo
    """
    from crossward.engines.protocols import Lora, ModelSpec, Training
    from crossward.pipeline.align import align_file

    usual_beta, usual_rate = _usual(method)
    training = Training(
        beta=usual_beta if beta is None else beta,
        nll_weight=nll_weight or 0.0,
        learning_rate=usual_rate if learning_rate is None else learning_rate,
        epochs=epochs,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size or (min(4, batch_size) if method == "kto" else 1),
        warmup_ratio=warmup_ratio,
        max_length=max_length,
        seed=seed,
        scheduler=scheduler,
        gradient_checkpointing=gradient_checkpointing,
        lora=None if lora_rank is None else Lora(rank=lora_rank, alpha=2.0 * lora_rank),
        save_dtype=save_dtype,
    )
    summary = align_file(
        ModelSpec(path=model, dtype=dtype, device=device, trust_remote_code=trust_remote_code),
        preferences,
        output,
        alignment=_alignment(method, training, gamma, nll_weight, desirable_weight, undesirable_weight),
        limit=limit,
        split=split,
        config=config,
        progress=console.Terminal(),
    )
    if json:
        console.show_json(summary)
    else:
        console.show_table(f"{method} of {model}", ["", "value"], [[key, value] for key, value in summary.items()])


def _usual(method: AlignMethod) -> tuple[float, float]:
    """β (for ORPO λ) and learning rate where none is given; docs/align.md says where each is from."""
    match method:
        case "dpo":
            return 0.01, 5e-7
        case "kto":
            return 0.1, 5e-7
        case "simpo":
            return 2.0, 6e-7
        case "orpo":
            return 0.1, 5e-6


def _alignment(
    method: AlignMethod,
    training: "Training",
    gamma: float | None,
    nll_weight: float | None,
    desirable_weight: float | None,
    undesirable_weight: float | None,
) -> "Alignment":
    """The method with its own options. Raises ValueError for an option that belongs to another method."""
    from crossward.engines.protocols import Alignment

    for option, given, methods in (
        ("--gamma", gamma, ("simpo",)),
        ("--nll-weight", nll_weight, ("dpo", "simpo")),
        ("--desirable-weight", desirable_weight, ("kto",)),
        ("--undesirable-weight", undesirable_weight, ("kto",)),
    ):
        if given is not None and method not in methods:
            raise ValueError(f"{option} belongs to {' and '.join(methods)}, not to {method}: leave it out")
    return Alignment(
        method=method,
        training=training,
        gamma=(training.beta / 2 if gamma is None else gamma) if method == "simpo" else 0.0,
        desirable_weight=1.0 if desirable_weight is None else desirable_weight,
        undesirable_weight=1.0 if undesirable_weight is None else undesirable_weight,
    )
