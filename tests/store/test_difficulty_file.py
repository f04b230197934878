"""The two CSV files of the published win rate: by id or index, in their order, every mistake named."""

from pathlib import Path

import pytest

from crossward.store.difficulty_file import read_published

GAMED = (
    "index,preference,std_delta_len,instruction_difficulty,not_gamed_baseline,model\n0,0.5,-1.5,0.25,False,verbose\n"
)


def files(folder: Path, difficulty: str, gamed: str = GAMED) -> tuple[Path, Path]:
    first, second = folder / "d.csv", folder / "g.csv"
    first.write_text(difficulty)
    second.write_text(gamed)
    return first, second


@pytest.mark.parametrize("name", ["id", "index"])
def test_ids_are_texts_in_the_files_order(tmp_path: Path, name: str):
    data = read_published(*files(tmp_path, f"{name},instruction_difficulty\n10,0.5\n2,-1\nx,2e-1\n"))
    assert list(data.difficulty.items()) == [("10", 0.5), ("2", -1.0), ("x", 0.2)]
    (row,) = data.gamed
    assert (row.preference, row.length_difference, row.difficulty) == (0.5, -1.5, 0.25)


@pytest.mark.parametrize(
    ("difficulty", "gamed", "sentence"),
    [
        ("id,difficulty\n1,2\n", GAMED, "d.csv: there is no column 'instruction_difficulty', the file has: id, diff"),
        ("row,instruction_difficulty\n1,2\n", GAMED, "d.csv, line 2: expected a column 'id' or 'index'"),
        ("id,instruction_difficulty\n1,2\n1,3\n", GAMED, "d.csv, line 3: id '1' is there twice"),
        ("id,instruction_difficulty\n1,hard\n", GAMED, "line 2: column 'instruction_difficulty' must be a finite num"),
        ("id,instruction_difficulty\n1,nan\n", GAMED, "must be a finite number, got 'nan'"),
        ("id,instruction_difficulty\n", GAMED, "d.csv holds no rows below its header"),
        ("id,instruction_difficulty\n1,2\n", GAMED.replace("0.5", "1.5"), "g.csv, line 2: column 'preference' must be"),
        ("id,instruction_difficulty\n1,2\n", "a,b\n1,2\n", "g.csv: there is no column 'preference'"),
    ],
)
def test_mistakes(tmp_path: Path, difficulty: str, gamed: str, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        read_published(*files(tmp_path, difficulty, gamed))
