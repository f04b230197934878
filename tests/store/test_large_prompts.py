"""Large prompt files: counted by lines, the first rows read, nothing else."""

import json
from pathlib import Path

import pytest

from crossward.store import large_prompts
from crossward.store.large_prompts import count_if_large
from crossward.store.rows import Source


def write(path: Path, n: int, text: str) -> Source:
    rows = [json.dumps({"key": f"p{i}", "text": f"{text} {i}"}) for i in range(n)]
    path.write_text("\n".join(rows), encoding="utf-8")  # the last line has no end
    return Source(path=str(path), id_field="key", instruction_field="text")


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Source]:
    monkeypatch.setattr(large_prompts, "LARGE_BYTES", 1000)
    monkeypatch.setattr(large_prompts, "FIRST_ROWS", 3)
    monkeypatch.setattr(large_prompts, "BLOCK_BYTES", 64)
    return {language: write(tmp_path / f"{language}.jsonl", n, language) for language, n in (("en", 40), ("es", 39))}


def test_lines_are_counted_and_the_first_have_their_twins(sources: dict[str, Source]):
    found = count_if_large(sources, sources["en"], limit=None)
    assert found is not None
    assert found.counts == {"en": 40, "es": 39}
    assert [(prompt.instruction, prompt.english_instruction) for prompt in found.first["es"]] == [
        ("es 0", "en 0"),
        ("es 1", "en 1"),
        ("es 2", "en 2"),
    ]
    limited = count_if_large(sources, sources["en"], limit=7)
    assert limited is not None
    assert limited.counts == {"en": 7, "es": 7}


def test_small_files_and_other_formats_are_read_as_ever(
    sources: dict[str, Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "en.csv").write_text("id,instruction\n" + "1,x\n" * 1000)
    assert count_if_large({"en": Source(path=str(tmp_path / "en.csv"))}, sources["en"], limit=None) is None
    monkeypatch.setattr(large_prompts, "LARGE_BYTES", 10**9)
    assert count_if_large(sources, sources["en"], limit=None) is None


@pytest.mark.parametrize(
    ("line", "sentence"), [("{", "line 2"), ('{"key": 1}', "expected an object with 'key' and 'text'")]
)
def test_a_broken_row_is_named(sources: dict[str, Source], line: str, sentence: str):
    path = Path(sources["es"].path)
    rows = path.read_text(encoding="utf-8").split("\n")
    path.write_text("\n".join([rows[0], line, *rows[2:]]), encoding="utf-8")
    with pytest.raises(ValueError, match="line 2") as caught:
        count_if_large(sources, sources["en"], limit=None)
    assert sentence in str(caught.value)
