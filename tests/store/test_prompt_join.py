"""Prompts joined on disk are those that are joined in memory: same prompts, same hash, same words for what is wrong."""

import errno
import os
import pickle
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from tests.store.test_sources import EN, ES, rows_of, write

from crossward.store import prompt_join, prompt_shards
from crossward.store.manifest import content_hash
from crossward.store.prompt_join import join_on_disk
from crossward.store.prompt_shards import KeptPrompts, PromptShards, known_hash, open_prompts
from crossward.store.rows import Source
from crossward.store.run_dir import RunDir
from crossward.store.sources import load_counted

MANY = {f"p{i}": f"Say {i} in English." for i in range(40)}


def many_in(language: str, *, without: int = 0) -> list[dict[str, str]]:
    """Rows in another order than the English ones."""
    rows = [{"id": id, "instruction": f"{language}: {text}"} for id, text in MANY.items()]
    return rows[: len(rows) - without][::-1]


def sources_in(folder: Path, **rows: list[dict] | str) -> dict[str, Source]:
    for language, content in rows.items():
        path = folder / f"{language}.jsonl"
        path.write_text(content, encoding="utf-8") if isinstance(content, str) else write(path, content)
    return {language: Source(path=str(folder / f"{language}.jsonl")) for language in rows}


def joined(folder: Path, sources: dict[str, Source], **options) -> dict[str, PromptShards]:
    directory = RunDir(folder / "run")
    chosen = {"limit": None, "allow_missing": False} | options
    kept = join_on_disk(directory, sources, english=Source(path=str(folder / "en.jsonl")), **chosen)
    return {language: open_prompts(directory.prompts_of(language), found) for language, found in kept.items()}


@pytest.mark.parametrize("options", [{}, {"limit": 17}, {"allow_missing": True, "limit": 39}])
def test_the_same_prompts_and_hashes_as_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict):
    monkeypatch.setattr(prompt_shards, "PART", 7)
    lacking = 3 if options.get("allow_missing") else 0
    sources = sources_in(tmp_path, en=rows_of(MANY), es=many_in("es", without=lacking), de=many_in("de"))
    expected = load_counted(sources, **options)
    found = joined(tmp_path, sources, **options)
    assert {language: list(group) for language, group in found.items()} == expected.prompts
    for language, group in found.items():
        assert known_hash(group) == content_hash([asdict(prompt) for prompt in expected.prompts[language]])
        kept = prompt_shards.kept_prompts(RunDir(tmp_path / "run").prompts_of(language))
        assert kept is not None
        assert kept.n_missing == expected.n_missing[language]
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_slices_are_sequences_that_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prompt_shards, "PART", 7)
    monkeypatch.setattr("crossward.store.parquet_files.ROW_GROUP", 3)
    sources = sources_in(tmp_path, en=rows_of(MANY))
    (group,) = joined(tmp_path, sources).values()
    whole = list(group)
    assert len(group) == len(whole) == 40
    for start, stop in ((0, 40), (5, 9), (6, 21), (35, 99), (7, 7), (13, 14)):
        part = pickle.loads(pickle.dumps(group[start:stop]))
        assert (len(part), list(part)) == (len(whole[start:stop]), whole[start:stop])
    assert list(group[5:30][3:9]) == whole[5:30][3:9]
    assert (group[0], group[-1], group[33]) == (whole[0], whole[-1], whole[33])
    assert known_hash(group[:39]) is None
    with pytest.raises(IndexError):
        group[40]


