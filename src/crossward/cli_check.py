"""The verb `crossward check`: what is wrong with a recipe, and what it will take; tables, or one JSON document."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossward import console
from crossward.cli_options import Json, Overrides, Recipe

if TYPE_CHECKING:
    from crossward.pipeline.check_plan import Checked
    from crossward.pipeline.plan import JudgeCost, OnHardware


def check(
    recipe: Recipe,
    overrides: Overrides = None,
    hardware: Annotated[
        list[str] | None,
        typer.Option(help="Plan for this machine, such as h100-80gb; may be given many times.", show_default=False),
    ] = None,
    hardware_file: Annotated[
        Path | None, typer.Option(help="YAML that adds machines or changes them (docs/planning.md).")
    ] = None,
    prices: Annotated[Path | None, typer.Option(help="YAML of judges' prices over the package's.")] = None,
    prompts_per_language: Annotated[
        int | None, typer.Option(min=1, help="Plan for so many prompts; they need not be there yet.")
    ] = None,
    languages_count: Annotated[int | None, typer.Option(min=1, help="Plan for so many languages.")] = None,
    prompt_tokens: Annotated[
        float | None, typer.Option(min=1, help="Mean tokens of a prompt, in the place of those counted.")
    ] = None,
    response_tokens: Annotated[
        float | None, typer.Option(min=1, help="Mean tokens of a response, in the place of what is assumed.")
    ] = None,
    parameters: Annotated[
        float | None, typer.Option(min=1, help="Parameters of the model, such as 8e9, where it is not here.")
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Measure this machine with the recipe's models first, in about a minute.")
    ] = False,
    probe_output: Annotated[Path | None, typer.Option(help="Keep what --probe measures.")] = None,
    probe_input: Annotated[Path | None, typer.Option(help="Plan by what was measured before.")] = None,
    as_json: Json = False,
) -> None:
    """Say what is wrong with a recipe, and what it will take, before anything is computed.

    Tokens, hours, memory, disk and the judge's money, on named hardware (docs/planning.md). Exit code 2 where something
    is wrong.

    Example: crossward check recipes/smollm2.yaml --hardware laptop --hardware h100-80gb
    """
    from crossward.config import load
    from crossward.pipeline.check_plan import Asked, as_plain, check_and_plan
    from crossward.pipeline.plan_inputs import Given

    given = Given(
        prompts_per_language=prompts_per_language,
        languages=languages_count,
        prompt_tokens=prompt_tokens,
        response_tokens=response_tokens,
        parameters=parameters,
    )
    asked = Asked(
        hardware=hardware or (),
        hardware_file=hardware_file,
        prices=prices,
        given=given,
        probe=probe,
        probe_input=probe_input,
        probe_output=probe_output,
    )
    checked = check_and_plan(load(recipe, overrides or ()), asked, console.Terminal())
    if as_json:
        console.show_json(as_plain(checked))
    else:
        _show(str(recipe), checked)
    if any(finding.level == "error" for finding in checked.findings):
        raise typer.Exit(2)


def _show(title: str, checked: "Checked") -> None:
    findings = [[finding.level, finding.subject, finding.text] for finding in checked.findings]
    console.show_table(title, ["", "what", "found"], findings)
    if checked.inputs is None:
        console.line(f"no plan: {checked.problem}")
        return
    inputs = checked.inputs
    console.line(
        f"plan: {inputs.prompts} prompts in {inputs.languages} languages, {inputs.prompt_tokens:.0f} tokens each "
        f"({inputs.judged_tokens:.0f} as judged), {inputs.response_tokens:.0f} a response; a model of "
        f"{_amount(inputs.shape.parameters)} parameters",
    )
    for line in inputs.assumptions:
        console.line(f"assumed: {line}")
    if checked.probed is not None:
        for line in checked.probed.lines():
            console.line(f"measured: {line}")
    for each in checked.plans:
        _show_plan(each)
    if checked.judged is not None:
        _show_judge(checked.judged)


def _show_plan(each: "OnHardware") -> None:
    made = each.plan
    rows: list[list[object]] = [
        [
            stage.name,
            stage.times,
            _amount(stage.tokens),
            duration(stage.wall_seconds * stage.times),
            hours(stage.device_hours),
            _bytes(stage.memory_bytes),
            _bytes(stage.disk_bytes * stage.times),
        ]
        for stage in made.stages
    ]
    total = ["all", "", _amount(sum(stage.tokens * stage.times for stage in made.stages))]
    wall = duration(made.wall_hours * 3600.0)
    rows.append([*total, wall, hours(made.device_hours), _bytes(made.memory_bytes), _bytes(made.disk.total)])
    devices = f", {made.hardware.devices} devices" if made.hardware.devices > 1 else ""
    header = ["stage", "times", "tokens, once", "time, all", f"{made.hardware.kind.upper()} hours", "memory", "disk"]
    console.show_table(f"{made.hardware.name}{devices} ({made.hardware.source})", header, rows)
    if made.money is not None:
        console.line(
            f"machine: {made.money:.2f} for {made.paid_hours:.1f} hours of devices, those that wait among them",
        )
    for line in each.remarks:
        console.line(f"{made.hardware.name}: {line}")


def _show_judge(judged: "JudgeCost") -> None:
    money = "" if judged.cost is None else f", about {judged.cost:.2f} {judged.currency}"
    console.line(
        f"judge: {judged.questions} questions to {judged.model}, {_amount(judged.prompt_tokens)} tokens{money} "
        f"({judged.origin})",
    )


def duration(seconds: float) -> str:
    """Seconds in the unit that reads best.

    >>> duration(5.3), duration(600), duration(86_400), duration(864_000), duration(1e9)
    ('5.3 s', '10.0 min', '24.0 h', '10.0 days', '32 years')
    """
    units = ((120.0, 1.0, "s"), (7200.0, 60.0, "min"), (259_200.0, 3600.0, "h"), (6.3e7, 86_400.0, "days"))
    for limit, unit, name in units:
        if seconds < limit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds / 31_557_600.0:.0f} years"


def hours(n: float) -> str:
    """Hours as a number.

    >>> hours(0.00327), hours(16.3), hours(79730.2)
    ('0.00327', '16.3', '79,730')
    """
    return f"{n:.3g}" if n < 1000 else f"{n:,.0f}"


def _amount(n: float) -> str:
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if n >= unit:
            return f"{n / unit:.3g} {name}"
    return f"{n:.0f}"


def _bytes(n: float) -> str:
    if not n:
        return "–"
    return f"{n / 1e12:.1f} TB" if n >= 1e12 else f"{n / 1e9:.2g} GB" if n < 1e10 else f"{n / 1e9:.0f} GB"
