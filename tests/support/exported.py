"""A finished run made by hand, with hostile texts in it: pairs of two iterations, a checkpoint, a judge's annotations.

No model is run; the files are written by what writes them in a run.
"""

from pathlib import Path
from typing import Any

import yaml
from tests.support.families import make_family

from crossward.config import Config, parse
from crossward.core.records import PreferencePair, Prompt, Response, ScoredResponse, Skipped
from crossward.pipeline.provenance import claim
from crossward.store import manifest, tables
from crossward.store.run_dir import RunDir, StageDir
from crossward.store.verdict_file import write_annotations

# What has broken pages, tables, shells and front matter before.
HOSTILE = (
    "<script>alert('x')</script>",
    "<img src=x onerror=alert(1)>",
    "[link](javascript:alert(1))",
    "left\u202etfel",
    "---\nlicense: mit\n---",
    "| a | `b` | $(rm -rf ~) |",
    '=HYPERLINK("http://x","y")',
    "+1, -1, @x",
    'a,b;"c"\r\nd\te',
    "null byte \x00 and \x1b[31m",
    "\u2028line\u2029paragraph\x85next",
    "🙂 ไทย 中文 עברית",
    " spaces at both ends ",
    "NA",
)
LANGUAGES = ("en", "es")


def pairs_of(language: str, *, shift: float = 0.0) -> list[PreferencePair | Skipped]:
    """A pair for every hostile text, and two prompts without one; margins are 1, 2, 3 … nats."""
    found: list[PreferencePair | Skipped] = []
    for index, text in enumerate(HOSTILE):
        prompt = Prompt(
            id=f"p{index}",
            language=language,
            instruction=text if language == "en" else f"{text} (es)",
            english_instruction=text,
        )
        found.append(
            PreferencePair(
                prompt=prompt,
                chosen=scored(f"{HOSTILE[-1 - index]} chosen", index + 1.0 + shift),
                rejected=scored(f"{text} rejected", shift),
                alpha=0.25,
                chosen_score=index + 1.0 + shift,
                rejected_score=shift,
            )
        )
    plain = Prompt(id="tied", language=language, instruction="x", english_instruction="x")
    return [*found, Skipped(prompt=plain, reason="tie"), Skipped(prompt=plain, reason="truncated")]


def scored(text: str, log_ratio: float, *, cut: bool = False) -> ScoredResponse:
    return ScoredResponse(
        response=Response(text=text, token_ids=(5, 6), finish_reason="length" if cut else "stop"),
        policy_logprob=log_ratio - 5,
        reference_logprob=-5.0,
        n_tokens=2,
    )


def made_run(folder: Path, *, judged: bool = False, adapter: bool = False, **changes: Any) -> RunDir:
    """A run of two iterations in folder/run; `changes` replace sections of its config.

    With `adapter` its checkpoint has the file that marks one.
    """
    policy = make_family("chatml", folder / "policy", seed=0)
    recipe: dict[str, Any] = {
        "run": str(folder / "run"),
        "languages": list(LANGUAGES),
        "iterations": 2,
        "models": {"policy": str(policy), "reference": str(folder / "reference"), "dtype": "float32"},
        "prompts": {"path": str(folder / "{language}.jsonl")},
        "train": {"batch_size": 4, "micro_batch_size": 2, "learning_rate": 1e-3, "nll_weight": 0.5},
    }
    config: Config = parse(recipe | changes, where="test recipe")
    directory = RunDir(Path(config.run))
    claim(directory, config, [])
    for t in (1, 2):
        stage = directory.iteration(t).stage("pair")
        languages = {language: pairs_of(language, shift=t / 8) for language in LANGUAGES}
        _finish(stage, languages)
    train = directory.iteration(1).stage("train")
    manifest.begin(train, {"pair": "0"}, {"beta": 0.1})
    make_family("chatml", train.checkpoint, seed=3)
    if adapter:
        (train.checkpoint / "adapter_config.json").write_text('{"base_model_name_or_path": "/here/policy"}')
    files = [path for path in train.checkpoint.rglob("*") if path.is_file()]
    counts = {"training": {"steps": 7, "pairs": 28, "dpo_loss": 0.6}}
    manifest.finish(train, {"pair": "0"}, {"beta": 0.1}, counts=counts, files=files, seconds=1.0)
    if judged:
        for t in (0, 1):
            for language in LANGUAGES:
                path = directory.iteration(t).stage("judge").annotations / f"π_{t}.{language}.json"
                write_annotations(path, annotations(f"π_{t}", language))
    return directory


def annotations(model: str, language: str, *, judge: str = "judge") -> list[dict[str, Any]]:
    """A verdict on every hostile text; none on the last."""
    return [
        {
            "id": f"p{index}",
            "instruction": f"{text} ({language})",
            "output_1": f"{text} baseline",
            "generator_1": "reference",
            "output_2": f"{text} {model}",
            "generator_2": model,
            "annotator": judge,
            "language": language,
            "preference": None if index == len(HOSTILE) - 1 else 1 + index / len(HOSTILE),
        }
        for index, text in enumerate(HOSTILE)
    ]


def _finish(stage: StageDir, languages: dict[str, list[PreferencePair | Skipped]]) -> None:
    manifest.begin(stage, {"score": "0"}, {})
    counts: dict[str, Any] = {}
    for language, outcomes in languages.items():
        tables.write_outcomes(stage.language_file(language), outcomes)
        counts[language] = {
            "n_groups": len(outcomes),
            "n_pairs": len(HOSTILE),
            "alpha": 0.25,
            "length_gap_before": 1.0,
            "length_gap_after": 0.0,
            "mean_margin": 3.0,
            "skipped": {"tie": 1, "truncated": 1},
        }
    files = [stage.language_file(language) for language in languages]
    manifest.finish(stage, {"score": "0"}, {}, counts={"languages": counts}, files=files, seconds=1.0)


def front_matter(card: Path) -> dict[str, Any]:
    """The YAML head of a card, found as the hub finds it: up to the first line that is three dashes."""
    lines = card.read_text(encoding="utf-8").split("\n")
    assert lines[0] == "---"
    return yaml.safe_load("\n".join(lines[1 : lines.index("---", 1)]))
