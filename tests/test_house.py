"""The law of the house: imports point down only, heavy libraries live in engines, and nothing happens on import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "crossward"
# What each room may import from the others. tinyworld is an example user of the house: anything but the command line.
ROOMS = {
    "core": set(),
    "engines": {"core"},
    "store": {"core"},
    "yaml_keys": {"core"},
    "config": {"core", "sections", "reward_sections", "yaml_keys"},
    "reward_sections": {"core", "sections"},
    "sections": {"core"},
    "plan_tables": {"core", "sections", "yaml_keys"},
    "experiment_config": {"core", "sections", "yaml_keys"},
    "experiment_cells": {"config", "experiment_config", "yaml_keys"},
    "pipeline": {
        "core",
        "engines",
        "store",
        "config",
        "sections",
        "reward_sections",
        "plan_tables",
        "experiment_config",
        "experiment_cells",
        "yaml_keys",
    },
    "tinyworld": {"core", "engines", "store", "config", "pipeline", "console", "experiment_config"},
    "console": {"core", "console_progress", "console_streams"},
    "console_streams": {"core"},
    "console_meter": set(),
    "console_lines": {"core", "engines", "pipeline", "store", "console_meter", "console_streams"},
    "console_live": {"core", "engines", "pipeline", "store", "console_lines", "console_meter", "console_streams"},
    "console_progress": {"engines", "pipeline", "store", "console_lines", "console_live", "console_streams"},
    "cli": {
        "core",
        "engines",
        "store",
        "config",
        "pipeline",
        "console",
        "cli_options",
        "cli_align",
        "cli_check",
        "cli_complete",
        "cli_convert",
        "cli_diagnose",
        "cli_evaluate",
        "cli_experiment",
        "cli_export",
        "cli_measure",
        "cli_mt_bench",
        "cli_prompts",
        "cli_show",
        "cli_stages",
        "cli_tasks",
        "cli_winrate",
    },
    "cli_align": {"engines", "pipeline", "console", "cli_options"},
    "cli_check": {"config", "pipeline", "console", "cli_options"},
    "cli_stages": {"core", "engines", "pipeline", "console", "cli_options", "cli_diagnose"},
    "cli_evaluate": {"core", "engines", "pipeline", "console", "cli_options", "cli_winrate"},
    "cli_experiment": {
        "engines",
        "store",
        "experiment_config",
        "experiment_cells",
        "pipeline",
        "tinyworld",
        "console",
        "cli_options",
    },
    "cli_convert": {"pipeline", "console", "cli_options"},
    "cli_export": {"core", "pipeline", "console", "cli_options"},
    "cli_winrate": {"core", "pipeline", "console", "cli_options"},
    "cli_mt_bench": {"engines", "pipeline", "console", "cli_options"},
    "cli_prompts": {"engines", "pipeline", "store", "console", "cli_options"},
    "cli_measure": {"pipeline", "console", "cli_options"},
    "cli_diagnose": {"core", "engines", "pipeline", "console", "cli_options"},
    "cli_tasks": {"engines", "pipeline", "console", "cli_options"},
    "cli_show": {"core", "pipeline", "console", "cli_complete", "cli_options"},
    "cli_complete": {"config", "sections", "store", "yaml_keys"},
    "cli_options": {"cli_complete", "console"},
    "__main__": {"cli"},
    "__init__": {"core", "engines", "pipeline"},
}
HEAVY = {
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "lingua",
    "vllm",
    "ray",
    "sacrebleu",
    "lm_eval",
    "matplotlib",
    "vl_convert",
    "tensorboard",
    "trackio",
    "wandb",
    "huggingface_hub",
    "deepspeed",
}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[str, bool]]:
    """Every imported module of a file, and whether the import stands at the top of the module (so runs on import)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    found: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, id(node) in top))
            if node.module == "crossward":
                found += [(f"crossward.{alias.name}", id(node) in top) for alias in node.names]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path):
    for module, _ in imports(path):
        if module.startswith("crossward."):
            other = module.split(".")[1]
            assert other == room(path) or other in ROOMS[room(path)] or other == "__version__", (
                f"{path.name} imports {module}: {room(path)} may import {sorted(ROOMS[room(path)])} only"
            )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_stay_in_engines(path: Path):
    if room(path) in ("engines", "tinyworld"):
        return
    for module, at_top in imports(path):
        heavy = module.split(".")[0] in HEAVY
        assert not heavy or (room(path) == "core" and not at_top), f"{path.name} imports {module} outside engines"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_file_says_what_it_is_and_stays_short(path: Path):
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), f"{path.name} has no docstring"
    assert len(text.splitlines()) <= 350, f"{path.name} is longer than 350 lines"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_docstring_is_cut_within_a_sentence(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first, blank, rest = (ast.get_docstring(node) or "").partition("\n\n")
        cut = blank and "\n" not in first and first[-1:] not in ".!?:)`" and rest[:1].islower()
        assert not cut, f"{path.name}: the docstring breaks off: {first[-60:]}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_lines_are_printed_by_the_console_alone(path: Path):
    """console.line and console.note make text of strangers visible; nobody prints past them."""
    if room(path) == "console_streams":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "print":
            whose = ast.unparse(node.func.value)
            table = whose == "out" and path.name == "console.py" and ast.unparse(node.args[0]) == "table"
            live = path.name == "console_live.py"
            assert table or live, f"{path.name}, line {node.lineno}: print with console.line or console.note"


def test_import_and_help_load_no_heavy_library():
    code = (
        "import sys, crossward, crossward.cli, crossward.core.records, crossward.core.losses; "
        "print([m for m in ('torch', 'transformers', 'trl', 'pyarrow', 'pydantic', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
