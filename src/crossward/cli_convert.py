"""The verb `crossward convert`: pickled weights into safetensors."""

from pathlib import Path
from typing import Annotated

import typer

from crossward import console
from crossward.cli_options import Json

Model = Annotated[str, typer.Argument(help="A model's or adapter's folder, or a hub name.", show_default=False)]
Folder = Annotated[Path, typer.Option(help="The folder to make.", show_default=False)]
Code = Annotated[bool, typer.Option("--with-code", help="Copy the model's own Python files too; none is run.")]


def convert(model: Model, output: Folder, with_code: Code = False, json: Json = False) -> None:
    """Write a model with pickled weights (pytorch_model*.bin, adapter_model.bin) anew, as safetensors.

    Pickles can run code, so no other verb reads them. Here torch reads tensors alone, and refuses all else.

    Example: crossward convert models/old --output models/old-safetensors
    """
    from crossward.pipeline.convert import convert as convert_folder

    done = convert_folder(model, output, code=with_code)
    if json:
        console.show_json(done)
        return
    for key in ("read", "written", "copied"):
        console.line(f"{key}: {', '.join(done[key]) or 'nothing'}")
    if done["left_out"]:
        console.line(f"left out: {', '.join(f'{n} {kind}' for kind, n in done['left_out'].items())}")
    shared = done["shared_tensors_written_apart"]
    apart = f", {shared} of them written apart that shared memory" if shared else ""
    console.line(f"{output}: {done['tensors']} tensors{apart}, {done['bytes']} bytes, read back and found the same")
