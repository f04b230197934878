"""Single stages on single files agree with a run's own stages; prompts are read in every shape that people have."""

import json
import os
import random
import threading
from pathlib import Path

import pytest
from tests.support.recipes import config_of, make_recipe, write_prompts

from crossward.core.pairing import PairingRules, pair_groups, published_rules
from crossward.core.records import Prompt, Response, ScoredPrompt, ScoredResponse
from crossward.engines.protocols import ModelSpec
from crossward.pipeline.iterate import run
from crossward.pipeline.progress import Silent
from crossward.pipeline.resumable import score_file
from crossward.pipeline.stage_files import read_pairs, read_sampled, read_scored
from crossward.pipeline.standalone import identifier_for, megabytes, pair_file, read_prompts
from crossward.store import edges, pair_rows

FIELDS = {"id_field": "id", "instruction_field": "instruction"}


def test_files_give_the_scores_and_pairs_of_a_run(tmp_path: Path):
    config = config_of(make_recipe(tmp_path, iterations=1))
    here = run(config, progress=Silent()).iteration(1)
    sampled, scored = [], []
    for language in ("en", "es"):
        sampled += read_sampled(here.stage("sample"), language)
        scored += read_scored(here.stage("score"), language)
    edges.write_groups(tmp_path / "groups.jsonl", sampled)
    specs = [
        ModelSpec(path=path, dtype="float32", device="cpu") for path in (config.models.policy, config.models.reference)
    ]
    score_file(
        tmp_path / "groups.jsonl",
        tmp_path / "scored.jsonl",
        policy=specs[0],
        reference=specs[1],
        view="crosslingual",
        compatibility="none",
        batch_tokens=512,
        progress=Silent(),
    )
    again = edges.read_scored(tmp_path / "scored.jsonl")
    assert [group.judged_under for group in again] == [group.judged_under for group in scored]
    for ours, theirs in zip(again, scored, strict=True):
        assert [r.log_ratio for r in ours.responses] == pytest.approx([r.log_ratio for r in theirs.responses], abs=1e-4)
    edges.write_scored(tmp_path / "scored.jsonl", scored)
    rules, path = PairingRules(length_unit="characters"), tmp_path / "pairs.jsonl"
    summaries = pair_file(tmp_path / "scored.jsonl", path, rules=rules, identifier=None, progress=Silent())
    pairs = read_pairs(here.stage("pair"))
    assert [(row.id, row.language, row.chosen, row.rejected) for row in pair_rows.read_pairs(path)] == [
        (pair.prompt.id, pair.prompt.language, pair.chosen.response, pair.rejected.response) for pair in pairs
    ]
    assert sum(summary["n_pairs"] for summary in summaries.values()) == len(pairs)


def test_prompts_with_their_twins_beside_or_in_another_file(tmp_path: Path):
    folder = write_prompts(tmp_path / "prompts")
    found = read_prompts(folder / "es.jsonl", language="es", english=folder / "en.jsonl", **FIELDS)
    assert [(p.id, p.english_instruction) for p in found["es"]][:2] == [("p0", "Name a fruit."), ("p1", "Say hello.")]
    row = {"id": "1", "language": "es", "instruction": "Di hola.", "english_instruction": "Say hello."}
    (tmp_path / "both.jsonl").write_text(json.dumps(row) + "\n")
    (prompt,) = read_prompts(tmp_path / "both.jsonl", language=None, english=None, **FIELDS)["es"]
    assert prompt.english_instruction == "Say hello."
    (twinless,) = read_prompts(folder / "en.jsonl", language="en", english=None, **FIELDS).values()
    assert all(prompt.instruction == prompt.english_instruction for prompt in twinless)


