"""An experiment: one recipe, changed in cells, run with several seeds. One YAML file, checked as a whole beforehand.

Frozen pydantic models that refuse unknown keys, as a recipe's. experiment_cells.py makes a recipe of every cell. Knows
names of metrics and figures, not how they are made. docs/experiments.md says what each key is.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StrictInt, ValidationError, field_validator, model_validator

from crossward.core.answer_measures import MEASURES
from crossward.sections import Section
from crossward.yaml_keys import read_yaml, sentences

_NAME_BYTES = 160  # with a metric, a number and an ending behind it a file's name, which has 255 at most


def _short(name: str) -> str:
    if (size := len(name.encode())) > _NAME_BYTES:
        raise ValueError(f"it names a file, give {_NAME_BYTES} bytes at most, got {size}")
    return name


Name = Annotated[str, Field(pattern=r"^\w[\w .=-]*$"), AfterValidator(_short)]  # a file's
Cells = Annotated[tuple[str, ...], Field(min_length=1)]
# Beside the languages, groups of them.
NON_ENGLISH, AVERAGE = "non-English", "average"
# What a tiny world knows of answers, and of the reward that made the pairs (tinyworld/experiment_gold.py).
FEATURES = ("parsed", "numbered", "count", "no_duplicates", "category", "language", "tidy")
WORLD_METRICS = (
    *("gold", "gold_mean", *(f"gold_{name}" for name in FEATURES)),
    *("reward_accuracy", "reward_accuracy_multilingual"),
)
JUDGE_METRICS = ("win_rate", "lc_win_rate")
METRICS = (*WORLD_METRICS, *JUDGE_METRICS, *MEASURES)


class World(Section):
    """The world that is made for each seed first, in worlds/<seed>: two checkpoints and parallel prompts.

    `rivals`: also preferences.jsonl, the English pairs that made π_0, and reward-model/, a classifier trained on them.
    """

    kind: Literal["tiny"] = "tiny"
    preset: Literal["fast", "small", "demo"] = "demo"
    mode: Literal["plain", "hard"] = "plain"
    rivals: bool = False


class Measure(Section):
    """What is measured of every policy: one metric or several; `split` are the tiny world's prompts it is taken on."""

    metric: str | tuple[str, ...]
    split: Literal["held-out", "tuning"] = "held-out"

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str | tuple[str, ...]) -> str | tuple[str, ...]:
        names = (metric,) if isinstance(metric, str) else metric
        if not names or len(set(names)) < len(names):
            raise ValueError(f"name one metric, or several once each, got {', '.join(names) or 'none'}")
        for name in names:
            if name not in METRICS:
                near = difflib.get_close_matches(name, METRICS, n=1, cutoff=0.4)
                hint = f"did you mean {near[0]!r}?" if near else f"metrics are {', '.join(METRICS)}"
                raise ValueError(f"unknown metric {name!r}; {hint}")
        return metric

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.metric,) if isinstance(self.metric, str) else self.metric


class Table(Section):
    """A table in results/.

    `policies`: a row a policy (the paper's Table 2). `cells`: a row a cell, of one policy (its Table 5). `gains`: over
    π_0. `differences`: from the baseline. `policy` is "last" or a number t for π_t.
    """

    shape: Literal["policies", "cells", "gains", "differences"]
    name: Name | None = None
    metric: str | None = None
    policy: Annotated[int, Field(ge=0)] | Literal["last"] = "last"
    cells: Cells | None = None

    @field_validator("name")
    @classmethod
    def _free(cls, name: str | None) -> str | None:
        """Of the other files in results/: a table's have its bare name (figures' begin with `figure-`)."""
        if name is not None and (name.casefold() in ("results", "values") or name.casefold().startswith("figure-")):
            raise ValueError(
                f"{name!r} names another file of results/ (results.json, values.csv, figure-…): give another name"
            )
        return name


