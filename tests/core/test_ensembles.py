"""Several views as one rating: by hand, and what scale, shift, order and a missing response do to it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossward.core.ensembles import ensemble, standardised
from crossward.core.records import Prompt, Response, ScoredPrompt, ScoredResponse, View

PROMPT = Prompt(id="1", language="es", instruction="hola", english_instruction="hello")


def scored(view: View, **ratios: float) -> ScoredPrompt:
    """A group whose responses are named by their texts; log π_ref is 1."""
    return ScoredPrompt(
        prompt=PROMPT,
        view=view,
        judged_under=view,
        responses=tuple(
            ScoredResponse(
                response=Response(text=text, token_ids=(1, 2)),
                policy_logprob=ratio + 1.0,
                reference_logprob=1.0,
                n_tokens=7,
                judged=Response(text="in English") if view == "translated" else None,
            )
            for text, ratio in ratios.items()
        ),
    )


def test_by_hand():
    """Log-ratios 0, 3, 6 (mean 3, sd √6) and 10, 30, 20 (mean 20, sd √(200/3)): z of ∓1.2247 and 0."""
    found = ensemble([scored("crosslingual", a=0, b=3, c=6), scored("translated", a=10, b=30, c=20)])
    z = 1.5**0.5
    assert [rated.response.text for rated in found.responses] == ["a", "b", "c"]
    assert [rated.parts for rated in found.responses] == [pytest.approx(parts) for parts in ((-z, -z), (0, z), (z, 0))]
    assert [rated.rating for rated in found.responses] == pytest.approx([-z, z / 2, z / 2])
    assert found.rated_by == "ensemble"


def test_length_is_the_responses_own_whichever_view_comes_first():
    views = [scored("translated", a=0, b=1), scored("crosslingual", a=0, b=1)]
    assert [rated.n_tokens for rated in ensemble(views).responses] == [2, 2]


def test_a_response_that_one_view_lacks_is_left_out_before_anything_is_standardised():
    found = ensemble([scored("crosslingual", a=0, b=99, c=2), scored("translated", c=1, a=3)])
    assert [(rated.response.text, rated.parts) for rated in found.responses] == [
        ("a", pytest.approx((-1, 1))),
        ("c", pytest.approx((1, -1))),
    ]


def test_equal_responses_keep_their_own_scores():
    view = scored("crosslingual", a=0, b=4)
    twice = replace(view, responses=(*view.responses, replace(view.responses[0], policy_logprob=3.0)))
    found = ensemble([twice, twice])
    assert [rated.rating for rated in found.responses] == pytest.approx(standardised([0, 4, 2]))


def test_views_without_spread_say_nothing():
    found = ensemble([scored("crosslingual", a=0.1, b=0.1), scored("multilingual", a=0, b=2)])
    assert [rated.rating for rated in found.responses] == [-0.5, 0.5]


def test_views_of_different_prompts_are_refused():
    other = replace(scored("multilingual", a=0, b=1), prompt=replace(PROMPT, id="2"))
    with pytest.raises(ValueError, match="the views of prompt '1' are of different prompts"):
        ensemble([scored("crosslingual", a=0, b=1), other])


RATIOS = st.lists(st.floats(-50, 50).map(lambda x: round(x, 3)), min_size=2, max_size=6)


@given(RATIOS, st.floats(0.1, 9), st.floats(-20, 20))
def test_scale_and_shift_of_a_view_change_nothing(ratios: list[float], scale: float, shift: float):
    one = standardised(ratios)
    assert standardised([scale * ratio + shift for ratio in ratios]) == pytest.approx(one, abs=1e-6)
    assert sum(one) == pytest.approx(0, abs=1e-9)
    assert sum(z * z for z in one) == pytest.approx(0 if len(set(ratios)) == 1 else len(ratios), abs=1e-6)
