"""The guard sees what dropped, says nothing of what did not, and knows what it could not have seen."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossward.core.answer_measures import AnswerMeasures
from crossward.core.guard import WATCHED, change_of, false_alarms, guard_values, prompt_means, watched_values


def row(prompt: str, answer: int = 0, **changes: object) -> AnswerMeasures:
    plain = {
        "prompt_id": prompt, "language": "en", "answer": answer, "n_chars": 10, "empty": False, "truncated": False,
        "repetition": 0.0, "looping": False, "identified": "en", "code_switching": 0.0, "chrf": None,
    }  # fmt: skip
    return AnswerMeasures(**plain | changes)


def values(n: int, k: int) -> dict[str, float]:
    """n prompts, the first k at 0 and the others at 1."""
    return {f"p{i:03d}": float(i >= k) for i in range(n)}


def test_a_drop_by_hand():
    """20 of 100 prompts lose the whole: difference −0.2, its interval about 2·√(.2·.8/100) = 0.08 to each side."""
    change = change_of("x", values(100, 0), values(100, 20), share=True)
    assert change is not None
    assert (change.before, change.after, change.n_prompts, change.n_left_out) == (1.0, 0.8, 100, 0)
    assert change.difference.estimate == pytest.approx(-0.2)
    assert change.difference.low == pytest.approx(-0.28, abs=0.02)
    assert change.difference.high == pytest.approx(-0.12, abs=0.02)
    assert change.dropped
    assert change.smallest_shown == pytest.approx(0.08, abs=0.01)


def test_a_rise_no_change_and_a_single_prompt_are_no_drop():
    for before, after in ((values(100, 20), values(100, 0)), (values(100, 20), values(100, 20))):
        change = change_of("x", before, after, share=True)
        assert change is not None
        assert not change.dropped
    one = change_of("x", values(100, 0), values(100, 1), share=True)
    assert one is not None
    assert one.difference.estimate < 0
    assert not one.dropped


def test_differences_are_paired_by_prompt():
    """Prompts that differ by thousands, each a little worse: only pairing sees it, whatever the order."""
    before = {str(i): 1000.0 * i for i in range(30)}
    after = {id: value - 1 - (int(id) % 3) / 10 for id, value in reversed(before.items())}
    change = change_of("reward", before, after, share=False)
    assert change is not None
    assert change.dropped
    assert change.difference.estimate == pytest.approx(-1.1)


def test_prompts_of_one_side_are_counted_and_left_out():
    change = change_of("x", values(10, 0), values(12, 0) | {"other": 0.0}, share=True)
    assert change is not None
    assert (change.n_prompts, change.n_left_out, change.after) == (10, 3, 1.0)
    assert change_of("x", {"a": 1.0}, {"b": 1.0}, share=True) is None


@pytest.mark.parametrize("n", [5, 20, 100])
def test_what_goes_unseen_where_nothing_changed(n: int):
    """A share q of prompts that change befalls none of n with probability (1 − q)ⁿ: 0.025 at the smallest shown."""
    change = change_of("x", values(n, 0), values(n, 0), share=True)
    assert change is not None
    assert change.smallest_shown is not None
    assert (1 - change.smallest_shown) ** n == pytest.approx(0.025)
    plain = change_of("x", values(n, 0), values(n, 0), share=False)
    assert plain is not None
    assert plain.smallest_shown is None
    shown = math.ceil(n * change.smallest_shown)
    seen = change_of("x", values(n, 0), values(n, min(shown, n)), share=True)
    assert seen is not None
    assert seen.dropped


def test_by_chance_alone_about_one_in_forty_drops():
    """400 tests in which nothing changed but the draws: 10 expected, more than 24 has probability 3e-5."""
    draw = random.Random(3)
    alarms = 0
    for _ in range(400):
        ours, base = ({str(i): draw.gauss(0, 1) for i in range(60)} for _ in range(2))
        change = change_of("x", base, ours, share=False)
        alarms += change is not None and change.dropped
    assert 1 <= alarms <= 24
    assert false_alarms(400) == pytest.approx(10.0)


def test_measures_of_a_judge_stand_beside_the_answers_own():
    before = watched_values([row(str(i)) for i in range(50)]) | {"win rate": {str(i): 0.5 for i in range(50)}}
    after = watched_values([row(str(i), looping=i < 20) for i in range(50)]) | {
        "win rate": {str(i): 0.2 for i in range(50)}
    }
    changes = {change.measure: change for change in guard_values(before, after, shares=WATCHED)}
    assert [name for name, change in changes.items() if change.dropped] == ["not looping", "win rate"]
    assert changes["win rate"].difference.estimate == pytest.approx(-0.3)
    assert not changes["win rate"].share
    assert changes["fidelity"].share


def test_watched_values_are_means_of_a_prompts_answers_turned_upwards():
    rows = [
        row("1", 0, empty=True, identified="unsure", code_switching=None),
        row("1", 1, identified="es", code_switching=1.0),
        row("2", 0, identified=None, code_switching=None, truncated=None, n_chars=30),
    ]
    found = watched_values(rows)
    assert tuple(found) == WATCHED
    assert found["not empty"] == {"1": 0.5, "2": 1.0}
    assert found["fidelity"] == {"1": 0.0}
    assert found["no code-switching"] == {"1": 0.0}
    assert found["not truncated"] == {"1": 1.0}
    assert prompt_means(rows, "n_chars") == {"1": 10.0, "2": 30.0}


@given(st.dictionaries(st.integers(0, 30).map(str), st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1))
def test_the_other_way_round_is_the_other_sign(both: dict[str, tuple[float, float]]):
    before, after = ({id: pair[k] for id, pair in both.items()} for k in (0, 1))
    there, back = change_of("x", before, after, share=True), change_of("x", after, before, share=True)
    assert there is not None
    assert back is not None
    assert there.difference.estimate == pytest.approx(-back.difference.estimate, abs=1e-12)
    assert there.difference.low == pytest.approx(-back.difference.high, abs=1e-9)
    assert not (there.dropped and back.dropped)
