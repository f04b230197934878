"""Hypothesis strategies for every record: any text without surrogates, empty tuples, extreme floats."""

from typing import get_args

from hypothesis import strategies as st

from crossward.core.records import (
    FinishReason,
    PreferencePair,
    Prompt,
    RatedBy,
    RatedPrompt,
    RatedResponse,
    Response,
    SampledPrompt,
    ScoredPrompt,
    ScoredResponse,
    Skipped,
    SkipReason,
    View,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
FILLED = TEXT.filter(lambda text: bool(text.strip()))
FLOAT = st.floats(min_value=-1e200, max_value=1e200)
IDS = st.none() | st.lists(st.integers(0, 2**31 - 1), max_size=5).map(tuple)


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    language, instruction = draw(st.sampled_from(["en", "es", "sw", "zh"])), draw(FILLED)
    twin = instruction if language == "en" else draw(FILLED)
    return Prompt(id=draw(TEXT.filter(bool)), language=language, instruction=instruction, english_instruction=twin)


RESPONSES = st.builds(Response, text=TEXT, token_ids=IDS, finish_reason=st.sampled_from(get_args(FinishReason)))
SCORED_RESPONSES = st.builds(
    ScoredResponse,
    response=RESPONSES,
    policy_logprob=FLOAT,
    reference_logprob=FLOAT,
    n_tokens=st.integers(0, 2**31 - 1),
    judged=st.none() | RESPONSES,
    penalty=st.floats(0, 1e200),
)
RATED_RESPONSES = st.builds(
    RatedResponse,
    response=RESPONSES,
    rating=FLOAT,
    n_tokens=st.integers(0, 2**31 - 1),
    parts=st.lists(FLOAT, max_size=3).map(tuple),
)
SAMPLED = st.builds(SampledPrompt, prompt=prompts(), responses=st.lists(RESPONSES, max_size=4).map(tuple))
SCORED = st.builds(
    ScoredPrompt,
    prompt=prompts(),
    view=st.sampled_from(get_args(View)),
    judged_under=TEXT,
    responses=st.lists(SCORED_RESPONSES, max_size=4).map(tuple),
)
RATED = st.builds(
    RatedPrompt,
    prompt=prompts(),
    rated_by=st.sampled_from(get_args(RatedBy)),
    judged_under=TEXT,
    responses=st.lists(RATED_RESPONSES, max_size=4).map(tuple),
)
PAIRS = st.builds(
    PreferencePair,
    prompt=prompts(),
    chosen=SCORED_RESPONSES | RATED_RESPONSES,
    rejected=SCORED_RESPONSES | RATED_RESPONSES,
    alpha=FLOAT,
    chosen_score=FLOAT,
    rejected_score=FLOAT,
)
OUTCOMES = PAIRS | st.builds(Skipped, prompt=prompts(), reason=st.sampled_from(get_args(SkipReason)))


def lists_of(records: st.SearchStrategy, *, min_size: int = 0) -> st.SearchStrategy[list]:
    """Lists of records, no (id, language) twice."""
    return st.lists(
        records, min_size=min_size, max_size=4, unique_by=lambda record: (record.prompt.id, record.prompt.language)
    )
