"""`crossward measure`, called as a shell would: tables, JSON, loud drops, and one sentence for each bad input."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.command import call

SPANISH = "El gato duerme en el sofá mientras nosotros hablamos de la cena."
ENGLISH = "The cat is sleeping on the sofa while we are talking about dinner."


def groups(n: int, *answers: str, language: str = "es", **extra: Any) -> list[dict[str, Any]]:
    return [
        {"id": str(i), "language": language, "instruction": f"Di {i}.", "responses": list(answers)} | extra
        for i in range(n)
    ]


def outputs(n: int, answer: str, *, ids: bool = True) -> list[dict[str, Any]]:
    rows = [{"id": i, "instruction": f"Di {i}.", "output": f"{answer} {i}", "generator": "m"} for i in range(n)]
    return rows if ids else [{key: value for key, value in row.items() if key != "id"} for row in rows]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows) if path.suffix == ".jsonl" else json.dumps(rows)
    path.write_text(text, encoding="utf-8")
    return path


def test_json_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Three prompts with one Spanish, one English and one empty answer each; the last ones were cut."""
    ends = {"finish_reasons": ["stop", "stop", "length"]}
    path = write(tmp_path / "groups.jsonl", groups(3, SPANISH, ENGLISH, "", **ends))
    called = call(capsys, "measure", "--input", path, "--json")
    assert called.code == 0, called.err
    (found,) = json.loads(called.out)["languages"].values()
    assert (found["prompts"], found["answers"], found["empty"], found["truncated"]) == (3, 9, 3, 3)
    assert found["identified_as"] == {"en": 3, "es": 3, "unsure": 3}
    assert found["fidelity"] == 0.5
    assert found["measures"]["n_chars"]["estimate"] == pytest.approx((len(SPANISH) + len(ENGLISH)) / 3)
    assert found["measures"]["code_switching"]["estimate"] == 0.5


def test_several_languages_in_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = [*groups(2, SPANISH), *groups(2, ENGLISH, language="en")]
    called = call(capsys, "measure", "--input", write(tmp_path / "groups.jsonl", rows), "--json")
    languages = json.loads(called.out)["languages"]
    assert {code: found["fidelity"] for code, found in languages.items()} == {"en": 1.0, "es": 1.0}
    assert "truncation is not measured" in called.err
    assert languages["es"]["truncated"] is None
    assert "truncated" not in languages["es"]["measures"]


def test_a_drop_is_loud_in_every_language(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    before = write(tmp_path / "before.json", outputs(30, SPANISH))
    after = write(tmp_path / "after.json", outputs(30, ENGLISH))
    arguments = ("measure", "--input", after, "--against", before, "--language", "es")
    called = call(capsys, *arguments)
    assert called.code == 0, called.err
    assert "ES DROPPED: fidelity 1.000 → 0.000, difference -1.000 [-1.000, -1.000] over 30 prompts" in called.err
    for words in ("asked for (rows)", "DROPPED", "not tested", "4 tests, each at 95 %: chance alone would show 0.1"):
        assert words in called.out
    called = call(capsys, *arguments, "--json")
    against = json.loads(called.out)["against"]["es"]
    dropped = [change["measure"] for change in against["changes"] if change["dropped"]]
    assert dropped == ["fidelity", "no code-switching"]
    (length,) = [change for change in against["shown"] if change["measure"] == "n_chars"]
    assert length["difference"]["estimate"] == pytest.approx(len(ENGLISH) - len(SPANISH))
    turned = call(capsys, "measure", "--input", before, "--against", after, "--language", "es")
    assert "DROPPED" not in turned.err


def test_files_are_joined_by_id_and_without_ids_by_instruction(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ours = write(tmp_path / "ours.json", outputs(9, SPANISH))
    for other in (outputs(9, SPANISH)[::-1], outputs(9, SPANISH, ids=False)[::-1]):
        base = write(tmp_path / "base.json", other)
        called = call(
            capsys,
            "measure",
            "--input",
            ours,
            "--against",
            base,
            "--reference-answers",
            base,
            "--language",
            "es",
            "--json",
        )
        assert called.code == 0, called.err
        found = json.loads(called.out)
        assert found["languages"]["es"]["measures"]["chrf"]["estimate"] == pytest.approx(100.0)
        assert all(change["n_prompts"] == 9 for change in found["against"]["es"]["changes"])
        assert all(change["difference"]["high"] == 0.0 for change in found["against"]["es"]["changes"])


GROUPS = groups(2, SPANISH)


@pytest.mark.parametrize(
    ("rows", "other", "arguments", "sentence"),
    [
        (outputs(2, "x"), None, (), "row 1: the row does not say its language: name it with --language"),
        (outputs(2, "x"), None, ("--language", "xq"), "unknown language code 'xq'"),
        (
            [{"id": 1, "text": "x"}],
            None,
            ("--language", "es"),
            "expected 'responses' (groups) or 'output' (alpaca_eval)",
        ),
        (outputs(1, "x") * 2, None, ("--language", "es"), "'es' has '0' twice: each prompt may occur once"),
        (outputs(1, "x", ids=False) * 2, None, ("--language", "es"), "'es' has 'Di 0.' twice"),
        (GROUPS, None, ("--language", "en"), "row 1: field 'language' is 'es', but --language says 'en'"),
        (GROUPS, groups(2, ENGLISH, language="en"), (), "have no language in common"),
        (GROUPS, [row | {"id": f"q{row['id']}"} for row in GROUPS], (), "answer no prompt in common in 'es'"),
        (GROUPS, None, ("--reference-answers", "REF"), "ref.json answers none of the 2 prompts"),
        (
            [*GROUPS, *groups(1, "x", language="en")],
            None,
            ("--reference-answers", "REF"),
            "answer prompts of one language",
        ),
        (GROUPS, None, ("--reference-answers", "none.json"), "file none.json does not exist"),
        (GROUPS, None, ("--against", "none.jsonl"), "file none.jsonl does not exist"),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    rows: list[dict[str, Any]],
    other: list[dict[str, Any]] | None,
    arguments: tuple[str, ...],
    sentence: str,
):
    path = write(tmp_path / "answers.json", rows)
    reference = write(tmp_path / "ref.json", [{"id": "z", "output": "x"}])
    against = () if other is None else ("--against", write(tmp_path / "other.json", other))
    given = [reference if argument == "REF" else argument for argument in arguments]
    called = call(capsys, "measure", "--input", path, *against, *given)
    assert called.code == 2
    assert sentence in called.sentence
    assert called.out == ""
    assert "Traceback" not in called.err