class Figure(Section):
    """A figure in results/.

    `languages`: a bar a cell in every language (the paper's Figure 3). `number`: a line over a numeric `key` of the
    recipe (Figure 4). `iterations`: a line a cell over the policies.
    """

    shape: Literal["languages", "number", "iterations"]
    name: Name | None = None
    metric: str | tuple[str, ...] | None = None
    policy: Annotated[int, Field(ge=0)] | Literal["last"] = "last"
    cells: Cells | None = None
    key: str | None = None
    language: str = NON_ENGLISH
    title: str | None = None

    @model_validator(mode="after")
    def _number_has_a_key(self) -> "Figure":
        if (self.shape == "number") != (self.key is not None):
            raise ValueError("shape 'number' and a key, such as sample.n, go together: got one of them")
        return self


class Experiment(Section):
    """One recipe, changed in cells, run with several seeds, and what is measured and shown of them."""

    experiment: str
    recipe: str | dict[str, Any]
    seeds: Annotated[tuple[Annotated[StrictInt, Field(ge=0)], ...], Field(min_length=1)]
    world: World | None = None
    set: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, Any] = Field(default_factory=dict)
    cells: dict[str, dict[str, Any]] = Field(default_factory=dict)
    baseline: str | None = None
    measure: Measure
    tables: tuple[Table, ...] | None = None
    figures: tuple[Figure, ...] = (Figure(shape="languages"), Figure(shape="iterations"))

    @field_validator("seeds")
    @classmethod
    def _once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
            raise ValueError(f"each seed may be named once, got {', '.join(map(str, twice))} twice")
        return seeds

    @field_validator("tables", "figures", mode="before")
    @classmethod
    def _short(cls, items: Any) -> Any:
        """`cells` for `{shape: cells}`."""
        if not isinstance(items, list | tuple):
            return items
        return [{"shape": item} if isinstance(item, str) else item for item in items]

    @model_validator(mode="after")
    def _differences_have_a_baseline(self) -> "Experiment":
        if self.baseline is None and any(table.shape == "differences" for table in self.tables or ()):
            raise ValueError("a table of differences needs a baseline, the name of a cell: got none")
        return self

    @property
    def all_tables(self) -> tuple[Table, ...]:
        """The tables asked for; left out, one of every shape."""
        if self.tables is not None:
            return self.tables
        return tuple(
            Table(shape=shape)
            for shape in ("policies", "cells", "gains", "differences")
            if shape != "differences" or self.baseline is not None
        )

    @field_validator("set", "cells")
    @classmethod
    def _said_once(cls, changes: dict[str, Any]) -> dict[str, Any]:
        """No key is there both dotted and nested: one of its values would be lost."""
        flat(changes)
        return changes

    @field_validator("grid")
    @classmethod
    def _values(cls, grid: dict[str, Any]) -> dict[str, Any]:
        for key, values in flat(grid).items():
            if not isinstance(values, list) or not values:
                raise ValueError(f"{key} must be a list of one or more values, got {values!r}")
        return grid


def read_experiment(path: Path) -> Experiment:
    """The experiment in a YAML file. ValueError with one sentence per mistake."""
    tree = read_yaml(path, "experiment", example="recipes/experiment-demo.yaml")
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        raise ValueError(f"{path}: {sentences(error, Experiment, whole='experiment')}") from None


def flat(tree: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones. ValueError where two say the same key, dotted and nested.

    >>> flat({"sample": {"n": 5}, "reward.view": "translated"})
    {'sample.n': 5, 'reward.view': 'translated'}
    """
    found: dict[str, Any] = {}
    for key, value in tree.items():
        nested = isinstance(value, Mapping) and value
        for name, leaf in (flat(value, f"{before}{key}.") if nested else {f"{before}{key}": value}).items():
            if name in found:
                raise ValueError(f"{name} is given twice, dotted and nested: leave one out")
            found[name] = leaf
    return found
