"""A file of groups as a stream: one at a time, languages by themselves again, ids once, pipes too."""

import json
import os
import threading
from pathlib import Path

import pytest
from tests.support.live import counting

from crossward.core.records import SampledPrompt
from crossward.store import edges


def write_rows(path: Path, *names: tuple[str, str]) -> Path:
    rows = [
        {"id": id, "language": language, "instruction": f"Di {id}.", "english_instruction": "Say.", "responses": ["a"]}
        for id, language in names
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def names(groups) -> list[tuple[str, str]]:
    return [(group.prompt.id, group.prompt.language) for group in groups]


def test_the_groups_of_a_language_are_read_again_by_themselves(tmp_path: Path):
    wanted = [("1", "fr"), ("1", "es"), ("2", "es"), ("3", "fr")]
    path = write_rows(tmp_path / "g.jsonl", *wanted)
    path.write_text("\n" + path.read_text().replace("\n", "\n\n"))
    with edges.groups_in(path) as groups:
        assert names(groups) == wanted
        assert groups.languages == ["es", "fr"]
        assert names(groups.of("fr")) == [("1", "fr"), ("3", "fr")]
        assert names(groups.of("es")) == [("1", "es"), ("2", "es")]
        assert names(groups) == wanted, "as often as asked"
        assert groups.size == path.stat().st_size


def test_an_id_twice_in_a_language_is_told_at_the_end_with_its_lines(tmp_path: Path):
    path = write_rows(tmp_path / "g.jsonl", ("1", "es"), ("2", "es"), ("1", "fr"), ("2", "es"), ("1", "es"))
    with (
        edges.groups_in(path) as groups,
        pytest.raises(ValueError, match=r"id '2' in language 'es' stands on lines 2 and 4: each id may occur once"),
    ):
        for _ in groups:
            pass


def test_two_ids_with_one_hash_are_two_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_rows(tmp_path / "g.jsonl", ("1", "es"), ("2", "es"))
    monkeypatch.setattr("crossward.store.group_file.hash", lambda text: 7, raising=False)
    assert len(edges.read_groups(path)) == 2


def test_one_group_is_in_memory(tmp_path: Path):
    path = write_rows(tmp_path / "g.jsonl", *((str(i), "es") for i in range(40)))
    with counting(SampledPrompt) as live, edges.groups_in(path) as groups:
        for _ in groups:
            assert live() == 1
        for _ in groups.of("es"):
            assert 0 < live() <= 2  # the last one of the first loop


def test_a_mistake_is_met_where_it_stands(tmp_path: Path):
    path = write_rows(tmp_path / "g.jsonl", ("1", "es"), ("2", "es"))
    path.write_text(path.read_text() + "{broken\n")
    with edges.groups_in(path) as groups:
        stream = iter(groups)
        assert [next(stream).prompt.id, next(stream).prompt.id] == ["1", "2"]
        with pytest.raises(ValueError, match=r"g\.jsonl, line 3: broken JSON"):
            next(stream)


def test_a_file_that_changes_meanwhile_is_told(tmp_path: Path):
    path = write_rows(tmp_path / "g.jsonl", ("1", "es"), ("2", "es"))
    with edges.groups_in(path) as groups:
        assert len(list(groups)) == 2
        path.write_text("\n")
        with pytest.raises(ValueError, match=r"line 1 changed while the file was read: run again"):
            list(groups.of("es"))


def test_a_pipe_is_read_as_often_as_a_file(tmp_path: Path):
    source = write_rows(tmp_path / "g.jsonl", ("1", "es"), ("2", "fr"))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(source.read_bytes()))
    writer.start()
    with edges.groups_in(pipe) as groups:
        assert names(groups) == [("1", "es"), ("2", "fr")]
        assert names(groups.of("fr")) == [("2", "fr")]
    writer.join()


def test_bytes_are_counted_as_they_are_read(tmp_path: Path):
    path = write_rows(tmp_path / "g.jsonl", ("1", "es"), ("2", "fr"))
    counted: list[int] = []
    with edges.groups_in(path) as groups:
        groups.watch(counted.append)
        list(groups)
    assert sum(counted) == path.stat().st_size
