"""The command line: one short function a verb. Heavy imports happen inside, so that --help is quick."""

import json
import shlex
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from crossward import console
from crossward.cli_align import align
from crossward.cli_complete import stages_of
from crossward.cli_diagnose import diagnose
from crossward.cli_evaluate import evaluate
from crossward.cli_experiment import experiment
from crossward.cli_measure import measure
from crossward.cli_mt_bench import mt_bench
from crossward.cli_options import Json, Overrides, Recipe, Run
from crossward.cli_prompts import prompts
from crossward.cli_show import runs, show
from crossward.cli_stages import pair, sample, score, train
from crossward.cli_tasks import tasks
from crossward.cli_winrate import show_paper_table, winrate


class _Guarded(TyperGroup):
    """Verbs whose errors are told by console.guarded: one sentence and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, console_options_first(args))

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
    """--quiet and --progress are the root's, but are typed behind the verb too.

    >>> console_options_first(["run", "r.yaml", "-q", "n=1", "--progress", "json", "--", "-q"])
    ['-q', '--progress', 'json', 'run', 'r.yaml', 'n=1', '--', '-q']
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
            first += [word, *(value for value in [next(words, None)] if value is not None)]
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

    recorded = Recorded(console.Terminal())
    directory = run_recipe(load(recipe, overrides or ()), progress=recorded, redo=redo or ())
    rates = json.loads(directory.evaluation.read_text(encoding="utf-8")) if directory.evaluation.exists() else None
    if as_json:
        console.show_json(
            {
                "run": str(directory.root),
                "stages": recorded.stages,
                "report": str(directory.report),
                "evaluation": rates,
            }
        )
        return
    if rates is not None:
        show_paper_table(rates)
    console.out.print(f"report: {directory.report}", markup=False)


@app.command()
def check(recipe: Recipe, overrides: Overrides = None, as_json: Json = False) -> None:
    """Say what is wrong with a recipe before anything is computed.

    Exit code 2 where something is.

    Example: crossward check recipes/smollm2.yaml
    """
    from dataclasses import asdict

    from crossward.config import load
    from crossward.pipeline.check import check as check_recipe

    findings = check_recipe(load(recipe, overrides or ()))
    if as_json:
        console.show_json([asdict(finding) for finding in findings])
    else:
        console.show_table(
            str(recipe), ["", "what", "found"], [[finding.level, finding.subject, finding.text] for finding in findings]
        )
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(2)


for verb in (
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
):
    app.command()(verb)


@app.command()
def report(run: Run, as_json: Json = False) -> None:
    """Write the report of a run again, finished or not.

    Example: crossward report runs/smollm2
    """
    from crossward.pipeline.report.markdown import report_again

    path = report_again(run)
    if as_json:
        console.show_json({"report": str(path)})
    else:
        console.out.print(f"report: {path}", markup=False)


def _command_line() -> str:
    """What was typed, to be typed again."""
    return shlex.join(["crossward", *sys.argv[1:]])


def main() -> None:
    """Run the command line."""
    console.interrupt_when_terminated()
    app(prog_name="crossward")
