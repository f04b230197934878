"""A whole recipe on a tiny random model: two checkpoints, prompts in two languages, everything in seconds on a CPU."""

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file
from tests.support.families import make_family

from crossward.config import Config, parse
from crossward.pipeline.concerns import look_at
from crossward.pipeline.report.markdown import markdown
from crossward.pipeline.report.sections import report_of
from crossward.pipeline.run_state import open_run
from crossward.store.run_dir import RunDir

PROMPTS = {
    "en": ["Name a fruit.", "Say hello.", "What is the sea?", "Count to three.", "Who sings?", "Open the door."],
    "es": [
        "Nombra una fruta.",
        "Di hola.",
        "¿Qué es el mar?",
        "Cuenta hasta tres.",
        "¿Quién canta?",
        "Abre la puerta.",
    ],
}


def write_prompts(folder: Path, prompts: dict[str, list[str]] | None = None) -> Path:
    """One JSONL per language with ids p0, p1 …; the Spanish file in another order than the English one."""
    folder.mkdir(parents=True, exist_ok=True)
    for language, texts in (prompts or PROMPTS).items():
        rows = [{"id": f"p{i}", "instruction": text} for i, text in enumerate(texts)]
        ordered = rows if language == "en" else rows[::-1]
        lines = [json.dumps(row, ensure_ascii=False) for row in ordered]
        (folder / f"{language}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def make_recipe(folder: Path, *, family: str = "chatml", head_size: int = 8, **changes: Any) -> dict[str, Any]:
    """A recipe as nested dictionaries; `changes` replace whole sections."""
    policy = make_family(family, folder / "policy", seed=0, head_size=head_size)
    reference = make_family(family, folder / "reference", seed=1, head_size=head_size)
    write_prompts(folder / "prompts")
    recipe: dict[str, Any] = {
        "run": str(folder / "run"),
        "languages": ["en", "es"],
        "iterations": 2,
        "shard_size": 2,
        "models": {"policy": str(policy), "reference": str(reference), "dtype": "float32"},
        "prompts": {"path": str(folder / "prompts" / "{language}.jsonl")},
        "sample": {"engine": "transformers", "n": 4, "temperature": 1.0, "max_new_tokens": 96},
        "score": {"noise_sample": 2},
        "pair": {"language_filter": "none"},
        "train": {"batch_size": 2, "micro_batch_size": 1, "learning_rate": 1e-3},
        "evaluate": {
            "prompts": {"path": str(folder / "prompts" / "{language}.jsonl"), "limit": 2},
            "max_new_tokens": 8,
        },
        "runtime": {"device": "cpu", "sample_rows": 8, "score_tokens": 512},
    }
    return recipe | changes


def make_child(parent: Path, folder: Path) -> None:
    """The parent's weights into another checkpoint of its shape, each matrix moved by 2 % of its own size."""
    noise = torch.Generator().manual_seed(0)
    weights = load_file(parent / "model.safetensors")
    moved = {
        name: tensor + 0.02 * tensor.std() * torch.randn(tensor.shape, generator=noise) if tensor.ndim > 1 else tensor
        for name, tensor in weights.items()
    }
    save_file(moved, folder / "model.safetensors", metadata={"format": "pt"})


def config_of(recipe: dict[str, Any]) -> Config:
    return parse(recipe, where="test recipe")


def write_recipe(folder: Path, recipe: dict[str, Any]) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    return path


def report_text(directory: RunDir) -> str:
    """The report of a run as Markdown: its words and tables, without the time that charts take."""
    opened, config = open_run(directory.root)
    return markdown(report_of(opened, config, look_at(opened, config)))
