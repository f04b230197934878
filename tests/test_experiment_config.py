"""An experiment's file: what is refused, in one sentence each, and with the nearest known name."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from crossward.experiment_config import FEATURES, METRICS, World, flat, read_experiment

BASE: dict[str, Any] = {
    "experiment": "runs/e",
    "recipe": "recipes/demo.yaml",
    "seeds": [1, 2],
    "world": {"kind": "tiny", "preset": "fast"},
    "cells": {"a": {}},
    "measure": {"metric": "gold"},
}


def read(folder: Path, **changes: Any):
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(BASE | changes), encoding="utf-8")
    return read_experiment(path)


def test_what_is_left_out_has_the_papers_shapes(tmp_path: Path):
    found = read(tmp_path)
    assert [table.shape for table in found.all_tables] == ["policies", "cells", "gains"]
    assert [table.shape for table in read(tmp_path, baseline="a").all_tables][-1] == "differences"
    assert [figure.shape for figure in found.figures] == ["languages", "iterations"]
    assert found.measure.metrics == ("gold",)
    assert found.measure.split == "held-out"


def test_shapes_may_be_named_shortly(tmp_path: Path):
    found = read(tmp_path, tables=["cells", {"shape": "gains", "policy": 1}], figures=[])
    assert [(table.shape, table.policy) for table in found.all_tables] == [("cells", "last"), ("gains", 1)]
    assert found.figures == ()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seeds": [1, 2, 1]}, "seeds: each seed may be named once, got 1 twice"),
        ({"seeds": [1.5]}, "seeds: input should be a valid integer, got 1.5"),
        ({"seeds": [True]}, "seeds: input should be a valid integer, got True"),
        ({"seeds": [-1]}, "seeds: input should be greater than or equal to 0, got -1"),
        ({"seeds": []}, "seeds: tuple should have at least 1 item"),
        ({"grids": {}}, "unknown key 'grids'; did you mean 'grid'?"),
        ({"world": {"presett": "fast"}}, "unknown key 'world.presett'; did you mean 'preset'?"),
        ({"world": {"mode": "soft"}}, "world.mode: input should be 'plain' or 'hard', got 'soft'"),
        ({"measure": {"metric": "golds"}}, "unknown metric 'golds'; did you mean 'gold'?"),
        ({"measure": {"metric": ["gold", "gold"]}}, "name one metric, or several once each"),
        ({"grid": {"sample.n": 5}}, "grid: sample.n must be a list of one or more values, got 5"),
        ({"grid": {"sample": {"n": []}}}, "grid: sample.n must be a list of one or more values, got []"),
        ({"tables": ["differences"]}, "a table of differences needs a baseline"),
        ({"tables": ["cell"]}, "tables.shape: input should be 'policies', 'cells', 'gains' or 'differences'"),
        ({"figures": ["number"]}, "shape 'number' and a key, such as sample.n, go together"),
        ({"tables": [{"shape": "cells", "name": "../x"}]}, "tables.name: string should match pattern"),
        ({"tables": [{"shape": "cells", "name": "results"}]}, "tables.name: 'results' names another file of results/"),
        ({"tables": [{"shape": "cells", "name": "Values"}]}, "tables.name: 'Values' names another file of results/"),
        ({"tables": [{"shape": "cells", "name": "figure-languages"}]}, "names another file of results/"),
        ({"tables": [{"shape": "cells", "name": "ß" * 81}]}, "tables.name: it names a file, give 160 bytes at most"),
        ({"figures": [{"shape": "languages", "name": "n" * 161}]}, "figures.name: it names a file, give 160 bytes"),
        ({"figures": [{"shape": "languages", "cells": []}]}, "figures.cells: tuple should have at least 1 item"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, changes: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        read(tmp_path, **changes)
    assert sentence in str(error.value)


def test_a_missing_key_and_a_missing_file(tmp_path: Path):
    (tmp_path / "e.yaml").write_text("seeds: [1]\n")
    with pytest.raises(ValueError, match=r"missing key 'experiment'.*missing key 'recipe'.*missing key 'measure'"):
        read_experiment(tmp_path / "e.yaml")
    with pytest.raises(ValueError, match="does not exist"):
        read_experiment(tmp_path / "none.yaml")
    (tmp_path / "e.yaml").write_text("- a\n")
    with pytest.raises(ValueError, match="must hold keys"):
        read_experiment(tmp_path / "e.yaml")


def test_a_key_that_comes_twice_is_refused_with_its_line(tmp_path: Path):
    path = tmp_path / "e.yaml"
    path.write_text("cells:\n  a: {sample.n: 3}\n  b: {}\n  a: {sample.n: 4}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"e\.yaml, line 4: the key 'a' comes a second time \(first in line 2\)"):
        read_experiment(path)


def test_flat_keeps_empty_sections_and_lists():
    assert flat({"a": {"b": {"c": 1}, "d": {}}, "e.f": [1]}) == {"a.b.c": 1, "a.d": {}, "e.f": [1]}


def test_the_world_that_is_named_here_is_the_tiny_world():
    from dataclasses import fields
    from typing import get_args

    from crossward.tinyworld.mixing import Mode
    from crossward.tinyworld.presets import PresetName
    from crossward.tinyworld.world import Features

    assert tuple(field.name for field in fields(Features) if field.name != "gold") == FEATURES
    assert len(set(METRICS)) == len(METRICS)
    for field, names in (("mode", Mode), ("preset", PresetName)):
        assert get_args(World.model_fields[field].annotation) == get_args(names)
