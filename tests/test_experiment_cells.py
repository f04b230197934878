"""Cells become recipes: names, seeds and paths put in, mistakes of all cells told at once."""

from pathlib import Path
from typing import Any

import pytest

from crossward.experiment_cells import cell_runs
from crossward.experiment_config import Experiment
from crossward.store.run_dir import safe_name

RECIPE: dict[str, Any] = {
    "languages": ["en", "es"],
    "models": {"policy": "worlds/{seed}/policy", "reference": "worlds/{seed}/reference"},
    "prompts": {"path": "prompts/{language}.jsonl"},
    "evaluate": {"prompts": {"path": "held-out/{language}.jsonl"}},
}
ROOT = Path("runs/e")


def runs(**changes: Any):
    tree = {"experiment": "runs/e", "recipe": RECIPE, "seeds": [1, 2], "measure": {"metric": "empty"}, "figures": []}
    return cell_runs(Experiment.model_validate(tree | changes), root=ROOT)


def test_a_grid_is_every_combination_with_every_seed():
    found = runs(grid={"reward.view": ["crosslingual", "multilingual"], "sample": {"n": [5, 10]}})
    assert [(run.cell.name, run.seed) for run in found[:3]] == [
        ("view=crosslingual n=5", 1),
        ("view=crosslingual n=5", 2),
        ("view=crosslingual n=10", 1),
    ]
    assert len(found) == 8
    assert {(run.config.reward.view, run.config.sample.n) for run in found} == {
        (view, n) for view in ("crosslingual", "multilingual") for n in (5, 10)
    }
    assert all(run.config.run == f"runs/e/cells/{run.cell.name}/seed-{run.seed}" for run in found)
    assert all(run.config.seed == run.seed for run in found)


def test_seed_and_experiment_are_put_into_every_text():
    (run, _) = runs(cells={"a": {"evaluate": {"reference_answers": "{experiment}/{seed}/{language}.json"}}})
    assert run.config.models.policy == "worlds/1/policy"
    assert run.config.prompts.path == "prompts/{language}.jsonl"
    assert run.config.evaluate.reference_answers == "runs/e/1/{language}.json"


@pytest.mark.parametrize("where", ["set", "recipe", "cells"])
def test_a_name_for_trackers_is_refused_where_several_runs_would_share_it(where: str):
    named = {"tracking": {"tracker": "tensorboard", "name": "mine"}}
    changes = {"set": named, "recipe": RECIPE | named, "cells": {"a": named}}
    with pytest.raises(ValueError, match=r"tracking\.name would be the name of several runs"):
        runs(**({"cells": {"a": {}}} | {where: changes[where]}))
    found = runs(cells={"a": {"tracking": {"tracker": "tensorboard", "name": None}}})
    assert found[0].config.tracking.tracker == "tensorboard"


def test_set_goes_over_the_recipe_and_cells_over_set():
    found = runs(set={"sample.n": 4, "iterations": 3}, cells={"a": {}, "b": {"sample": {"n": 6}}}, seeds=[7])
    assert [(run.config.sample.n, run.config.iterations) for run in found] == [(4, 3), (6, 3)]
    assert "sample" not in RECIPE, "the recipe that was given stays as it was"


def test_a_world_gives_models_and_prompts_of_the_split():
    measure = {"metric": "gold", "split": "tuning"}
    (run,) = runs(world={"kind": "tiny"}, measure=measure, cells={"a": {}}, seeds=[3])
    assert run.config.models.policy == "runs/e/worlds/3/policy"
    assert run.config.models.reference == "runs/e/worlds/3/reference"
    assert run.config.prompts.path == "runs/e/worlds/3/prompts/{language}.jsonl"
    assert run.config.evaluate.prompts is not None
    assert run.config.evaluate.prompts.path == "runs/e/worlds/3/tuning/{language}.jsonl"


