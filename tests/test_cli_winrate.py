"""`crossward winrate` as it is typed: its contract, its tables, and what it refuses with one sentence."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.core.test_winrates import files, made
from tests.support.command import Called, call

from crossward.core.winrates import win_rates
from crossward.store.verdict_file import write_verdicts

Run = Callable[..., Called]
FIELDS = {
    "language", "model", "baseline", "n_judged", "n_null",
    "win_rate", "win_rate_se", "lc_win_rate", "lc_variant", "lc_interval",
}  # fmt: skip


@pytest.fixture
def crossward(capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda *arguments: call(capsys, *arguments)


@pytest.fixture
def verdicts(tmp_path: Path) -> Path:
    path = tmp_path / "verdicts.jsonl"
    write_verdicts(path, ((verdict, {}) for verdict in made()))
    return path


@pytest.fixture
def published(tmp_path: Path) -> list[str]:
    data = files()
    difficulty, gamed = tmp_path / "d.csv", tmp_path / "g.csv"
    lines = [f"{id},{value!r}" for id, value in data.difficulty.items()]
    difficulty.write_text("index,instruction_difficulty\n" + "\n".join(lines))
    rows = [f"{row.preference!r},{row.length_difference!r},{row.difficulty!r}" for row in data.gamed]
    gamed.write_text("preference,std_delta_len,instruction_difficulty\n" + "\n".join(rows))
    return ["--variant", "published", "--difficulty", str(difficulty), "--gamed", str(gamed)]


def test_json_is_the_contracts_list(verdicts: Path, crossward: Run):
    done = crossward("winrate", verdicts, "--json", "--resamples", 20)
    assert done.code == 0
    found = json.loads(done.out)
    assert [set(row) for row in found] == [FIELDS, FIELDS]
    (expected, _) = win_rates(made(), resamples=20).rates
    assert found[0]["win_rate"] == expected.win_rate
    assert found[0]["lc_win_rate"] == expected.lc_win_rate
    assert found[0]["lc_interval"] == list(expected.lc_interval or ())
    assert found[0]["lc_variant"] == "joint"


def test_published_takes_its_files_by_id(verdicts: Path, published: list[str], crossward: Run):
    found = json.loads(crossward("winrate", verdicts, *published, "--json", "--resamples", 20).out)
    expected = win_rates(made(), variant="published", published=files(), resamples=20).rates
    assert [row["lc_win_rate"] for row in found] == pytest.approx([rate.lc_win_rate for rate in expected])
    said = crossward("winrate", verdicts, *published, "--resamples", 20)
    assert "English ones, used for es too" in " ".join(said.err.split())


def test_tables_and_differences(verdicts: Path, crossward: Run):
    done = crossward("winrate", verdicts, "--differences", "--resamples", 20)
    assert "LC win rate" in done.out
    assert "paired by instruction" in done.out
    found = json.loads(crossward("winrate", verdicts, "--differences", "--json", "--resamples", 20).out)
    assert [set(found), len(found["differences"])] == [{"rates", "averages", "differences"}, 1]


def test_several_files_are_one_set(verdicts: Path, tmp_path: Path, crossward: Run):
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    for path, model in ((first, "one"), (second, "two")):
        write_verdicts(path, ((verdict, {}) for verdict in made() if verdict.model == model))
    whole, parts = (
        crossward("winrate", *paths, "--json", "--resamples", 20) for paths in ([verdicts], [first, second])
    )
    assert whole.out == parts.out


def changed(index: int, **changes: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda rows: rows[index].update(changes)


@pytest.mark.parametrize(
    ("spoil", "more", "sentence"),
    [
        (changed(4, preference=1.01), [], r"verdicts.jsonl, line 5: field 'preference' must be 0 to 1 .* got 1.01"),
        (lambda rows: rows.append(rows[0]), [], "instruction '0' of 'one' against 'base' in 'es' has two verdicts"),
        (changed(0, model="base"), [], "'base' is judged against itself in 'es'"),
        (lambda rows: [row.update(preference=None) for row in rows], [], "are null: the judge gave no usable answer"),
        (lambda rows: rows.__delitem__(slice(20, None)), [], "a length-controlled win rate needs 30 or more"),
        (lambda rows: None, ["--variant", "published", "--gamed", "g.csv"], "takes both --difficulty and --gamed"),
        (lambda rows: None, ["--difficulty", "d.csv"], "belong to the variant published, got joint"),
        (lambda rows: rows.clear(), [], "is empty: expected at least one row"),
    ],
)
def test_bad_input(verdicts: Path, crossward: Run, spoil: Any, more: list[str], sentence: str):
    rows = [json.loads(line) for line in verdicts.read_text().splitlines()]
    spoil(rows)
    verdicts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = crossward("winrate", verdicts, *more)
    assert done.code == 2
    assert re.search(sentence, done.sentence), done.err


def test_an_id_without_difficulty_is_named(verdicts: Path, published: list[str], crossward: Run):
    rows = [json.loads(line) for line in verdicts.read_text().splitlines()]
    rows[3]["id"] = "other"
    verdicts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = crossward("winrate", verdicts, *published)
    assert done.code == 2
    assert "1 of 120 instructions of 'one' in 'es' have no difficulty, first id 'other'" in done.sentence
