"""The files that people and other tools see: they round-trip, they hold the promised fields, mistakes name the line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from tests.store.strategies import PAIRS, SAMPLED, SCORED, lists_of

from crossward.core.records import PreferencePair, Prompt, Response, SampledPrompt, ScoredPrompt, ScoredResponse
from crossward.store import edges, pair_rows

QUICK = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
GROUP: dict[str, Any] = {
    "id": "1",
    "language": "es",
    "instruction": "Di hola.",
    "english_instruction": "Say hello.",
    "responses": ["Hola.", "Buenas."],
}
SCORES: dict[str, Any] = {"policy_logprob": [-2.0, -3.0], "reference_logprob": [-2.5, -2.0]}
PROMPT = Prompt(id="1", language="es", instruction="Di hola.", english_instruction="Say hello.")


def write_rows(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def scored_response(text: str, policy: float, reference: float, ids: tuple[int, ...] | None) -> ScoredResponse:
    response = Response(text=text, token_ids=ids, finish_reason="stop")
    return ScoredResponse(response=response, policy_logprob=policy, reference_logprob=reference, n_tokens=2)


@QUICK
@given(groups=lists_of(SAMPLED, min_size=1))
def test_groups_come_back_as_they_were(tmp_path: Path, groups: list[SampledPrompt]):
    edges.write_groups(tmp_path / "groups.jsonl", groups)
    assert edges.read_groups(tmp_path / "groups.jsonl") == groups


@QUICK
@given(scored=lists_of(SCORED, min_size=1))
def test_scored_groups_come_back_as_they_were(tmp_path: Path, scored: list[ScoredPrompt]):
    edges.write_scored(tmp_path / "scored.jsonl", scored)
    assert edges.read_scored(tmp_path / "scored.jsonl") == list(map(with_judged_texts, scored))


def with_judged_texts(group: ScoredPrompt) -> ScoredPrompt:
    """Of what was judged in a response's place, a file for people keeps the text alone."""
    kept = [r if r.judged is None else replace(r, judged=Response(text=r.judged.text)) for r in group.responses]
    return replace(group, responses=tuple(kept))


@QUICK
@given(pairs=lists_of(PAIRS, min_size=1))
def test_pairs_come_back_with_their_texts_and_ids(tmp_path: Path, pairs: list[PreferencePair]):
    pair_rows.write_pairs(tmp_path / "pairs.jsonl", pairs)
    assert pair_rows.read_pairs(tmp_path / "pairs.jsonl") == [
        pair_rows.PairRow(
            id=pair.prompt.id,
            language=pair.prompt.language,
            instruction=pair.prompt.instruction,
            chosen=pair.chosen.response,
            rejected=pair.rejected.response,
        )
        for pair in pairs
    ]


def test_a_scored_line_holds_the_promised_fields(tmp_path: Path):
    responses = (scored_response("Hola.", -2.0, -2.5, (5, 6)), scored_response("¡Eh!", -3.0, -2.0, None))
    group = ScoredPrompt(prompt=PROMPT, view="crosslingual", judged_under="line\n\nSay hello.", responses=responses)
    edges.write_scored(tmp_path / "scored.jsonl", [group])
    assert json.loads((tmp_path / "scored.jsonl").read_text(encoding="utf-8")) == {
        "id": "1",
        "language": "es",
        "instruction": "Di hola.",
        "english_instruction": "Say hello.",
        "view": "crosslingual",
        "judged_under": "line\n\nSay hello.",
        "responses": ["Hola.", "¡Eh!"],
        "finish_reasons": ["stop", "stop"],
        "token_ids": [[5, 6], None],
        "policy_logprob": [-2.0, -3.0],
        "reference_logprob": [-2.5, -2.0],
        "log_ratio": [0.5, -1.0],
        "n_tokens": [2, 2],
        "n_chars": [5, 4],
    }