def test_names_are_files_names_and_tell_equal_ends_apart():
    found = runs(grid={"sample.temperature": [0.5, 1], "evaluate.temperature": [0]}, seeds=[1])
    assert found[0].cell.name == "sample.temperature=0.5 evaluate.temperature=0"
    found = runs(grid={"models.policy": ["a/b", "c d"], "pair.upper_bound": [None]}, seeds=[1])
    assert [run.cell.name for run in found] == ["policy=a-b upper_bound=null", "policy=c-d upper_bound=null"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "the experiment has no cells: give a grid"),
        ({"grid": {"reward.vieww": ["crosslingual"]}}, "unknown key 'reward.vieww'; did you mean 'view'?"),
        ({"grid": {"rewards.view": ["crosslingual"]}}, "unknown key 'rewards'; did you mean 'reward'?"),
        ({"grid": {"seed": [1, 2]}}, "seed cannot be changed: the experiment gives every cell and seed its own"),
        ({"cells": {"a": {"run": "x"}}}, "run cannot be changed"),
        ({"cells": {"a": {"seed.x": 1}}}, "seed.x cannot be changed"),
        ({"cells": {"a": {"languages.x": 1}}}, "languages.x cannot be set: 'languages' is a value, not a section"),
        ({"cells": {"a": {}, "b": {"sample.n": 10}}}, "the cells 'a' and 'b' are the same recipe: leave one out"),
        ({"cells": {"a/b": {}}}, "a cell cannot be called 'a/b'"),
        ({"cells": {"..": {}}}, "a cell cannot be called '..'"),
        ({"cells": {"n 2..10": {}}}, "a cell cannot be called 'n 2..10': it names a folder, which has no / \\ or .."),
        ({"grid": {"models.policy": ["../a", "../b"]}}, "a cell cannot be called 'policy=..-a'"),
        ({"cells": {"ß" * 128: {}}}, "it names a folder, with 255 bytes at most, got 256; give it a shorter name"),
        ({"cells": {"n=5": {}}, "grid": {"sample.n": [5]}}, "two cells would be called 'n=5'"),
        ({"cells": {"random": {}}, "baseline": "ramdom"}, "baseline 'ramdom' is no cell; did you mean 'random'?"),
        ({"cells": {"a": {}}, "measure": {"metric": "gold"}}, "metric 'gold' is known in a tiny world only"),
        ({"cells": {"a": {}}, "measure": {"metric": "win_rate"}}, "needs evaluate.judge in the recipe of 'a'"),
        ({"cells": {"a": {"evaluate.prompts": None}}}, "metric 'empty' needs evaluate.prompts in the recipe of 'a'"),
        ({"cells": {"a": {}}, "measure": {"metric": "chrf"}}, "needs evaluate.reference_answers"),
        ({"cells": {"a": {}}, "tables": [{"shape": "cells", "metric": "gold"}]}, "which `measure` does not name"),
        ({"cells": {"a": {}}, "tables": [{"shape": "cells", "cells": ["b"]}]}, "shows 'b', which is no cell"),
        ({"cells": {"a": {}}, "figures": [{"shape": "number", "key": "sample.n"}]}, "no cell gives that key a number"),
        (
            {"cells": {"a": {}}, "figures": [{"shape": "iterations", "language": "spanish"}]},
            "figure 'iterations' shows the language 'spanish', which no cell evaluates: "
            "give one of non-English, en, es, average",
        ),
        (
            {"cells": {"a": {"evaluate.languages": ["es"]}, "b": {"evaluate.languages": ["de", "es"]}}}
            | {"figures": [{"shape": "iterations", "language": "de", "cells": ["a"]}]},
            "which no cell evaluates: give one of non-English, es",
        ),
        (
            {"cells": {"a": {}}, "figures": [{"shape": "languages", "name": "views", "policy": 9}]},
            "figure 'views' shows policy 9, where its cells have 0 to 2: give one of these, or last",
        ),
        (
            {"cells": {"a": {"iterations": 1}, "b": {}}, "tables": [{"shape": "cells", "policy": 2, "cells": ["a"]}]},
            "table 'cells' shows policy 2, where its cells have 0 to 1",
        ),
        (
            {"cells": {"a": {"iterations": 1}, "b": {}}, "baseline": "a"}
            | {"tables": [{"shape": "differences", "policy": 2}]},
            "table 'differences' shows policy 2, where its cells have 0 to 1",
        ),
        ({"cells": {"a": {}}, "tables": [{"shape": "gains", "policy": 0}]}, "policy 0, where its cells have 1 to 2"),
    ],
)
def test_mistakes_are_told_before_anything_runs(changes: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        runs(**changes)
    assert sentence in str(error.value)


def test_what_some_cell_has_may_be_shown():
    shown = {"policy": 2, "cells": ["a", "b"]}
    tables = [{"shape": "cells", **shown}, {"shape": "gains", **shown}]
    figures = [{"shape": "languages", **shown}, {"shape": "iterations", "language": "es"}, {"shape": "iterations"}]
    english = {"iterations": 1, "evaluate.languages": ["en"]}
    assert runs(cells={"a": english, "b": {}}, tables=tables, figures=figures)
    assert runs(cells={"a": english}, figures=["iterations"]), "what is left out may show nothing"


@pytest.mark.parametrize("name", ["n 2-10", "ñ" * 127, "2.5", "a.b.c", "a:b", "a" * 255])
def test_a_name_that_is_taken_is_a_folders(name: str, tmp_path: Path):
    (run, _) = runs(cells={name: {}})
    assert safe_name(run.cell.name) == name
    (tmp_path / name).mkdir()


def test_a_section_in_a_grid_changes_the_keys_that_it_names_as_in_a_cell():
    sections = [{"view": "crosslingual"}, {"view": "multilingual"}]
    found = runs(set={"reward.reference": "previous"}, grid={"reward": sections, "sample.n": [5]}, seeds=[1])
    assert [run.cell.name for run in found] == ["view=crosslingual n=5", "view=multilingual n=5"]
    assert [run.config.reward.reference for run in found] == ["previous", "previous"]
    assert found[1].cell.changes == {"reward.view": "multilingual", "sample.n": 5}
    named = runs(set={"reward.reference": "previous"}, cells={"b": {"reward": sections[1]}}, seeds=[1])
    assert named[0].config.reward == found[1].config.reward
    replays = [None, {"path": "pairs.jsonl"}]
    found = runs(grid={"train": {"replay": replays}}, seeds=[1])
    assert [run.cell.name for run in found] == ["replay=null", "path=pairs.jsonl"]
    with pytest.raises(ValueError, match=r"grid: reward\.view is given by two of its keys"):
        runs(grid={"reward": sections, "reward.view": ["translated"]})


@pytest.mark.parametrize("where", ["set", "cells", "grid"])
def test_a_key_that_is_dotted_and_nested_is_refused(where: str):
    changes: dict[str, Any] = {"sample.n": [3], "sample": {"n": [4]}}
    with pytest.raises(ValueError, match=r"sample\.n is given twice, dotted and nested"):
        runs(**{"cells": {"a": {}}, where: {"a": changes} if where == "cells" else changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"train.replay.path": "{experiment}/worlds/{seed}/preferences.jsonl"},
        {"reward": {"kind": "reward-model", "reward_model": {"path": "{experiment}/worlds/{seed}/reward-model"}}},
    ],
)
def test_what_a_world_has_with_rivals_alone_needs_them(changes: dict[str, Any]):
    more: dict[str, Any] = {"measure": {"metric": "gold"}, "cells": {"a": {}, "b": changes}}
    with pytest.raises(ValueError, match=r"cell 'b': a world has .* with `world\.rivals: true` alone"):
        runs(world={"kind": "tiny"}, **more)
    assert len(runs(world={"kind": "tiny", "rivals": True}, **more)) == 4


def test_all_mistakes_are_told_once_with_the_cells_that_have_them():
    with pytest.raises(ValueError, match="cell 'a'") as error:
        runs(cells={"a": {"sample.n": 1}, "b": {"sample.n": 1}, "c": {"pair.choise": "random"}, "d": {}})
    text = str(error.value)
    assert text.count("a pair needs at least two responses") == 1
    assert "cell 'a' and 1 more: " in text
    assert "cell 'c': unknown key 'pair.choise'; did you mean 'choice'?" in text
    with pytest.raises(ValueError, match=r"every cell: unknown key 'sample\.x'"):
        runs(set={"sample.x": 1}, cells={"a": {}, "b": {"sample.n": 4}})
