"""Concerns as values: their order, their words, and a section of the docs for every kind."""

import re
from pathlib import Path
from typing import get_args

import pytest

from crossward.core.chance import Share
from crossward.core.concerns import Concern, Kind, by_weight, told
from crossward.core.model_concerns import few_responses, limit_cuts, not_the_child

PAGE = Path(__file__).parent.parent.parent / "docs" / "troubleshooting.md"


def concern(kind: Kind, *languages: str) -> Concern:
    return Concern(kind=kind, where="w", languages=languages, seen="s", why="y", advice="a")


def test_every_kind_has_its_section_under_its_own_name():
    headings = re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [heading for heading in headings if heading in get_args(Kind)] == list(get_args(Kind))
    for kind in get_args(Kind):
        assert concern(kind).page == f"docs/troubleshooting.md#{kind}"


def test_the_heaviest_comes_first_and_equals_stay_in_order():
    kinds = [found.kind for found in by_weight(concern(kind) for kind in get_args(Kind))]
    assert sorted(kinds) == sorted(get_args(Kind))
    assert (kinds[0], kinds[-1]) == ("not-the-child", "few-judged")
    two = [concern("truncation", "b"), concern("truncation", "a"), concern("not-the-child")]
    assert by_weight(two) == [two[2], two[0], two[1]]


def test_a_concern_is_a_short_block():
    assert told(concern("truncation", *"abcdefghij")) == [
        "CONCERN truncation, w (a, b, c, d, e, f, g, h and 2 more): s",
        "  why: y",
        "  try: a",
        "  more: docs/troubleshooting.md#truncation",
    ]


@pytest.mark.parametrize(
    ("distances", "fires"),
    [
        ([0.02, 0.09, 0.12], False),
        ([1.35, 1.40, 1.48], True),
        ([0.9, 1.0, 0.1], True),  # the median
        ([0.34, 0.34], False),
        ([1.4, 0.0, 0.0], False),  # new embeddings over the same body
        ([], False),
    ],
)
def test_a_child_lies_near_its_parent(distances: list[float], fires: bool):
    assert (not_the_child(distances) is not None) == fires


@pytest.mark.parametrize(("n", "fires"), [(2, True), (3, True), (4, False)])
def test_filters_need_something_to_choose_from(n: int, fires: bool):
    assert (few_responses(n) is not None) == fires


@pytest.mark.parametrize(("part", "n", "fires"), [(0.2, 50, True), (0.06, 50, False), (1.0, 0, False)])
def test_a_limit_that_reference_answers_pass(part: float, n: int, fires: bool):
    found = limit_cuts("evaluate.max_new_tokens", 64, {"zh": Share(part=part, n=n)})
    assert (found is not None) == fires
    if found:
        assert found.seen == "reference answers longer than evaluate.max_new_tokens 64: zh 20.0% of 50 prompts"
