"""Where in a response its log-ratio lies: the terms of the noise sample's sums, kept for people to look at."""

import math
from collections.abc import Callable, Iterator, Sequence

from crossward.core.records import Response, ResponseLogprob, ScoredPrompt
from crossward.pipeline.noise import Values
from crossward.store.run_dir import StageDir
from crossward.store.token_file import TokenTerms, write_token_terms

OfGroup = Sequence[ResponseLogprob | None]
Pieces = Callable[[Response], Sequence[str]]  # a response's tokens as text, the end of turn as ""


def write_terms(stage: StageDir, pieces: Pieces, groups: Sequence[ScoredPrompt], ours: Values, theirs: Values) -> None:
    """One file a language."""
    by_language: dict[str, list[TokenTerms]] = {}
    for group, by_policy, by_reference in zip(groups, ours, theirs, strict=True):
        by_language.setdefault(group.prompt.language, []).extend(_terms(group, pieces, by_policy, by_reference))
    for language, rows in by_language.items():
        stage.tokens_file(language).unlink(missing_ok=True)
        if rows:  # else no file: one without a line is taken for one that lost them
            write_token_terms(stage.tokens_file(language), rows)


def _terms(group: ScoredPrompt, pieces: Pieces, ours: OfGroup, theirs: OfGroup) -> Iterator[TokenTerms]:
    """Of what was judged: the response, or its translation."""
    for place, (scored, own, base) in enumerate(zip(group.responses, ours, theirs, strict=True)):
        assert own is not None
        assert base is not None
        assert own.token_logprobs is not None
        assert base.token_logprobs is not None
        ratios = tuple(a - b for a, b in zip(own.token_logprobs, base.token_logprobs, strict=True))
        if not all(map(math.isfinite, ratios)):
            continue  # both models find a token impossible: there is nothing to shade by
        texts = tuple(pieces(scored.judged or scored.response))
        assert len(texts) == len(ratios), "a term for every token"
        yield TokenTerms(id=group.prompt.id, place=place, pieces=texts, log_ratios=ratios)
