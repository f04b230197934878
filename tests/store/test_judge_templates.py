"""The package's own templates are whole, and a folder's files replace them one by one."""

from pathlib import Path

import pytest

from crossward.core.judge_templates import REQUIRED
from crossward.store.judge_templates import read_templates


def test_our_templates_ask_for_a_rating_and_for_the_questions_language():
    texts = read_templates().texts
    assert texts.keys() == REQUIRED.keys()
    for name, text in texts.items():
        assert "[[5]]" in text, name
        assert "A good answer is written in the language of the question, unless" in text, name
        assert ("second answer alone" in text) == name.startswith("turn-2")


def test_a_folder_replaces_what_it_holds(tmp_path: Path):
    (tmp_path / "turn-1.txt").write_text("{question_1}\n→ {answer_1}\n", encoding="utf-8")
    texts = read_templates(tmp_path).texts
    assert texts["turn-1"] == "{question_1}\n→ {answer_1}\n"
    assert texts["turn-2"] == read_templates().texts["turn-2"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("turn-1.txt", "{question_1}", r"turn-1.txt lacks the placeholder \{answer_1\}"),
        ("turn-1.txt", "", "is empty"),
        ("turn-3.txt", "{question_1}", "turn-3.txt is no template of MT-Bench: expected some of turn-1.txt"),
        ("turn-1.md", "{question_1}", "holds no template: expected some of turn-1.txt"),
    ],
)
def test_a_wrong_folder_is_refused(tmp_path: Path, name: str, content: str, sentence: str):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=sentence):
        read_templates(tmp_path)
    with pytest.raises(ValueError, match="is no folder: --templates expects one"):
        read_templates(tmp_path / name)
