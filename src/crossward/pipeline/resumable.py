"""Sampling and scoring of single files: hours of work, so what is finished is kept in a journal beside the output.

The same call again continues, and gives the bytes of a call that was never cut. The same functions that a run uses.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

from crossward import __version__
from crossward.core.language import language_name
from crossward.core.records import Prompt, SampledPrompt, ScoredPrompt, View
from crossward.engines.endpoint import Endpoint
from crossward.engines.models import fingerprint_size, model_fingerprint, settle
from crossward.engines.protocols import ModelSpec, Sampler, Sampling, Scorer, no_progress
from crossward.engines.tokens import ChatTokens, load_tokens
from crossward.pipeline.choose import endpoint_sampler, local_sampler, local_scorer
from crossward.pipeline.comparable import comparable_tokens
from crossward.pipeline.counts import SampledTally, ScoredTally, sampled_counts
from crossward.pipeline.noise import measure_noise, noise_sample
from crossward.pipeline.progress import Portion, Progress, in_megabytes
from crossward.pipeline.prompts import prompt_hashes
from crossward.pipeline.streams import (
    ENDPOINT_WINDOW,
    SAMPLE_WINDOW,
    WINDOW,
    counted,
    score_windows,
    told_work,
    windows,
)
from crossward.store import edges
from crossward.store.answers import answers_file
from crossward.store.journal import Journal
from crossward.store.noise_file import noise_file, write_noise

Summary = dict[str, Any]


def sample_file(
    prompts: Mapping[str, Sequence[Prompt]],
    output: Path,
    *,
    policy: ModelSpec | None,
    sampling: Sampling,
    batch_rows: int,
    engine: str = "transformers",
    endpoint: Endpoint | None = None,
    window: int | None = None,
    progress: Progress,
) -> Summary:
    """Sample responses to prompts and write the groups; `policy` may be None where an `endpoint` serves it.

    Continues where the same call was cut, at a multiple of `window` prompts (store/journal.py); an endpoint is asked
    for no prompt again whose answers had come (store/answers.py).
    """
    settle()
    window = window or (SAMPLE_WINDOW if endpoint is None else ENDPOINT_WINDOW)
    answers = answers_file(output)  # None where nothing can be kept

    def opened() -> Sampler:
        if endpoint is not None:
            return endpoint_sampler(endpoint, policy, answers=answers, progress=progress)
        if policy is None:
            raise ValueError("name the model to sample from with --policy, or a server with --engine openai")
        return local_sampler(engine, policy, load_tokens(policy), batch_rows=batch_rows)

    origin = {
        "prompts": prompt_hashes({language: list(group) for language, group in prompts.items()}),
        "policy": None if policy is None else _identity(policy, progress),
        "endpoint": None if endpoint is None else [endpoint.base_url, endpoint.model],
        "engine": engine,
        "sampling": asdict(sampling),
        "batch_rows": batch_rows,
    }
    asked = [prompt for _, group in sorted(prompts.items()) for prompt in group]
    tallies = {language: SampledTally() for language in sorted(prompts)}
    with Journal(output, origin | _version("sample", window), window=window, total=len(asked)) as journal:
        _say_where(journal, len(asked), progress)
        for row in journal.rows():
            group = edges.group_of(row, str(journal.path))
            tallies[group.prompt.language].add(group)
        left = asked[journal.done :]
        if left:
            portions = {language: _portion(group, left) for language, group in sorted(prompts.items())}
            with progress.sampling(str(output), portions, sampling.n) as shown, closing(opened()) as sampler:
                for chunk in windows(left, window):
                    groups = sampler.sample(chunk, sampling, advance=shown.of(chunk[0].language))
                    journal.append(map(edges.group_row, groups))
                    for group in groups:
                        tallies[group.prompt.language].add(group)
                    for language in {prompt.language for prompt in chunk}:
                        shown.note(language, sampled_counts(g for g in groups if g.prompt.language == language))
        journal.publish()
        if answers is not None:
            answers.unlink(missing_ok=True)
    return {"languages": {language: tally.counts() for language, tally in tallies.items()}}


def score_file(
    input: Path,
    output: Path,
    *,
    policy: ModelSpec,
    reference: ModelSpec,
    view: View,
    compatibility: str,
    batch_tokens: int | None,
    engine: str = "transformers",
    noise: bool = False,
    window: int = WINDOW,
    progress: Progress,
) -> Summary:
    """Score every response of a file of groups under both models and write the scored groups.

    Continues where the same call was cut, at a multiple of `window` groups (store/journal.py).
    `noise`: score a sample again and write the noise floor beside them (store/noise_file.py).
    """
    settle()
    with edges.groups_in(input) as groups:
        with in_megabytes(progress, f"reading {input}", groups.size) as advance:
            groups.watch(advance)
            n_groups, n_sampled = _counted(groups)
        groups.watch(no_progress)
        if view == "crosslingual":
            _require_names(input, groups.languages)
        tokens = comparable_tokens(policy, reference)
        origin = {
            "input": groups.sha256(),
            "policy": _identity(policy, progress),
            "reference": _identity(reference, progress),
            "view": view,
            "compatibility": compatibility,
            "engine": engine,
            "batch_tokens": batch_tokens,
        }

        if origin["policy"] == origin["reference"]:
            progress.say("policy and reference have the same weights: every log-ratio will be 0")

        def opened(spec: ModelSpec) -> Scorer:
            return _scorer(spec, tokens, compatibility, engine, batch_tokens)

        tallies = {language: ScoredTally() for language in groups.languages}
        floors: dict[str, Any] = {}
        with (
            Journal(output, origin | _version("score", window), window=window, total=n_groups) as journal,
            ExitStack() as models,
        ):
            _say_where(journal, n_groups, progress)
            for scored in _scored_rows(journal):
                tallies[scored.prompt.language].add(scored)
            scorers: list[Scorer] = []
            if journal.done < n_groups or noise:
                with progress.task("opening both models", 2) as advance:
                    specs = counted((policy, reference), advance)
                    scorers = [models.enter_context(closing(opened(spec))) for spec in specs]
            if journal.done < n_groups:
                total = 2 * (n_sampled.total() - sum(tally.n_responses for tally in tallies.values()))
                left = islice(groups, journal.done, None)
                with progress.task("log-probabilities", total) as advance:
                    for found in score_windows(left, view, *scorers, size=window, advance=advance):
                        journal.append(map(edges.scored_row, found))
                        for scored in found:
                            tallies[scored.prompt.language].add(scored)
                progress.say(told_work([scorer.work for scorer in scorers]))
            if noise:
                models.pop_all()  # measure_noise closes them
                floors = _noise(journal, scorers, (policy, reference), opened, progress)
                # Before the journal goes: killed in between, the same command measures again but scores nothing.
                write_noise(output, {"view": view, "dtype": policy.dtype, "languages": floors})
            else:
                noise_file(output).unlink(missing_ok=True)  # of an older scoring
            journal.publish()
    counts = {
        code: tally.counts(n_sampled[code]) | ({"noise": floors[code]} if noise else {})
        for code, tally in tallies.items()
    }
    return {"view": view, "languages": counts}


def _counted(groups: Iterable[SampledPrompt]) -> tuple[int, Counter[str]]:
    """How many groups, and how many responses of each language; reading all of them finds every mistake first."""
    n_groups = 0
    responses: Counter[str] = Counter()
    for group in groups:
        n_groups += 1
        responses[group.prompt.language] += len(group.responses)
    return n_groups, responses


def _require_names(input: Path, languages: Iterable[str]) -> None:
    for code in languages:
        try:
            language_name(code)
        except ValueError as error:
            raise ValueError(f"{input}: {error}") from None


def _scored_rows(journal: Journal) -> Iterator[ScoredPrompt]:
    return (edges.scored_of(row, str(journal.path)) for row in journal.rows())


def _noise(
    journal: Journal,
    scorers: Sequence[Scorer],
    models: tuple[ModelSpec, ModelSpec],
    opened: Callable[[ModelSpec], Scorer],
    progress: Progress,
) -> dict[str, Any]:
    """The noise floor of what a journal holds; closes the scorers."""
    exact = [replace(spec, dtype="float32") for spec in models]
    return measure_noise(
        noise_sample(_scored_rows(journal)),
        policy=scorers[0],
        reference=scorers[1],
        open_exact=None if models[0].dtype == "float32" else (lambda: opened(exact[0]), lambda: opened(exact[1])),
        progress=progress,
        title="scores",
    )


def _say_where(journal: Journal, total: int, progress: Progress) -> None:
    """Tell the person who watches what a journal was found to hold."""
    if journal.changed:
        progress.say(f"{journal.path} was begun with another {', '.join(journal.changed)}: beginning anew")
    elif journal.done:
        progress.say(f"continuing: {journal.done} of {total} groups are in {journal.path}")


def _identity(spec: ModelSpec, progress: Progress) -> list[str | bool | None]:
    """A model's content and how it is loaded."""
    with in_megabytes(progress, f"hashing {spec.path}", fingerprint_size(spec)) as advance:
        fingerprint = model_fingerprint(spec, advance=advance)
    return [fingerprint, spec.dtype, spec.device, spec.trust_remote_code]


def _portion(prompts: Sequence[Prompt], left: Sequence[Prompt]) -> Portion:
    """Of the prompts of one language, those that are not left were answered before."""
    still = sum(prompt.language == prompts[0].language for prompt in left) if prompts else 0
    return Portion(prompts=len(prompts), before=len(prompts) - still)


def _version(verb: str, window: int) -> dict[str, Any]:
    return {"verb": verb, "window": window, "version": __version__}


def _scorer(spec: ModelSpec, tokens: ChatTokens, compatibility: str, engine: str, batch_tokens: int | None) -> Scorer:
    match compatibility:
        case "none":
            return local_scorer(engine, spec, tokens, batch_tokens=batch_tokens)
        case "published":
            if engine != "transformers":
                raise ValueError("compatibility 'published' scores with transformers: leave out --engine")
            from crossward.engines.published_scorer import PublishedScorer

            return PublishedScorer(spec, tokens)
        case _:
            raise ValueError(f"compatibility must be 'none' or 'published', got {compatibility!r}")