def test_a_pair_line_is_what_trl_reads(tmp_path: Path):
    pair = PreferencePair(
        prompt=PROMPT,
        chosen=scored_response("Hola.", -2.0, -2.5, (5, 6)),
        rejected=scored_response("¡Eh!", -3.0, -2.0, None),
        alpha=0.01,
        chosen_score=0.45,
        rejected_score=-1.04,
    )
    pair_rows.write_pairs(tmp_path / "pairs.jsonl", [pair])
    row = json.loads((tmp_path / "pairs.jsonl").read_text(encoding="utf-8"))
    assert row["prompt"] == [{"role": "user", "content": "Di hola."}]
    assert row["chosen"] == [{"role": "assistant", "content": "Hola."}]
    assert row["rejected"] == [{"role": "assistant", "content": "¡Eh!"}]
    assert (row["id"], row["language"], row["alpha"]) == ("1", "es", 0.01)
    assert (row["chosen_score"], row["rejected_score"]) == (0.45, -1.04)
    assert row["chosen_token_ids"] == [5, 6]
    assert "rejected_token_ids" not in row

    from datasets import load_dataset
    from trl.data_utils import is_conversational

    example = load_dataset(
        "json", data_files=str(tmp_path / "pairs.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )[0]
    assert is_conversational(example)


def test_what_other_tools_leave_out_gets_a_neutral_value(tmp_path: Path):
    (group,) = edges.read_groups(write_rows(tmp_path / "g.jsonl", GROUP))
    assert [(r.finish_reason, r.token_ids) for r in group.responses] == [("stop", None)] * 2
    bare = {key: value for key, value in GROUP.items() if key != "english_instruction"} | {"log_ratio": [0.5, -1]}
    (scored,) = edges.read_scored(write_rows(tmp_path / "s.jsonl", bare))
    assert [r.log_ratio for r in scored.responses] == [0.5, -1.0]
    assert (scored.prompt.english_instruction, scored.judged_under, scored.view) == ("", "", "crosslingual")
    under_its_own = bare | {"judged_under": "Di hola."}
    (scored,) = edges.read_scored(write_rows(tmp_path / "s.jsonl", under_its_own))
    assert scored.view == "multilingual"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi?", "chosen": "Yes.", "rejected": "No."},
        {
            "prompt": [{"role": "user", "content": "Hi?"}],
            "chosen": [{"role": "assistant", "content": "Yes."}],
            "rejected": [{"role": "assistant", "content": "No."}],
        },
        {
            "chosen": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}],
            "rejected": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "No."}],
        },
    ],
    ids=["texts", "conversational", "prompt-inside"],
)
def test_pairs_of_any_dpo_data_are_read(tmp_path: Path, row: dict[str, Any]):
    (pair,) = pair_rows.read_pairs(write_rows(tmp_path / "p.jsonl", row))
    assert (pair.id, pair.language, pair.instruction) == ("1", "und", "Hi?")
    assert (pair.chosen.text, pair.rejected.text, pair.chosen.finish_reason) == ("Yes.", "No.", "stop")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"language": None}, r"line 2: field 'language' is missing"),
        ({"instruction": " "}, r"line 2: field 'instruction' must be a text that is not empty"),
        ({"english_instruction": None}, r"line 2: field 'english_instruction' is missing"),
        ({"responses": "Hola."}, r"line 2: field 'responses' must be a list, got 'Hola.'"),
        ({"responses": ["a", 3]}, r"line 2: response 2 in field 'responses' must be a text, got 3"),
        ({"finish_reasons": ["stop"]}, r"line 2: field 'finish_reasons' has 1 items for 2 responses"),
        ({"finish_reasons": ["stop", "eos"]}, r"'finish_reasons' must be one of stop, length, got 'eos'"),
        ({"token_ids": [[1], [-4]]}, r"line 2: field 'token_ids' must hold lists of token ids"),
        ({"id": "1"}, r"id '1' in language 'es' stands on lines 1 and 2"),
        ({"language": "en"}, r"language is 'en' but english_instruction differs from instruction"),
    ],
)
def test_wrong_groups_name_the_line(tmp_path: Path, changes: dict[str, Any], sentence: str):
    path = write_rows(tmp_path / "g.jsonl", GROUP, GROUP | {"id": "2"} | changes)
    with pytest.raises(ValueError, match=sentence):
        edges.read_groups(path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"reference_logprob": None}, r"expected fields 'policy_logprob' and 'reference_logprob', or 'log_ratio'"),
        ({"policy_logprob": [1.0]}, r"field 'policy_logprob' has 1 items for 2 responses"),
        ({"policy_logprob": [1.0, "x"]}, r"field 'policy_logprob' must hold finite numbers, got 'x'"),
        ({"n_tokens": [1, -1]}, r"field 'n_tokens' must hold whole numbers of 0 or more, got -1"),
        ({"view": "mine"}, r"field 'view' must be one of crosslingual, multilingual, translated, got 'mine'"),
        ({"judged": [1, None]}, "field 'judged' must hold texts, got 1"),
    ],
)
def test_wrong_scores_name_the_line(tmp_path: Path, changes: dict[str, Any], sentence: str):
    path = write_rows(tmp_path / "s.jsonl", GROUP | SCORES | changes)
    with pytest.raises(ValueError, match=f"line 1: {sentence}"):
        edges.read_scored(path)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"chosen": "a", "rejected": "b"}, r"expected one prompt, .* got none"),
        ({"prompt": "x", "rejected": "b"}, r"field 'chosen' is missing"),
        (
            {"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "chosen": "a",
             "rejected": "b"},
            r"one user message, got roles system, user",
        ),
        ({"prompt": "x", "chosen": [{"role": "user", "content": "a"}], "rejected": "b"}, r"end in one assistant"),
        ({"prompt": "x", "chosen": [["a"]], "rejected": "b"}, r"list of messages with 'role' and 'content'"),
    ],
)  # fmt: skip
def test_wrong_pairs_name_the_line(tmp_path: Path, row: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=f"line 1: .*{sentence}"):
        pair_rows.read_pairs(write_rows(tmp_path / "p.jsonl", row))
