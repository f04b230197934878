"""One prompt's life through a run: its responses and scores in every iteration, and what became of them.

As lines for people and as plain values for programs. The text of models stands in the lines as Python writes it, the
prompts as they are: whoever prints them makes them visible (core/plain_text.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossward.core.records import (
    PreferencePair,
    Prompt,
    Ranked,
    RankedResponse,
    RatedPrompt,
    SampledPrompt,
    ScoredPrompt,
    ScoredResponse,
    Skipped,
)
from crossward.pipeline.run_state import require_run
from crossward.pipeline.stage_files import ranked_stage, stream_ranked
from crossward.store import tables
from crossward.store.run_dir import RunDir, StageDir


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """A prompt in one iteration and language: `group` is ranked, or sampled alone where nothing ranked it.

    One outcome of pairing, but for English under lidr, which has one for every other language; none before pairing.
    """

    iteration: int
    group: Ranked | SampledPrompt
    outcomes: tuple[PreferencePair | Skipped, ...]

    @property
    def prompt(self) -> Prompt:
        return self.group.prompt


def lives(run: Path, prompt_id: str, language: str | None = None, iteration: int | None = None) -> list[Life]:
    """A prompt in every iteration and language of the run, or in one. ValueError where the id is unknown."""
    directory = require_run(run)
    found = list(_lives(directory, prompt_id, language, iteration))
    if not found:
        where = "" if language is None and iteration is None else " in this language and iteration"
        raise ValueError(f"{run} has no prompt {prompt_id!r}{where}: ids are those of the prompt files in config.yaml")
    return found


def lines_of(life: Life) -> list[str]:
    """One life, told."""
    scored = life.group
    lines = _header(life.prompt, life.iteration)
    if isinstance(scored, SampledPrompt):
        told = [line for outcome in life.outcomes for line in _by_direction(outcome)] or ["not scored yet"]
        return [*lines, *(f"  {r.text!r}" for r in scored.responses), *told]
    outcome = life.outcomes[0] if life.outcomes else None
    match scored:
        case ScoredPrompt():
            lines.append(f"judged under ({scored.view}): {scored.judged_under}")
        case RatedPrompt():
            lines.append(f"rated by {scored.rated_by}, under: {scored.judged_under}")
    for response in by_score(scored):
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


def plain_life(life: Life) -> dict[str, Any]:
    """One life as JSON: responses from the best to the worst, and the outcomes."""
    group = life.group
    if isinstance(group, SampledPrompt):
        responses = [{"text": r.text, "finish_reason": r.finish_reason} for r in group.responses]
        judged: dict[str, Any] = {}
    else:
        responses = [plain_response(response) for response in by_score(group)]
        by = {"view": group.view} if isinstance(group, ScoredPrompt) else {"rated_by": group.rated_by}
        judged = {**by, "judged_under": group.judged_under}
    return {
        **plain_place(life),
        **judged,
        "responses": responses,
        "outcomes": [
            {"pair": plain_pair(outcome)} if isinstance(outcome, PreferencePair) else {"skipped": outcome.reason}
            for outcome in life.outcomes
        ],
    }


def plain_place(life: Life) -> dict[str, Any]:
    """Which prompt, where."""
    return {
        "iteration": life.iteration,
        "language": life.prompt.language,
        "id": life.prompt.id,
        "instruction": life.prompt.instruction,
        "english_instruction": life.prompt.english_instruction,
    }


def plain_pair(pair: PreferencePair) -> dict[str, Any]:
    """What pairing says of a pair, without its texts."""
    return {
        "margin": pair.margin,
        "alpha": pair.alpha,
        "chosen_score": pair.chosen_score,
        "rejected_score": pair.rejected_score,
    }


def plain_response(response: RankedResponse) -> dict[str, Any]:
    """A response with what it was ranked by."""
    found: dict[str, Any] = {
        "text": response.response.text,
        "score": response.score,
        "n_chars": response.n_chars,
        "n_tokens": response.n_response_tokens,
        "finish_reason": response.response.finish_reason,
    }
    if isinstance(response, ScoredResponse):
        found |= {"policy_logprob": response.policy_logprob, "reference_logprob": response.reference_logprob}
        if response.judged is not None:
            found["judged"] = response.judged.text
    return found


def by_score(group: Ranked) -> list[RankedResponse]:
    """The responses of a group, the best first."""
    return sorted(group.responses, key=lambda response: -response.score)


def _lives(directory: RunDir, prompt_id: str, language: str | None, iteration: int | None) -> Iterator[Life]:
    for t in directory.iterations():
        sampled = directory.iteration(t).stage("sample")
        if t and iteration in (None, t) and sampled.path.exists():
            for code in sampled.languages():
                if language in (None, code):
                    yield from _in_iteration(directory, t, code, prompt_id)


def _in_iteration(directory: RunDir, t: int, language: str, prompt_id: str) -> Iterator[Life]:
    here = directory.iteration(t)
    ranked = ranked_stage(here)
    group = _ranked(ranked, language, prompt_id) or _sampled(here.stage("sample"), language, prompt_id)
    if group is not None:
        outcomes = tuple(_outcomes(here.stage("pair"), language, prompt_id))
        yield Life(iteration=t, group=group, outcomes=outcomes)


def _ranked(stage: StageDir, language: str, prompt_id: str) -> Ranked | None:
    return next(stream_ranked(stage, language, id=prompt_id), None)


def _sampled(stage: StageDir, language: str, prompt_id: str) -> SampledPrompt | None:
    """A prompt whose responses have no score: not yet, or (lidr) never, as its pairs are made by direction."""
    shards = (path for _, _, path in stage.shards(language))
    return next((group for path in shards for group in tables.stream_sampled(path, id=prompt_id)), None)


def _outcomes(stage: StageDir, language: str, prompt_id: str) -> list[PreferencePair | Skipped]:
    path = stage.language_file(language)
    if not path.exists():
        return []
    return list(tables.stream_outcomes(path, id=prompt_id))


def _by_direction(outcome: PreferencePair | Skipped) -> list[str]:
    if isinstance(outcome, Skipped):
        return [f"no pair: {outcome.reason}"]
    sides = (("chosen", outcome.chosen), ("rejected", outcome.rejected))
    return ["pair by the direction of translation:", *(f"{name:9}{side.response.text!r}" for name, side in sides)]


def _header(prompt: Prompt, t: int) -> list[str]:
    lines = [f"iteration {t} · {prompt.language} · {prompt.id}", f"prompt: {prompt.instruction}"]
    return lines if prompt.language == "en" else [*lines, f"English twin: {prompt.english_instruction}"]
