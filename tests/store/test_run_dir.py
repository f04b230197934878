"""The paths of a run, as the README draws them, and names that would leave them."""

from pathlib import Path

import pytest

from crossward.store import run_dir
from crossward.store.run_dir import RunDir

RUN = RunDir(Path("runs/mine"))


def test_paths():
    stage = RUN.iteration(2).stage("sample")
    paths = {
        "config.yaml": RUN.config,
        "provenance.json": RUN.provenance,
        "report.html": RUN.report,
        "report.md": RUN.markdown,
        "reward-accuracy.json": RUN.reward_accuracy,
        "prompts": RUN.prompts,
        "prompts/es/prompts.json": RUN.prompts_of("es").record,
        "prompts/es/part-00002.parquet": RUN.prompts_of("es").part(2),
        ".lock": RUN.lock,
        "iteration-2/sample/stage.json": stage.manifest,
        "iteration-2/sample/inputs.json": stage.inputs,
        "iteration-2/sample/es/part-00012.parquet": stage.shard("es", 12),
        "iteration-1/rate/es/part-00012.reasons.json": RUN.iteration(1).stage("rate").reasons_file("es", 12),
        "iteration-1/pair/zh.parquet": RUN.iteration(1).stage("pair").language_file("zh"),
        "iteration-1/train/checkpoint": RUN.iteration(1).stage("train").checkpoint,
        "iteration-1/train/metrics.jsonl": RUN.iteration(1).stage("train").metrics,
        "iteration-1/evaluate/measures/es.jsonl": RUN.iteration(1).stage("evaluate").measures_file("es"),
        "iteration-0/evaluate": RUN.iteration(0).stage("evaluate").path,
        "reference/evaluate": RUN.reference.stage("evaluate").path,
    }
    assert {name: path.relative_to("runs/mine").as_posix() for name, path in paths.items()} == {n: n for n in paths}


def test_titles_name_their_stage():
    for stage in (RUN.iteration(3).stage("pair"), RUN.reference.stage("evaluate")):
        assert RUN.stage_named(stage.title) == stage
    assert RUN.iteration(3).stage("pair").title == "iteration-3/pair"


@pytest.mark.parametrize(
    "title", ["pair", "iteration-1", "iteration-01/pair", "iteration-1/pear", "../pair", "a/b/c", ""]
)
def test_other_titles_are_refused(title):
    with pytest.raises(ValueError, match="expected iteration-<t>/<stage> or reference/<stage>"):
        RUN.stage_named(title)


@pytest.mark.parametrize(
    "name",
    ["", "..", "a/b", "a\\b", "../es", "es..", ".hidden", "e\0s", "e\ns", "e\x1bs", "e\x9bs", "e\ts", "e\u202es"],
)
def test_names_that_are_no_file_name_are_refused(name):
    stage = RUN.iteration(1).stage("pair")
    with pytest.raises(ValueError, match="cannot name a file"):
        stage.shard(name, 0)
    with pytest.raises(ValueError, match="cannot name a file"):
        stage.language_file(name)


def test_numbers_and_stages_out_of_range_are_refused():
    with pytest.raises(ValueError, match="iteration must be 0"):
        RUN.iteration(-1)
    with pytest.raises(ValueError, match="shard index must be 0 or more"):
        RUN.iteration(1).stage("score").shard("es", -1)
    with pytest.raises(ValueError, match="unknown stage 'verdict'"):
        RUN.iteration(1).stage("verdict")  # pyright: ignore[reportArgumentType]


def test_shards_are_listed_by_language_and_number_without_temporaries(tmp_path):
    stage = RunDir(tmp_path).iteration(1).stage("sample")
    wanted = [("de", 0), ("de", 2), ("de", 100000), ("es", 1)]
    for language, index in reversed(wanted):
        path = stage.shard(language, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (stage.path / "de" / ".part-00003.parquet.tmp").touch()
    (stage.path / "de" / "part-x.parquet").touch()
    assert [(language, index) for language, index, _ in stage.shards()] == wanted
    assert all(path == stage.shard(language, index) for language, index, path in stage.shards())
    assert stage.relative(stage.shard("es", 1)) == "es/part-00001.parquet"


@pytest.mark.parametrize("languages", [2, 20])
def test_going_through_every_language_lists_each_folder_once_or_twice(tmp_path, monkeypatch, languages: int):
    """Entries that are looked at grow as the number of shards, not as shards times languages."""
    stage = RunDir(tmp_path).iteration(1).stage("sample")
    for language in range(languages):
        for index in range(5):
            path = stage.shard(f"l{language}", index)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    listed: list[str] = []
    entries = run_dir._entries

    def noted(folder: Path):
        for entry in entries(folder):
            listed.append(entry.path)
            yield entry

    monkeypatch.setattr(run_dir, "_entries", noted)
    found = [path for language in stage.languages() for _, _, path in stage.shards(language)]
    assert len(found) == 5 * languages
    assert len(listed) <= 2 * len(found)
    listed.clear()
    assert len(stage.shards()) == len(found)
    assert len(listed) <= 2 * len(found)


def test_language_files_and_iterations(tmp_path):
    run = RunDir(tmp_path)
    stage = run.iteration(1).stage("pair")
    assert stage.language_files() == []
    assert run.iterations() == []
    for folder in ("iteration-10", "iteration-2", "iteration-0", "iteration-x", "reference"):
        (tmp_path / folder).mkdir()
    stage.path.mkdir(parents=True)
    for language in ("es", "de"):
        stage.language_file(language).touch()
    (stage.path / ".fr.parquet.tmp").touch()
    assert [path.name for path in stage.language_files()] == ["de.parquet", "es.parquet"]
    assert run.iterations() == [0, 1, 2, 10]
