"""The command line: one short function a verb. Heavy imports happen inside, so that --help is quick."""

import json
import shlex
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from crossward import console
from crossward.cli_align import align
from crossward.cli_diagnose import diagnose
from crossward.cli_evaluate import evaluate
from crossward.cli_experiment import experiment
from crossward.cli_export import export, push
from crossward.cli_measure import measure
from crossward.cli_mt_bench import mt_bench
from crossward.cli_options import Json, Overrides, Recipe, Run
from crossward.cli_prompts import prompts
from crossward.cli_stages import pair, sample, score, train
from crossward.cli_tasks import tasks
from crossward.cli_winrate import show_paper_table, winrate


class _Guarded(TyperGroup):
    """Verbs whose errors are told by console.guarded: one sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        # The other verbs write their output at the end, in one step.
        resumes = sys.argv[1:2] in (
            ["run"],
            ["sample"],
            ["score"],
            ["tasks"],
            ["mt-bench"],
            ["evaluate"],
            ["align"],
            ["experiment"],
            ["prompts"],
        )
        if code := console.guarded(lambda: super(_Guarded, self).invoke(ctx), again=_command_line(), resumes=resumes):
            raise typer.Exit(code)


app = typer.Typer(
    cls=_Guarded, no_args_is_help=True, add_completion=True, rich_markup_mode=None, pretty_exceptions_enable=False
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Align a language model in many languages from its English alignment alone."""
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
    redo: Annotated[list[str] | None, typer.Option(help="A stage to do again, such as iteration-1/pair.")] = None,
) -> None:
    """Run a recipe from start to end, or continue it where it stopped.

    Example: crossward run recipes/smollm2.yaml sample.n=4 run=runs/small
    """
    from crossward.config import load
    from crossward.pipeline.iterate import run as run_recipe

    directory = run_recipe(load(recipe, overrides or ()), progress=console.Terminal(), redo=redo or ())
    if directory.evaluation.exists():
        show_paper_table(json.loads(directory.evaluation.read_text(encoding="utf-8")))
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
    export,
    push,
):
    app.command()(verb)


@app.command()
def show(
    run: Run,
    prompt: Annotated[str, typer.Option("--prompt", help="The prompt's id.", show_default=False)],
    language: Annotated[str | None, typer.Option(help="Only this language.")] = None,
) -> None:
    """Show one prompt's life: responses, scores, and its pair or why there is none.

    Example: crossward show runs/smollm2 --prompt 17 --language es
    """
    from crossward.pipeline.show import prompt_life

    for line in prompt_life(run, prompt, language):
        console.out.print(line, markup=False)


@app.command()
def report(run: Run) -> None:
    """Write the report of a run again, finished or not.

    Example: crossward report runs/smollm2
    """
    from crossward.pipeline.report.markdown import report_again

    console.out.print(f"report: {report_again(run)}", markup=False)


def _command_line() -> str:
    """What was typed, to be typed again."""
    return shlex.join(["crossward", *sys.argv[1:]])


def main() -> None:
    """Run the command line."""
    console.interrupt_when_terminated()
    app(prog_name="crossward")
