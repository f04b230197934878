"""The command line: one short function a verb. Heavy imports happen inside, so that --help is quick."""

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperGroup

from crossward import console
from crossward.cli_align import align
from crossward.cli_check import check
from crossward.cli_complete import run_folders, stages_of
from crossward.cli_convert import convert
from crossward.cli_diagnose import diagnose
from crossward.cli_evaluate import evaluate
from crossward.cli_experiment import experiment
from crossward.cli_export import export, push
from crossward.cli_measure import measure
from crossward.cli_mt_bench import mt_bench
from crossward.cli_options import Json, Overrides, Recipe
from crossward.cli_prompts import prompts
from crossward.cli_show import runs, show
from crossward.cli_stages import pair, sample, score, train
from crossward.cli_tasks import tasks
from crossward.cli_winrate import show_paper_table, winrate

_VALUE_LACKING = "--progress needs a value"


class _Guarded(TyperGroup):
    """Verbs whose errors are told by console.guarded: one sentence and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = console_options_first(args)
        if words[:1] != [_VALUE_LACKING]:
            return super().parse_args(ctx, words)
        if ctx.resilient_parsing:  # a shell completes: the value of the root's option, or what stands behind it
            behind = console_options_first([word for word in args if word != "--progress"])
            return super().parse_args(ctx, ["--progress"] if args[-1] == "--progress" else behind)
        raise typer.BadParameter(f"it needs a value: {', '.join(get_args(console.Mode))}", ctx, param_hint="--progress")

    def invoke(self, ctx: Any) -> Any:
        # The other verbs write their output at the end, in one step.
        verb = next((word for word in sys.argv[1:] if word in self.commands), "")  # options may stand before it
        resumes = verb in (
            "run",
            "sample",
            "score",
            "tasks",
            "mt-bench",
            "evaluate",
            "align",
            "experiment",
            "prompts",
        )
        if code := console.guarded(lambda: super(_Guarded, self).invoke(ctx), again=_command_line(), resumes=resumes):
            raise typer.Exit(code)


def console_options_first(args: list[str]) -> list[str]:
    """--quiet and --progress are the root's, but are typed behind the verb too. One without its value is told first.

    >>> console_options_first(["run", "r.yaml", "-q", "n=1", "--progress", "json", "--", "-q"])
    ['-q', '--progress', 'json', 'run', 'r.yaml', 'n=1', '--', '-q']
    >>> console_options_first(["run", "r.yaml", "--progress"])[0]
    '--progress needs a value'
    """
    first: list[str] = []
    rest: list[str] = []
    words = iter(args)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word in ("-q", "--quiet") or word.startswith("--progress="):
            first.append(word)
        elif word == "--progress":
            value = next(words, None)
            if value is None or value.startswith("-"):
                return [_VALUE_LACKING, *first, *rest]
            first += [word, value]
        else:
            rest.append(word)
    return first + rest


app = typer.Typer(
    cls=_Guarded, no_args_is_help=True, add_completion=True, rich_markup_mode=None, pretty_exceptions_enable=False
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Results and errors alone; before or behind the verb.")
    ] = False,
    progress: Annotated[
        console.Mode,
        typer.Option(
            help="How progress is told on stderr: auto is bar on a terminal, else plain; json: an object a line.",
            envvar="CROSSWARD_PROGRESS",
        ),
    ] = "auto",
) -> None:
    """Align a language model in many languages from its English alignment alone."""
    console.choose("none" if quiet else progress)
    if version:
        from crossward import __version__

        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def run(
    recipe: Recipe,
    overrides: Overrides = None,
    redo: Annotated[
        list[str] | None,
        typer.Option(help="A stage to do again, such as iteration-1/pair.", autocompletion=stages_of),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a recipe from start to end, or continue it where it stopped.

    Example: crossward run recipes/smollm2.yaml sample.n=4 run=runs/small
    """
    from crossward.config import load
    from crossward.pipeline.iterate import run as run_recipe
    from crossward.pipeline.progress import Recorded
    from crossward.pipeline.report.write import write_report
    from crossward.store.rates_file import read_rates

    config = load(recipe, overrides or ())
    recorded = Recorded(console.Terminal())
    directory = run_recipe(config, progress=recorded, redo=redo or ())
    look = write_report(directory, config)
    rates = read_rates(directory.evaluation)
    if as_json:
        console.show_json(
            {
                "run": str(directory.root),
                "stages": recorded.stages,
                "report": str(directory.report),
                "evaluation": rates,
                "concerns": [asdict(concern) for concern in look.concerns],
            }
        )
        return
    if rates is not None:
        show_paper_table(rates)
    for line in look.lines():
        console.note(line)
    console.line(f"report: {directory.report}")


for verb in (
    check,
    align,
    sample,
    score,
    pair,
    train,
    evaluate,
    winrate,
    diagnose,
    measure,
    mt_bench,
    tasks,
    prompts,
    experiment,
    show,
    runs,
    export,
    push,
    convert,
):
    app.command()(verb)


@app.command()
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of runs; several are compared.",
            metavar="RUN...",
            show_default=False,
            autocompletion=run_folders,
        ),
    ],
    output: Annotated[Path | None, typer.Option(help="The page's file; left out: report.html in the run.")] = None,
    as_json: Json = False,
) -> None:
    """Write the report of a run again, finished or not, as one page; of several runs, one page side by side.

    Example: crossward report runs/smollm2
    """
    from crossward.pipeline.report.write import compare, report_again

    look = None
    if len(runs) == 1:
        path, look = report_again(runs[0], output)
    else:
        path = compare(runs, output)
    if as_json:
        concerns = {} if look is None else {"concerns": [asdict(concern) for concern in look.concerns]}
        console.show_json({"report": str(path), **concerns})
        return
    for line in look.lines() if look is not None else []:
        console.note(line)
    console.line(f"report: {path}")


def _command_line() -> str:
    """What was typed, to be typed again."""
    return shlex.join(["crossward", *sys.argv[1:]])


def main() -> None:
    """Run the command line."""
    console.interrupt_when_terminated()
    app(prog_name="crossward")
