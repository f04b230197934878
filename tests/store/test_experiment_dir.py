"""The paths of an experiment."""

from pathlib import Path

import pytest

from crossward.store.experiment_dir import ExperimentDir


def test_paths_are_where_the_docs_say():
    directory = ExperimentDir(Path("runs/e"))
    assert directory.run("view=m n=5", 3).root == Path("runs/e/cells/view=m n=5/seed-3")
    assert directory.measured("a", 3) == Path("runs/e/cells/a/seed-3/measured.json")
    assert (directory.world(3), directory.stages) == (Path("runs/e/worlds/3"), Path("runs/e/stages"))
    assert directory.results == Path("runs/e/results")


def test_a_cell_cannot_leave_the_folder(tmp_path: Path):
    with pytest.raises(ValueError, match="cannot name a file"):
        ExperimentDir(tmp_path).run("../x", 1)


def test_a_file_is_no_experiment(tmp_path: Path):
    (tmp_path / "e").touch()
    with pytest.raises(ValueError, match="is a file: name a folder"):
        ExperimentDir(tmp_path / "e").require_folder()
