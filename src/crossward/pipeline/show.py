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
    ranked = here.stage("rate") if here.stage("rate").shards() else here.stage("score")
    scored = _find(ranked, language, prompt_id)
    outcomes = _outcomes(here.stage("pair"), language, prompt_id)
    if scored is None:
        return _sampled_only(here.stage("sample"), t, language, prompt_id, outcomes)
    outcome = outcomes[0] if outcomes else None
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


def _sampled_only(
    stage: StageDir, t: int, language: str, prompt_id: str, outcomes: list[PreferencePair | Skipped]
) -> list[str]:
    """A prompt whose responses have no score: not yet, or (lidr) never, as its pairs are made by direction."""
    for code, _, path in stage.shards():
        for group in tables.read_sampled(path) if code == language else []:
            if group.prompt.id == prompt_id:
                told = [line for outcome in outcomes for line in _by_direction(outcome)] or ["not scored yet"]
                return [*_header(group.prompt, t), *(f"  {r.text!r}" for r in group.responses), *told]
    return []


def _by_direction(outcome: PreferencePair | Skipped) -> list[str]:
    if isinstance(outcome, Skipped):
        return [f"no pair: {outcome.reason}"]
    sides = (("chosen", outcome.chosen), ("rejected", outcome.rejected))
    return ["pair by the direction of translation:", *(f"{name:9}{side.response.text!r}" for name, side in sides)]


def _header(prompt: Prompt, t: int) -> list[str]:
    lines = [f"iteration {t} · {prompt.language} · {prompt.id}", f"prompt: {prompt.instruction}"]
    return lines if prompt.language == "en" else [*lines, f"English twin: {prompt.english_instruction}"]


def _find(stage: StageDir, language: str, prompt_id: str) -> Ranked | None:
    return next((group for group in stream_ranked(stage, language) if group.prompt.id == prompt_id), None)


def _outcomes(stage: StageDir, language: str, prompt_id: str) -> list[PreferencePair | Skipped]:
    """What became of a prompt; one outcome, but for English under lidr, which has one for every other language."""
    path = stage.language_file(language)
    if not path.exists():
        return []
    return [outcome for outcome in tables.read_outcomes(path) if outcome.prompt.id == prompt_id]
