"""Answers that were paid for: whole lines count, in any order, and a torn one ends what counts."""

import resource
from pathlib import Path

import pytest

from crossward.core.records import Prompt, Response, SampledPrompt
from crossward.store.answers import Answers, answers_file


def group(name: str, text: str = "é\u2028", ids: tuple[int, ...] | None = (3, 4)) -> SampledPrompt:
    prompt = Prompt(id=name, language="es", instruction=f"Di {name}", english_instruction=f"Say {name}")
    return SampledPrompt(prompt=prompt, responses=(Response(text=text, token_ids=ids, finish_reason="length"),))


def kept(path: Path, *names: str) -> None:
    answers = Answers(path)
    for name in names:
        answers.put(name, group(name))
    answers.close()


def test_what_one_process_keeps_another_finds(tmp_path: Path):
    path = answers_file(tmp_path / "deep" / "out.jsonl")
    assert path == tmp_path / "deep" / "out.jsonl.answers"
    assert answers_file(Path("/dev/null")) is None
    kept(path, "b", "a")
    answers = Answers(path)
    assert answers.get("c") is None
    answers.put("c", group("c", ids=None))
    assert [answers.get(name) for name in "abc"] == [group("a"), group("b"), group("c", ids=None)]
    answers.close()
    assert Answers(path).get("c") == group("c", ids=None)


def test_no_file_before_the_first_answer(tmp_path: Path):
    answers = Answers(tmp_path / "out.answers")
    assert answers.get("a") is None
    answers.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b'{"key": "b", "id', b"\n", b'{"id": "b"}\n', b"[1]\n", b"\xff\xfe\n"])
def test_a_torn_or_damaged_line_ends_what_counts_and_is_written_over(tmp_path: Path, damage: bytes):
    path = tmp_path / "out.answers"
    kept(path, "a")
    whole = path.read_bytes()
    path.write_bytes(whole + damage + whole.replace(b'"a"', b'"z"'))
    answers = Answers(path)
    assert answers.get("a") == group("a")
    assert answers.get("z") is None
    answers.put("b", group("b"))
    answers.close()
    again = Answers(path)
    assert [again.get(name) for name in "ab"] == [group("a"), group("b")]
    assert path.read_bytes().count(b"\n") == 2


def test_a_full_disk_is_told_once_with_the_path_and_the_next_answer_is_whole(tmp_path: Path):
    path = tmp_path / "out.answers"
    answers = Answers(path)
    answers.put("a", group("a"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, before[1]))
    try:
        with pytest.raises(OSError, match=r"out\.answers"):
            answers.put("b", group("b"))
        answers.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    answers.put("c", group("c"))
    answers.close()
    again = Answers(path)
    assert (again.get("a"), again.get("b"), again.get("c")) == (group("a"), None, group("c"))
    assert not again.torn
