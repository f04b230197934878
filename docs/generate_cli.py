"""Write docs/cli.md from the command line itself, so that it cannot drift."""

from pathlib import Path

import typer
from typer.core import TyperGroup

from crossward.cli import app

TARGET = Path(__file__).parent / "cli.md"


def render() -> str:
    """The help of every verb, in the order of `crossward --help`."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    root = typer.Context(group, info_name="crossward", max_content_width=100, terminal_width=100)
    parts = ["# The command line", "", "Made by `make docs`.", "", "```", group.get_help(root), "```"]
    for name, command in group.commands.items():
        context = typer.Context(command, info_name=name, parent=root, max_content_width=100, terminal_width=100)
        parts += ["", f"## crossward {name}", "", "```", command.get_help(context), "```"]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