@pytest.mark.parametrize(
    ("spanish", "english"),
    [
        ('{"id": "1", "instruction": "a"}\n{"id": "2", "instr', None),
        ('{"id": "1", "instruction": "a"}\n{"id": "2", "instruction": "b"}\n{"id": "1", "instruction": "c"}\n', None),
        ('{"id": "9", "instruction": "a"}\n{"id": "9", "instruction": "b"}\n', None),
        ('{"id": "9", "instruction": "a"}\n{"id": "1", "instruction": "b"}\n{"id": "8", "instruction": "c"}\n', None),
        ('{"id": "1", "instruction": "a"}\n', None),
        ('{"id": "1", "instruction": " "}\n', None),
        ('{"id": "1", "instruction": "a", "language": "fr"}\n', None),
        ("", None),
        (rows_of(ES), rows_of(EN) + rows_of({"2": "again"})),
        (rows_of(ES), '{"id": 1.5, "instruction": "a"}\n'),
    ],
)
def test_what_is_wrong_is_told_in_the_same_words(tmp_path: Path, spanish, english):
    sources = sources_in(tmp_path, en=english or rows_of(EN), es=spanish)
    with pytest.raises(ValueError, match=r"\.jsonl") as expected:
        load_counted(sources)
    with pytest.raises(ValueError, match=f"^{re.escape(str(expected.value))}$"):
        joined(tmp_path, sources)
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_only_what_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written: list[str] = []
    write_prompts = prompt_join.write_prompts

    def noted(folder, *rest, **more) -> KeptPrompts:
        written.append(folder.path.name)
        return write_prompts(folder, *rest, **more)

    monkeypatch.setattr(prompt_join, "write_prompts", noted)
    sources = sources_in(tmp_path, en=rows_of(EN), es=rows_of(ES), de=rows_of(ES))
    joined(tmp_path, sources)
    joined(tmp_path, sources)
    assert written == ["en", "es", "de"]
    (RunDir(tmp_path / "run").prompts_of("de").part(0)).unlink()
    joined(tmp_path, sources)
    assert written[3:] == ["de"]
    sources_in(tmp_path, es=rows_of(ES | {"2": "Di buenos días."}))
    os.utime(tmp_path / "es.jsonl", ns=(1, 1))
    assert joined(tmp_path, sources)["es"][1].instruction == "Di buenos días."
    assert written[4:] == ["es"]
    assert len(joined(tmp_path, sources, limit=1)["es"]) == 1
    assert written[5:] == ["en", "es", "de"]


def test_a_damaged_part_is_one_sentence(tmp_path: Path):
    sources = sources_in(tmp_path, en=rows_of(EN))
    (group,) = joined(tmp_path, sources).values()
    RunDir(tmp_path / "run").prompts_of("en").part(0).write_bytes(b"PAR1 and then nothing")
    with pytest.raises(ValueError, match=r"part-00000\.parquet is damaged or foreign .*: delete it and run again"):
        list(group)


def test_what_is_not_as_it_was_written_is_told_and_made_again(tmp_path: Path):
    """A bit of the record may stand for fewer prompts, and a slice's rows have no checksum of their own."""
    sources = sources_in(tmp_path, en=rows_of(EN), es=rows_of(ES))
    folder = RunDir(tmp_path / "run").prompts_of("es")
    assert prompt_shards.kept_prompts(folder) is None
    expected = list(joined(tmp_path, sources)["es"])
    record, part = folder.record.read_bytes(), folder.part(0).read_bytes()
    at = record.index(b'"n_prompts": ') + len(b'"n_prompts": ')
    fewer = record[:at] + bytes([record[at] ^ 1]) + record[at + 1 :]
    records = [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        fewer,
        *(flipped(record, n) for n in range(0, len(record), 7)),
    ]
    for content in records:
        folder.record.write_bytes(content)
        with pytest.raises(ValueError, match=r"prompts\.json is not what was written"):
            prompt_shards.kept_prompts(folder)
    folder.record.unlink()
    folder.record.mkdir()
    with pytest.raises(ValueError, match=r"prompts\.json is not what was written"):
        prompt_shards.kept_prompts(folder)
    assert list(joined(tmp_path, sources)["es"]) == expected
    for n in range(0, len(part), 7):
        folder.part(0).write_bytes(flipped(part, n))
        with pytest.raises(ValueError, match=r"part-00000\.parquet is not what was written"):
            prompt_shards.kept_prompts(folder)
    said: list[str] = []
    assert list(joined(tmp_path, sources, say=said.append)["es"]) == expected
    (line,) = said
    assert line == f"prompts in es: {folder.part(0)} is not what was written: they are read from their source again"
    assert (folder.record.read_bytes(), folder.part(0).read_bytes()) == (record, part)


def flipped(content: bytes, n: int) -> bytes:
    return content[:n] + bytes([content[n] ^ 1 << n % 8]) + content[n + 1 :]


def test_a_full_disk_is_the_operating_systems_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prompt_join, "_TABLES", "PRAGMA max_page_count = 20;" + prompt_join._TABLES)
    sources = sources_in(tmp_path, en=rows_of({id: text * 400 for id, text in MANY.items()}))
    with pytest.raises(OSError, match=r"english\.sqlite") as caught:
        joined(tmp_path, sources)
    assert caught.value.errno == errno.ENOSPC
    assert not list((tmp_path / "run").rglob("*.tmp"))
