"""Verdict files: a round trip, alpaca_eval's annotations, and every mistake named with its line."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossward.core.verdicts import Verdict
from crossward.store.verdict_file import read_verdicts, write_verdicts

ROW = {
    "id": "a", "language": "es", "model": "one", "baseline": "base",
    "preference": 0.25, "model_length": 3, "baseline_length": 0,
}  # fmt: skip
names = st.text(min_size=1).filter(lambda text: text.strip() and "\ud800" not in text)
verdicts = st.builds(
    Verdict,
    id=names, language=names, model=names, baseline=names,
    preference=st.none() | st.floats(0, 1), model_length=st.integers(0, 10**6), baseline_length=st.integers(0, 10**6),
)  # fmt: skip


@given(st.lists(verdicts, min_size=1, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_a_round_trip_keeps_everything(tmp_path: Path, rows: list[Verdict]):
    write_verdicts(tmp_path / "v.jsonl", ((row, {"judge": "j", "asked": [1]}) for row in rows))
    assert read_verdicts(tmp_path / "v.jsonl") == rows


def test_a_row_without_a_language_takes_the_one_named(tmp_path: Path):
    path = tmp_path / "v.jsonl"
    path.write_text(json.dumps({key: value for key, value in ROW.items() if key != "language"}) + "\n")
    assert read_verdicts(path, language="sw")[0].language == "sw"
    with pytest.raises(ValueError, match=r"v.jsonl, line 1: field 'language' is missing"):
        read_verdicts(path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"preference": 1.5}, r"line 2: field 'preference' must be 0 to 1 .* or null, got 1.5"),
        ({"preference": -1}, "field 'preference' must be 0 to 1"),
        ({"preference": True}, "field 'preference' must be 0 to 1"),
        ({"preference": "0.5"}, "field 'preference' must be 0 to 1"),
        ({"model_length": -1}, "field 'model_length' must be a number of characters, 0 or more, got -1"),
        ({"model_length": 10**400}, "field 'model_length' must be a number of characters"),
        ({"baseline_length": 2.5}, "field 'baseline_length' must be a number of characters"),
        ({"model": ""}, "field 'model' must be a text that is not empty"),
        ({"id": None}, "field 'id' is missing"),
    ],
)
def test_mistakes_name_the_line(tmp_path: Path, changes: dict[str, Any], sentence: str):
    path = tmp_path / "v.jsonl"
    path.write_text(json.dumps(ROW) + "\n" + json.dumps(ROW | changes) + "\n")
    with pytest.raises(ValueError, match=sentence):
        read_verdicts(path)


def test_a_row_without_a_preference_is_no_null(tmp_path: Path):
    path = tmp_path / "v.jsonl"
    path.write_text(json.dumps({key: value for key, value in ROW.items() if key != "preference"}) + "\n")
    with pytest.raises(ValueError, match=r"field 'preference' is missing: expected 0 to 1, or null"):
        read_verdicts(path)


def annotation(preference: Any, **more: Any) -> dict[str, Any]:
    return {
        "instruction": "What?", "output_1": "abc", "generator_1": "base", "output_2": "ñandú", "generator_2": "one",
        "annotator": "judge", "preference": preference,
    } | more  # fmt: skip


def test_annotations_of_alpaca_eval(tmp_path: Path):
    path = tmp_path / "annotations.json"
    rows = [annotation(p, instruction=f"q{i}") for i, p in enumerate([1.0, 2.0, 1.25, 0, -1, None])]
    path.write_text(json.dumps(rows))
    found = read_verdicts(path, language="en")
    assert [v.preference for v in found] == [0.0, 1.0, 0.25, 0.5, None, None]
    assert {(v.language, v.model, v.baseline) for v in found} == {("en", "one", "base")}
    assert {(v.model_length, v.baseline_length) for v in found} == {(5, 3)}
    assert len({v.id for v in found}) == 6
    path.write_text(json.dumps([annotation(1.5, index=7), annotation(1.5, id="x")]))
    assert [v.id for v in read_verdicts(path)] == ["7", "x"]
    for wrong in (3, 0.5, "1", True):
        path.write_text(json.dumps([annotation(wrong)]))
        with pytest.raises(ValueError, match=r"annotations.json, item 1: field 'preference' must be 1 to 2"):
            read_verdicts(path)
    path.write_text(json.dumps([annotation(1, output_2=None)]))
    with pytest.raises(ValueError, match="field 'output_2' must be a text"):
        read_verdicts(path)
