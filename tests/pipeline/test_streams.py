"""Windows of groups: what is scored or identified together, what is left out, and how much is in memory."""

from collections.abc import Iterator, Sequence

import pytest
from tests.support.live import counting

from crossward.core.language import Identification
from crossward.core.pairing import PairingRules, pair_groups
from crossward.core.records import Prompt, Response, ResponseLogprob, SampledPrompt, ScoredPrompt, ScoredResponse
from crossward.engines.protocols import Advance, Judged, no_progress
from crossward.engines.published_scorer import BATCH_PROMPTS
from crossward.pipeline.streams import WINDOW, identified, pair_language, score_windows, windows


class LengthScorer:
    """Scores a response by its length; what is longer than `limit` characters does not fit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.calls: list[list[str]] = []

    def score(
        self, groups: Sequence[Judged], *, per_token: bool = False, advance: Advance = no_progress
    ) -> list[tuple[ResponseLogprob | None, ...]]:
        self.calls.append([group.name for group in groups])
        advance(sum(len(group.responses) for group in groups))
        return [
            tuple(
                ResponseLogprob(logprob=-float(len(r.text)), n_tokens=len(r.text))
                if len(r.text) <= self.limit
                else None
                for r in group.responses
            )
            for group in groups
        ]

    def close(self) -> None:
        return None


class FirstWord:
    """Says that a text is in the language its first word names."""

    unsupported = ("sw",)

    def __init__(self) -> None:
        self.calls: list[int] = []

    def identify(self, texts: Sequence[str]) -> list[Identification]:
        self.calls.append(len(texts))
        return [Identification(language=text.split()[0], confidence=1.0) for text in texts]


def sampled(i: int, *texts: str) -> SampledPrompt:
    prompt = Prompt(id=str(i), language="es", instruction="Di.", english_instruction="Say.")
    return SampledPrompt(prompt=prompt, responses=tuple(Response(text=text) for text in texts))


def scored(i: int, language: str, *texts: str) -> ScoredPrompt:
    prompt = Prompt(id=str(i), language=language, instruction="Di.", english_instruction="Say.")
    responses = tuple(
        ScoredResponse(response=Response(text=text), policy_logprob=float(k), reference_logprob=0.0, n_tokens=1)
        for k, text in enumerate(texts)
    )
    return ScoredPrompt(prompt=prompt, view="crosslingual", judged_under="Say.", responses=responses)


def test_groups_are_scored_in_windows_and_named():
    policy, reference = LengthScorer(99), LengthScorer(99)
    counted: list[int] = []
    found = list(
        score_windows(
            (sampled(i, "a", "bb") for i in range(5)), "crosslingual", policy, reference, size=2, advance=counted.append
        )
    )
    assert [[group.prompt.id for group in window] for window in found] == [["0", "1"], ["2", "3"], ["4"]]
    assert policy.calls == reference.calls
    assert policy.calls[1] == ["prompt '2' (es)", "prompt '3' (es)"]
    assert sum(counted) == 20


@pytest.mark.parametrize(("ours", "theirs"), [(3, 3), (3, 99), (99, 3)])
def test_what_is_too_long_for_either_model_is_left_out(ours: int, theirs: int):
    policy, reference = LengthScorer(ours), LengthScorer(theirs)
    ((group, none),) = score_windows(
        [sampled(1, "aa", "bbbb", "c"), sampled(2, "dddd")], "crosslingual", policy, reference
    )
    assert [r.response.text for r in group.responses] == ["aa", "c"]
    assert none.responses == ()


@pytest.mark.parametrize("kind", [SampledPrompt, ScoredPrompt])
def test_one_window_is_in_memory(kind: type):
    def stream() -> Iterator[SampledPrompt]:
        return (sampled(i, "a", "b") for i in range(60))

    with counting(kind) as live:
        for _ in score_windows(stream(), "crosslingual", LengthScorer(9), LengthScorer(9), size=5):
            assert 0 < live() <= 10


def test_texts_are_identified_in_batches_and_each_group_gets_its_own():
    groups = [scored(i, ("es", "sw")[i % 2], *(f"es {i}", f"en {i}")[: i % 3]) for i in range(11)]
    identifier = FirstWord()
    found = list(identified(iter(groups), PairingRules(length_unit="none"), identifier, size=4))
    assert [group for group, _ in found] == groups
    for group, languages in found:
        told = None if languages is None else [one.language for one in languages]
        assert told == (None if group.prompt.language == "sw" else [r.response.text[:2] for r in group.responses])
    assert len(identifier.calls) == 3


def test_nobody_is_asked_where_nothing_is_filtered():
    groups = [scored(0, "es", "en x", "en y")]
    identifier = FirstWord()
    rules = PairingRules(length_unit="none", filter_responses=False)
    assert list(identified(groups, rules, identifier)) == [(groups[0], None)]
    assert list(identified(groups, PairingRules(length_unit="none"), None)) == [(groups[0], None)]
    assert identifier.calls == []


def test_pairing_with_an_identifier_is_pairing_with_its_answers():
    groups = [scored(i, "es", f"es a{i}", f"en b{i}", f"es c{i}" * 3) for i in range(300)]
    rules = PairingRules(length_unit="characters")
    identifier = FirstWord()
    expected = pair_groups(
        groups, rules, languages=[identifier.identify([r.response.text for r in group.responses]) for group in groups]
    )
    found = pair_language(groups, rules, FirstWord())
    assert found.outcomes == expected.outcomes
    assert found.removed_responses == expected.removed_responses == {"wrong-language": 300}


def test_windows_of_nothing():
    assert list(windows([], 3)) == []


def test_windows_do_not_cut_a_batch_of_the_published_scorer():
    assert WINDOW % BATCH_PROMPTS == 0
