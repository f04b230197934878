"""Options that several verbs of the command line share, each said once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from crossward import console
from crossward.cli_complete import override_keys, recipes, run_folders

Recipe = Annotated[
    Path,
    typer.Argument(
        help="A YAML recipe, for instance recipes/smollm2.yaml.", show_default=False, autocompletion=recipes
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Overrides: section.key=value.", show_default=False, autocompletion=override_keys),
]
Run = Annotated[Path, typer.Argument(help="A run directory.", show_default=False, autocompletion=run_folders)]
Input = Annotated[Path, typer.Option("--input", help="File to read.", show_default=False)]
Output = Annotated[Path, typer.Option("--output", help="File to write.", show_default=False)]
Policy = Annotated[str, typer.Option(help="The aligned model: a folder or a hub name.", show_default=False)]
Reference = Annotated[str, typer.Option(help="The model it was aligned from.", show_default=False)]
Precision = Annotated[Literal["float32", "bfloat16"], typer.Option(help="Weights of both models.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Engine = Annotated[Literal["transformers", "vllm"], typer.Option(help="What computes, for both models alike.")]
Served = Annotated[str | None, typer.Option(help="openai: the name under which the server knows the model.")]
BaseUrl = Annotated[str | None, typer.Option(help="openai: the server, such as http://localhost:8000/v1.")]
KeyEnv = Annotated[str | None, typer.Option(help="openai: the environment variable that holds the key.")]
Concurrency = Annotated[int, typer.Option(min=1, help="openai: requests at once.")]
Timeout = Annotated[float, typer.Option(min=0.001, help="openai: seconds to wait for one answer.")]
Attempts = Annotated[int, typer.Option(min=1, help="openai: failed requests for one prompt before the stop.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON summary on stdout.")]
Compatibility = Annotated[
    Literal["none", "published"], typer.Option(help="published: with the quirks of the published code.")
]


def _say_trusted(trusted: bool) -> bool:
    if trusted:
        console.note(
            "--trust-remote-code: code of the models named here (of an adapter, also that of the base it names) "
            "MAY RUN on this machine with your rights"
        )
    return trusted


Trust = Annotated[
    bool,
    typer.Option("--trust-remote-code", callback=_say_trusted, help="Let the models named here run their own code."),
]