@pytest.mark.parametrize(
    ("rows", "language", "sentence"),
    [
        ([{"id": "1", "instruction": "Di."}], None, r"must be of one language, found none: name it with --language"),
        (
            [{"id": "1", "instruction": "a", "language": "es"}, {"id": "2", "instruction": "b", "language": "fr"}],
            None,
            r"must be of one language, found es, fr",
        ),
        ([{"id": "1", "instruction": "Di."}], "es", r"need their English twins: name their file with --english"),
        ([{"id": "1", "instruction": "Di."}], "xq", r"unknown language code 'xq'"),
    ],
)
def test_prompts_that_do_not_say_enough(tmp_path: Path, rows: list[dict], language: str | None, sentence: str):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=sentence):
        read_prompts(path, language=language, english=None, **FIELDS)


def test_the_language_filter_of_a_file_knows_its_languages_and_english(tmp_path: Path):
    texts = ["Me gusta mucho la fruta fresca.", "La casa está cerca del mar azul.", "I like fresh fruit very much."]
    row = {"id": "1", "language": "es", "instruction": "Di.", "log_ratio": [0.0, 1.0, 2.0], "responses": texts}
    path = tmp_path / "scored.jsonl"
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert identifier_for("none", path) is None
    summary = pair_file(
        path,
        tmp_path / "pairs.jsonl",
        rules=PairingRules(length_unit="none"),
        identifier=identifier_for("lingua", path),
        progress=Silent(),
    )["es"]
    assert summary["removed_responses"] == {"wrong-language": 1}
    (pair,) = pair_rows.read_pairs(tmp_path / "pairs.jsonl")
    assert pair.chosen.text == "La casa está cerca del mar azul."


def mixed(n: int) -> list[ScoredPrompt]:
    """Scored groups of three languages in turn; some have no pair."""
    lot = random.Random(4)
    return [
        ScoredPrompt(
            prompt=Prompt(
                id=str(i // 2), language=("fr", "es", "sw")[i % 3], instruction=f"Di {i}.", english_instruction="Say."
            ),
            view="crosslingual",
            judged_under="Say.",
            responses=tuple(
                ScoredResponse(
                    response=Response(text="x" * length, finish_reason=lot.choice(("stop", "stop", "length"))),
                    policy_logprob=0.02 * length + lot.gauss(-20, 2),
                    reference_logprob=-20.0,
                    n_tokens=length,
                )
                for length in (lot.randint(0, 60) for _ in range(lot.randint(1, 6)))
            ),
        )
        for i in range(n)
    ]


@pytest.mark.parametrize(
    "rules",
    [
        PairingRules(length_unit="characters"),
        PairingRules(length_unit="tokens", min_margin=0.5, upper_bound=2.0),
        PairingRules(length_unit="none", choice="random"),
        published_rules(upper_bound=1.5),
    ],
)
def test_a_stream_of_many_languages_gives_the_bytes_of_pairing_in_memory(tmp_path: Path, rules: PairingRules):
    groups = mixed(240)
    edges.write_scored(tmp_path / "scored.jsonl", groups)
    made = {
        code: pair_groups([group for group in groups if group.prompt.language == code], rules)
        for code in ("es", "fr", "sw")
    }
    pair_rows.write_pairs(tmp_path / "expected.jsonl", (pair for found in made.values() for pair in found.pairs))
    for input in (tmp_path / "scored.jsonl", tmp_path / "pipe"):
        if not input.exists():
            os.mkfifo(input)
            content = (tmp_path / "scored.jsonl").read_bytes()
            threading.Thread(target=input.write_bytes, args=(content,)).start()
        summaries = pair_file(input, tmp_path / "pairs.jsonl", rules=rules, identifier=None, progress=Silent())
        assert (tmp_path / "pairs.jsonl").read_bytes() == (tmp_path / "expected.jsonl").read_bytes()
        for code, found in made.items():
            assert summaries[code]["n_groups"] == 80
            assert summaries[code]["n_pairs"] == len(found.pairs) > 0
            assert summaries[code]["skipped"] == found.skipped
            assert summaries[code]["removed_responses"] == found.removed_responses
            assert summaries[code]["alpha"] == (found.control.alpha if found.control else 0.0)


def test_progress_of_pairing_counts_megabytes():
    advanced: list[int] = []
    count = megabytes(advanced.append)
    for _ in range(10):
        count(450_000)
    assert advanced == [1, 1, 1, 1]
