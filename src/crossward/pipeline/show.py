"""One prompt's life through a run: its responses and scores in every iteration, and what became of them."""

from pathlib import Path

from crossward.core.records import (
    PreferencePair,
    Prompt,
    Ranked,
    RatedPrompt,
    ScoredPrompt,
    ScoredResponse,
    Skipped,
)
from crossward.pipeline.stage_files import stream_ranked
from crossward.store import tables
from crossward.store.run_dir import RunDir, StageDir


def prompt_life(run: Path, prompt_id: str, language: str | None = None) -> list[str]:
    """Lines that tell a prompt's life, in every language of the run or in one. ValueError where the id is unknown."""
    directory = RunDir(run)
    if not directory.config.exists():
        raise ValueError(f"{run} is not a run directory: it has no config.yaml")
    lines: list[str] = []
    t = 1
    while (sampled := directory.iteration(t).stage("sample")).path.exists():
        for code in sorted({code for code, _, _ in sampled.shards()}):
            if language in (None, code):
                lines += _in_iteration(directory, t, code, prompt_id)
        t += 1
    if not lines:
        raise ValueError(f"{run} has no prompt {prompt_id!r}: ids are those of the prompt files in config.yaml")
    return lines


def _in_iteration(directory: RunDir, t: int, language: str, prompt_id: str) -> list[str]:
    here = directory.iteration(t)
    ranked = here.stage("rate") if here.stage("rate").path.exists() else here.stage("score")
    scored = _find(ranked, language, prompt_id)
    if scored is None:
        return _sampled_only(here.stage("sample"), t, language, prompt_id)
    outcome = _outcome(here.stage("pair"), language, prompt_id)
    lines = _header(scored.prompt, t)
    match scored:
        case ScoredPrompt():
            lines.append(f"judged under ({scored.view}): {scored.judged_under}")
        case RatedPrompt():
            lines.append(f"rated by {scored.rated_by}, under: {scored.judged_under}")
    for response in sorted(scored.responses, key=lambda r: -r.score):
        mark = "       "
        if isinstance(outcome, PreferencePair):
            mark = {outcome.chosen: "chosen ", outcome.rejected: "rejected"}.get(response, mark)
        ended = "" if response.response.finish_reason == "stop" else " (cut)"
        unit = " nats" if isinstance(response, ScoredResponse) else ""
        lines.append(
            f"{mark:9}{response.score:+9.3f}{unit}  {response.n_chars:5d} chars{ended}  {response.response.text!r}"
        )
        if isinstance(response, ScoredResponse) and response.judged is not None:
            lines.append(f"{'':9}judged as {response.judged.text!r}")
    match outcome:
        case PreferencePair():
            unit = " nats" if isinstance(outcome.chosen, ScoredResponse) else ""
            lines.append(f"pair: margin {outcome.margin:.3f}{unit} at α = {outcome.alpha:.6g}")
        case Skipped():
            lines.append(f"no pair: {outcome.reason}")
        case None:
            lines.append("not paired yet")
    return lines


def _sampled_only(stage: StageDir, t: int, language: str, prompt_id: str) -> list[str]:
    for code, _, path in stage.shards():
        for group in tables.read_sampled(path) if code == language else []:
            if group.prompt.id == prompt_id:
                return [*_header(group.prompt, t), *(f"  {r.text!r}" for r in group.responses), "not scored yet"]
    return []


def _header(prompt: Prompt, t: int) -> list[str]:
    lines = [f"iteration {t} · {prompt.language} · {prompt.id}", f"prompt: {prompt.instruction}"]
    return lines if prompt.language == "en" else [*lines, f"English twin: {prompt.english_instruction}"]


def _find(stage: StageDir, language: str, prompt_id: str) -> Ranked | None:
    return next((group for group in stream_ranked(stage, language) if group.prompt.id == prompt_id), None)


def _outcome(stage: StageDir, language: str, prompt_id: str) -> PreferencePair | Skipped | None:
    path = stage.language_file(language)
    if not path.exists():
        return None
    return next((outcome for outcome in tables.read_outcomes(path) if outcome.prompt.id == prompt_id), None)
