"""README's and the docs' commands, run one after the other as a reader would, in a world of seconds.

What is not run here is parsed by tests/test_docs.py, and named below with the reason.
"""

import json
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from tests.support.docs import ROOT, WRITTEN, commands, fenced

from crossward import cli
from crossward.core.winrates import Verdict
from crossward.pipeline.progress import Silent
from crossward.store.verdict_file import write_verdicts
from crossward.tinyworld.prepare import prepare

ASKED = "animals-5-t1-r1"  # the prompt that README looks at
# Run elsewhere, or not to be run by a test.
NOT_RUN = {
    "git clone": "this is the clone",
    "make demo": "tests/tinyworld/test_demo.py runs what it runs",
    "source .venv": "the tests run in an environment",
    "pip install": "likewise",
    "crossward experiment recipes/experiment-demo.yaml": "a minute; tests/test_cli_experiment.py runs experiments",
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which `make demo` was run, with the fast preset and few of its prompts."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("recipes", "docs"):
        (folder / name).symlink_to(ROOT / name)
    demo = folder / "runs" / "demo"
    prepare(demo, preset="fast", seed=42, mode="plain", progress=Silent())
    for path in [*demo.glob("prompts/*.jsonl"), *demo.glob("held-out/*.jsonl")]:
        rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
        rows.sort(key=lambda row: (json.loads(row)["id"] != ASKED, json.loads(row)["id"]))
        path.write_text("".join(rows[: 2 if path.parent.name == "prompts" else 1]), encoding="utf-8")
    recipe = (ROOT / "recipes" / "demo.yaml").read_text(encoding="utf-8")
    assert "\niterations: 2 " in recipe
    (folder / "my-run").symlink_to(demo / "run")  # where my-recipe.yaml runs
    (folder / "my-recipe.yaml").write_text(recipe.replace("\niterations: 2 ", "\niterations: 1 "), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def readme(clone: Path) -> Path:
    """The same when README's commands were run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(clone)
        for line in commands(ROOT / "README.md"):
            run(line)
            if line == "crossward run my-recipe.yaml":  # which is the demo's
                write_gold(Path("runs/demo/run/gold/verdicts.jsonl"))
    return clone


def write_gold(path: Path) -> None:
    """Verdicts as the demo leaves them; that gold judges so is tests/tinyworld's."""
    path.parent.mkdir()
    verdicts = [
        Verdict(
            id=f"q{k}", language="es", model=model, baseline="π_I", preference=0.25 * k,
            model_length=10 + k, baseline_length=12,
        )
        for model in ("π_0", "π_1")
        for k in range(5)
    ]  # fmt: skip
    write_verdicts(path, ((verdict, {}) for verdict in verdicts))


def run(line: str) -> None:
    """Run a line in this process; what is not to be run is passed over."""
    if any(line == known if known.startswith("crossward") else line.startswith(known) for known in NOT_RUN):
        return
    program, *arguments = shlex.split(line)
    with pytest.MonkeyPatch.context() as patch:
        match program:
            case "crossward":
                patch.setattr(sys, "argv", ["crossward", *arguments])
                with pytest.raises(SystemExit) as end:
                    cli.main()
                assert not end.value.code, f"{line}: exit code {end.value.code}, see what it said"
            case "python":
                patch.setattr(sys, "argv", arguments)
                runpy.run_path(arguments[0], run_name="__main__")
            case _:
                pytest.fail(f"not run: {line}")


def test_readmes_commands_run(readme: Path):
    pairs = (readme / "runs" / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    assert pairs
    assert {"prompt", "chosen", "rejected"} <= json.loads(pairs[0]).keys()
    for made in ("small/report.html", "aligned/model.safetensors", "noisy.jsonl", "sure.jsonl"):
        assert (readme / "runs" / made).exists(), made


@pytest.mark.parametrize("page", ["first-steps.md", "extending.md", "report.md"])
def test_a_pages_commands_run(page: str, readme: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(readme)
    for line in commands(ROOT / "docs" / page):
        run(line)


def test_the_given_samplers_answers_are_what_was_scored(readme: Path):
    given = [json.loads(line) for line in (readme / "runs" / "groups.jsonl").read_text(encoding="utf-8").splitlines()]
    stage = json.loads((readme / "runs" / "from-a-file" / "iteration-1" / "sample" / "stage.json").read_text())
    assert stage["settings"]["engine"] == "given"
    assert stage["counts"]["languages"]["es"]["responses"] == sum(len(group["responses"]) for group in given)


def test_the_blocks_of_python_that_name_the_demos_models_run(readme: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(readme)
    found = [code for page in WRITTEN for code in fenced(page, "python") if '"runs/demo/' in code]
    assert found
    for code in found:
        exec(compile(code, "docs", "exec"), {})
