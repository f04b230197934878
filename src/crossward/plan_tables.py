"""The tables that a plan reads: hardware and judges' prices, the package's own and a user's over them.

YAML in, plain values of core out; unknown keys and names are refused with the nearest known one. What the keys mean
is said in templates/planning/*.yaml and core/hardware.py.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from crossward.core.hardware import Efficiency, Factors, Hardware
from crossward.core.plain_text import listed, shown
from crossward.sections import Positive, Section, Share
from crossward.yaml_keys import read_yaml, sentences

TEMPLATES = Path(__file__).parent / "templates" / "planning"
HARDWARE = TEMPLATES / "hardware.yaml"
PRICES = TEMPLATES / "prices.yaml"

Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Efficiency(Section):
    read_share: Share
    draw_share: Share
    bandwidth_share: Share
    score_share: Share
    train_share: Share
    step_s: Seconds
    layer_s: Seconds
    vllm_step_s: Seconds
    row_s: Seconds
    group_s: Seconds
    pair_s: Seconds
    start_s: Seconds
    vllm_start_s: Seconds
    train_start_s: Seconds
    assumed: tuple[str, ...] = ()


class _Hardware(Section):
    kind: Literal["cpu", "gpu"]
    memory_gib: Amount
    host_gib: Amount
    float32_tflops: Amount
    bfloat16_tflops: Amount
    bandwidth_gb_s: Amount
    disk_gb_s: Amount
    efficiency: str
    devices: Positive = 1
    training_devices: Positive = 1
    spread_share: Share = 1.0
    hour_price: Price | None = None
    source: str = ""
    like: str | None = None


class _Factors(Section):
    sample: Amount
    score: Amount
    train: Amount


class _Machine(Section):
    """core/hardware.Hardware as a probe keeps it."""

    name: str
    kind: Literal["cpu", "gpu"]
    memory_gib: Amount
    float32_tflops: Amount
    bfloat16_tflops: Amount
    bandwidth_gb_s: Amount
    disk_gb_s: Amount
    host_gib: Amount
    efficiency: _Efficiency
    devices: Positive
    training_devices: Positive
    spread_share: Share
    hour_price: Price | None
    source: str
    factors: _Factors


class _Probe(Section):
    hardware: _Machine
    response_tokens: Amount | None


class _HardwareTable(Section):
    efficiencies: dict[str, _Efficiency] = Field(default_factory=dict)
    hardware: dict[str, _Hardware]


class _Price(Section):
    prompt: Price
    completion: Price


class _PriceTable(Section):
    as_of: str = "no date"
    currency: str = "USD"
    models: dict[str, _Price]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Money per million tokens, (prompt, completion) by the model's name; when they held, and in which money."""

    models: Mapping[str, tuple[float, float]]
    as_of: str
    currency: str


def hardware_table(file: Path | None = None) -> dict[str, Hardware]:
    """The package's rows, those of `file` over them: a row that is there is changed key by key."""
    tree = read_yaml(HARDWARE, "hardware file", example=HARDWARE.name)
    if file is not None:
        own = read_yaml(file, "hardware file", example="docs/planning.md's")
        if unknown := sorted(map(str, own.keys() - {"efficiencies", "hardware"})):
            raise ValueError(
                f"hardware file {file}: unknown key {shown(unknown[0])}; known keys: efficiencies, hardware"
            )
        for section in ("efficiencies", "hardware"):
            tree[section] = _over(tree[section], own.get(section) or {}, where=f"hardware file {file}: {section}")
    rows = {name: _resolved(name, tree["hardware"], file or HARDWARE) for name in tree["hardware"]}
    try:
        table = _HardwareTable.model_validate({**tree, "hardware": rows})
    except ValidationError as error:
        raise ValueError(
            f"hardware file {file or HARDWARE}: {sentences(error, _HardwareTable, whole='the file')}"
        ) from None
    return {name: _hardware(name, row, table, file or HARDWARE) for name, row in table.hardware.items()}


def price_table(file: Path | None = None) -> Prices:
    """The package's prices, those of `file` over them; the date is the file's where there is one."""
    tree = read_yaml(PRICES, "price file", example=PRICES.name)
    if file is not None:
        own = read_yaml(file, "price file", example="docs/planning.md's")
        where = f"price file {file}: models"
        tree = {
            **tree,
            "as_of": "no date",
            **own,
            "models": _over(tree["models"], own.get("models") or {}, where=where),
        }
    try:
        table = _PriceTable.model_validate(tree)
    except ValidationError as error:
        raise ValueError(f"price file {file or PRICES}: {sentences(error, _PriceTable, whole='the file')}") from None
    models = {name: (price.prompt, price.completion) for name, price in table.models.items()}
    return Prices(models=models, as_of=table.as_of, currency=table.currency)


def named(name: str, table: Mapping[str, Hardware]) -> Hardware:
    """A row by its name. ValueError, with the nearest name, where there is none."""
    if name in table:
        return table[name]
    near = [known for known in table if known.startswith(name)] or difflib.get_close_matches(name, table, 1, 0.3)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"unknown hardware {name!r}: {hint}known are {', '.join(table)}; --hardware-file adds your own")


def write_probe(file: Path, hardware: Hardware, response_tokens: float | None) -> None:
    """Keep what a probe measured."""
    tree = {"hardware": asdict(hardware), "response_tokens": response_tokens}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")


def read_probe(file: Path) -> tuple[Hardware, float | None]:
    """What `write_probe` kept: the machine with its factors, and the mean tokens of a response, if known."""
    try:
        found = _Probe.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ValueError(f"probe file {file} does not exist: make one with --probe --probe-output {file}") from None
    except ValidationError as error:
        raise ValueError(f"probe file {file}: {sentences(error, _Probe, whole='the file')}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"probe file {file} cannot be read ({error}): make it again with --probe-output") from None
    machine = found.hardware
    facts = machine.model_dump(exclude={"efficiency", "factors"})
    return (
        Hardware(
            efficiency=Efficiency(**machine.efficiency.model_dump()),
            factors=Factors(**machine.factors.model_dump()),
            **facts,
        ),
        found.response_tokens,
    )


def _over(base: dict[str, Any], own: Any, *, where: str) -> dict[str, Any]:
    """Rows of a file over those that are there, key by key."""
    if not isinstance(own, dict) or not all(isinstance(row, dict) for row in own.values()):
        raise ValueError(f"{where} must hold rows of keys by name, got {shown(own)}")
    merged = dict(base)
    for name, row in own.items():
        merged[str(name)] = {**merged.get(name, {}), **row}
    return merged


def _resolved(name: str, rows: Mapping[str, Any], file: Path, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """A row with what it takes from the row that it is `like`."""
    row = rows[name]
    base = row.get("like")
    if base is None:
        return row
    if base not in rows or base in (*seen, name):
        problem = "is like itself in the end" if base in rows else f"is like {shown(base)}, which is no row"
        raise ValueError(f"hardware file {file}: {shown(name)} {problem}: name one of {listed(rows)}")
    return {**_resolved(base, rows, file, (*seen, name)), **row}


def _hardware(name: str, row: _Hardware, table: _HardwareTable, file: Path) -> Hardware:
    if row.efficiency not in table.efficiencies:
        known = listed(table.efficiencies)
        raise ValueError(
            f"hardware file {file}: {shown(name)} has the efficiency {shown(row.efficiency)}, which is not there: "
            f"name one of {known}, or add it under efficiencies"
        )
    facts = row.model_dump(exclude={"efficiency", "like"})
    return Hardware(name=name, efficiency=Efficiency(**table.efficiencies[row.efficiency].model_dump()), **facts)
