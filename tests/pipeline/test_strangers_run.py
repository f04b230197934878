"""A run folder of a stranger: nothing in it makes a verb read, show, hash, export or remove a file outside."""

import json
import shutil
from pathlib import Path

import pytest
from tests.support.command import call
from tests.support.report_runs import make_run

from crossward.store import manifest
from crossward.store.run_dir import RunDir, safe_name

SECRET = "planted-words-outside"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), prompts=4)[0].root


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text(SECRET)
    return Path(shutil.copytree(original, tmp_path / "deep" / "run"))


VERBS = {
    "show": ("show", "{run}"),
    "report": ("report", "{run}"),
    "export": ("export", "{run}", "--to", "model", "--output", "{out}"),
    "dataset": ("export", "{run}", "--to", "dataset", "--output", "{out}"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("link", ["iteration-1/pair/es.parquet", "iteration-1/train/checkpoint/secret.txt", "odd"])
def test_a_link_out_of_the_run_is_refused(verb: str, link: str, run: Path, tmp_path: Path, capsys):
    path = run / link
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(tmp_path / ("secret.txt" if link != "odd" else ""))
    words = [word.format(run=run, out=tmp_path / "out") for word in VERBS[verb]]
    called = call(capsys, *words)
    assert called.code == 2
    assert "a link that leads out of the run" in called.sentence
    assert SECRET not in called.out + called.err
    assert not (tmp_path / "out").exists()


def test_a_link_that_leads_in_a_circle_leads_nowhere(run: Path, capsys: pytest.CaptureFixture[str]):
    (run / "odd").symlink_to("odd")
    assert call(capsys, "show", run).code == 0


@pytest.mark.parametrize("name", ["../../../../secret.txt", "/etc/passwd", "es/../../../x", "..\\x", "./x", "a//b", ""])
def test_a_manifest_lists_files_of_its_stage_alone(name: str, run: Path):
    stage = RunDir(run).iteration(1).stage("pair")
    content = json.loads(stage.manifest.read_text())
    content["shards"][name] = {"rows": None, "sha256": "0" * 64}
    content.pop("checksum")
    content["checksum"] = manifest._checksum(content)  # a stranger can compute it, too
    stage.manifest.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="which is no file of the stage"):
        manifest.read(stage)


@pytest.mark.parametrize("name", ["..", "../x", "/etc", "a/b", "a\\b", ".hidden", "", "a..b", "x\u202ey", "a\nb"])
def test_a_language_or_name_is_one_plain_file_name(name: str):
    with pytest.raises(ValueError, match="cannot name a file"):
        safe_name(name)


def test_a_stage_to_redo_is_one_of_the_runs_own(run: Path):
    for title in ("../x/pair", "iteration-1/../../x", "iteration-1/pair/..", "/etc/pair", "iteration-01/pair"):
        with pytest.raises(ValueError, match="unknown stage"):
            RunDir(run).stage_named(title)


def test_redo_removes_a_link_and_not_what_it_leads_to(run: Path, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept.txt").write_text(SECRET)
    stage = RunDir(run).iteration(1).stage("pair")
    (stage.path / "way").symlink_to(outside)
    manifest.redo(stage)
    assert (outside / "kept.txt").read_text() == SECRET
