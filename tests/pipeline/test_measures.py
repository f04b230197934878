"""From answers to rows and counts: who is asked what, joins by id, and the files of the evaluate stage."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.pipeline.test_kill import contents
from tests.support.recipes import config_of, make_recipe

from crossward.core.language import Identification
from crossward.core.records import Prompt, Response, SampledPrompt
from crossward.engines.chrf import chrf
from crossward.engines.lingua_identifier import LinguaIdentifier
from crossward.pipeline.assemble import Engines
from crossward.pipeline.iterate import run
from crossward.pipeline.measures import answer_counts, measure_answers, read_references
from crossward.pipeline.progress import Silent
from crossward.pipeline.prompts import evaluation_prompts
from crossward.pipeline.stages import evaluate
from crossward.pipeline.unpack import sampling_of
from crossward.store import files, manifest, tables
from crossward.store.manifest import StageManifest
from crossward.store.measures_file import read_measures
from crossward.store.reference_answers import ReferenceAnswers
from crossward.store.run_dir import RunDir, StageDir


class FirstWord:
    """Takes the first word of a text for its language; "?" is none."""

    unsupported: tuple[str, ...] = ("sw",)

    def identify(self, texts: Sequence[str]) -> list[Identification]:
        words = [text.split()[0] if text.split() else "?" for text in texts]
        return [Identification(language=None if word == "?" else word, confidence=1.0) for word in words]


def prompt(id: str, language: str = "es") -> Prompt:
    return Prompt(id=id, language=language, instruction=f"Di {id}.", english_instruction="Say.")


def group(id: str, *texts: str, language: str = "es", cut: bool = False) -> SampledPrompt:
    responses = tuple(Response(text=text, finish_reason="length" if cut else "stop") for text in texts)
    return SampledPrompt(prompt=prompt(id, language), responses=responses)


def test_answers_are_identified_over_many_windows():
    texts = ["es a", "en b", "? c", "es d"]
    groups = [group(str(i), texts[i % 4]) for i in range(400)]
    counts = answer_counts(list(measure_answers(iter(groups), FirstWord(), None)))
    assert counts["identified_as"] == {"en": 100, "es": 200, "unsure": 100}
    assert counts["fidelity"] == pytest.approx(200 / 300)
    assert (counts["prompts"], counts["answers"], counts["mean_chars"], counts["truncated"]) == (400, 400, 3.75, 0)
    assert counts["measures"]["fidelity"]["n_answers"] == 300
    assert counts["measures"]["fidelity"]["low"] < 2 / 3 < counts["measures"]["fidelity"]["high"]


def test_what_nobody_can_tell_is_not_told():
    for groups, identifier in (([group("1", "sw a", language="sw")], FirstWord()), ([group("1", "es a")], None)):
        rows = list(measure_answers(groups, identifier, None))
        assert [(row.identified, row.code_switching) for row in rows] == [(None, None)]
        assert not {"fidelity", "identified_as"} & answer_counts(rows).keys()
    counts = answer_counts(list(measure_answers([group("1", "? a")], FirstWord(), None)))
    assert (counts["fidelity"], counts["identified_as"]) == (None, {"unsure": 1})


def test_each_answer_keeps_its_own_languages():
    """Answers of many sentences, in two languages of which one is not asked for: nothing slips to a neighbour."""
    groups = [
        group("1", "es a. en bb. es c.", "", "en x."),
        group("2", "en y.", language="sw"),
        group("3", "es a.\n```\nen code. en code.\n```\n", cut=True),
    ]
    rows = list(measure_answers(groups, FirstWord(), None))
    assert [(row.prompt_id, row.answer) for row in rows] == [("1", 0), ("1", 1), ("1", 2), ("2", 0), ("3", 0)]
    assert [row.identified for row in rows] == ["es", "unsure", "en", None, "es"]
    assert [row.code_switching for row in rows] == [pytest.approx(6 / 16), None, 1.0, None, 0.0]
    assert [row.truncated for row in rows] == [False, False, False, False, True]
    assert [row.empty for row in rows] == [False, True, False, False, False]


def test_neighbours_and_order_change_nothing():
    groups = [group(str(i), f"es {i}. en {'x' * i}.", "? a") for i in range(150)]
    alone = [row for one in groups for row in measure_answers([one], FirstWord(), None)]
    assert list(measure_answers(groups, FirstWord(), None)) == alone
    turned = list(measure_answers(groups[::-1], FirstWord(), None))
    assert sorted(turned, key=lambda row: (int(row.prompt_id), row.answer)) == alone


def test_mixed_prose_is_seen_by_the_real_identifier():
    spanish = "El gato duerme en el sofá mientras nosotros hablamos de la cena. "
    english = "The cat is sleeping on the sofa while we are talking about the dinner. "
    identifier = LinguaIdentifier(("en", "es"))
    shares = []
    for n_english in range(4):
        text = spanish * (3 - n_english) + english * n_english
        (row,) = measure_answers([group("1", text)], identifier, None)
        shares.append(row.code_switching)
        assert row.identified in ("es", "en")
    assert shares[0] == 0.0
    assert shares[3] == 1.0
    assert shares == sorted(shares)
    assert shares[1] == pytest.approx(70 / (2 * 64 + 70), abs=0.01)


def test_chrf_is_joined_by_id():
    references = ReferenceAnswers(by_id={"2": "dos", "1": "uno"}, by_instruction={})
    rows = list(measure_answers([group("1", "uno", "dos"), group("3", "tres"), group("2", "dos")], None, references))
    assert [row.chrf for row in rows] == [100.0, chrf("dos", "uno"), None, 100.0]
    assert answer_counts(rows)["measures"]["chrf"]["n_answers"] == 3


def test_references_name_their_language(tmp_path: Path):
    asked = {"es": [prompt("1")], "en": [prompt("1", "en")]}
    for language, id in (("es", "1"), ("en", "9")):
        (tmp_path / f"{language}.json").write_text(json.dumps([{"id": id, "output": language}]))
    with pytest.raises(ValueError, match="would all be read from"):
        read_references(str(tmp_path / "es.json"), asked)
    with pytest.raises(ValueError, match=r"en\.json answers none of the 1 prompts: .*'1'.*'9'; they are joined by id"):
        read_references(str(tmp_path / "{language}.json"), asked)
    with pytest.raises(ValueError, match=r"fr\.json does not exist"):
        read_references(str(tmp_path / "{language}.json"), {"fr": [prompt("1", "fr")]})
    assert read_references(str(tmp_path / "es.json"), {"es": [prompt("1")]})["es"].of(prompt("1")) == "es"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    folder = tmp_path_factory.mktemp("measured")
    recipe = make_recipe(folder, iterations=1, pair={"language_filter": "lingua"})
    recipe["evaluate"] |= {"n": 2, "max_new_tokens": 40}
    return run(config_of(recipe), progress=Silent())


def made(stage: StageDir) -> StageManifest:
    found = manifest.read(stage)
    assert found is not None
    return found


def test_every_policy_of_a_run_is_measured(finished: RunDir):
    for here in (finished.reference, finished.iteration(0), finished.iteration(1)):
        stage = here.stage("evaluate")
        assert stage.measured_languages() == ["en", "es"]
        for language in ("en", "es"):
            groups = [
                found for code, _, path in stage.shards() if code == language for found in tables.read_sampled(path)
            ]
            responses = [response for found in groups for response in found.responses]
            answers = [(found.prompt.id, k, len(r.text)) for found in groups for k, r in enumerate(found.responses)]
            rows = read_measures(stage.measures_file(language))
            assert [(row.prompt_id, row.answer, row.n_chars) for row in rows] == answers
            counts = made(stage).counts["languages"][language]
            tokens = {"tokens": sum(len(r.token_ids or ()) for r in responses)}
            assert counts == json.loads(json.dumps(answer_counts(rows))) | tokens
            assert f"measures/{language}.jsonl" in made(stage).shards


def answer_again(finished: RunDir, folder: Path, **changes: object) -> StageDir:
    """The evaluate stage of iteration 0 as the recipe has it, in another folder."""
    config = config_of(json.loads(json.dumps(finished_recipe(finished))))
    engines, stage = Engines(config), StageDir(folder / "evaluate")
    evaluate(
        stage, evaluation_prompts(config),
        open_sampler=lambda: engines.sampler(engines.policy(), "evaluate"),
        open_identifier=lambda: engines.identifier(config.languages),
        sampling=sampling_of(config.evaluate, 1), shard_size=1, settings={}, inputs={}, progress=Silent(), **changes,
    )  # fmt: skip
    return stage


def finished_recipe(finished: RunDir) -> dict:
    import yaml

    return yaml.safe_load(finished.config.read_text(encoding="utf-8"))


def test_lost_measures_are_made_again_without_sampling(finished: RunDir, tmp_path: Path):
    stage = answer_again(finished, tmp_path)
    expected = contents(stage.path)
    written = {path: path.stat().st_mtime_ns for _, _, path in stage.shards()}
    stage.measures_file("es").unlink()
    answer_again(finished, tmp_path)
    assert contents(stage.path) == expected
    assert {path: path.stat().st_mtime_ns for _, _, path in stage.shards()} == written
    stage.manifest.unlink()  # killed after the first language's measures
    stage.measures_file("es").unlink()
    answer_again(finished, tmp_path)
    assert contents(stage.path) == expected


def test_a_stop_at_any_write_changes_no_byte(finished: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Inputs, four shards, two files of measures, two of outputs, the manifest: stopped before each, then run again."""
    expected = contents(answer_again(finished, tmp_path / "whole" / "iteration-0").path)
    assert len(expected) == 10
    replace = files.os.replace
    for n in range(len(expected)):
        left = [n]

        def stop_after(source: Path, target: Path, left: list[int] = left) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            replace(source, target)

        with monkeypatch.context() as patched:
            patched.setattr(files.os, "replace", stop_after)
            with pytest.raises(KeyboardInterrupt):
                answer_again(finished, tmp_path / str(n) / "iteration-0")
        stage = answer_again(finished, tmp_path / str(n) / "iteration-0")
        assert contents(stage.path) == expected


def test_damaged_measures_are_named_and_deleting_them_helps(finished: RunDir, tmp_path: Path):
    stage = answer_again(finished, tmp_path)
    expected = contents(stage.path)
    file = stage.measures_file("en")
    file.write_bytes(file.read_bytes().replace(b"false", b"true", 1))
    with pytest.raises(ValueError, match=r"en\.jsonl is damaged or foreign .* delete it and run again"):
        answer_again(finished, tmp_path)
    file.unlink()
    answer_again(finished, tmp_path)
    assert contents(stage.path) == expected


def test_other_reference_answers_are_another_stage(finished: RunDir, tmp_path: Path):
    first = {"es": ReferenceAnswers(by_id={"p0": "Una pera."}, by_instruction={})}
    stage = answer_again(finished, tmp_path, references=first)
    rows = read_measures(stage.measures_file("es"))
    assert [row.prompt_id for row in rows if row.chrf is not None] == ["p0", "p0"]
    assert made(stage).counts["languages"]["es"]["measures"]["chrf"]["n_answers"] == 2
    assert answer_again(finished, tmp_path, references=first) == stage
    other = {"es": ReferenceAnswers(by_id={"p0": "Otra."}, by_instruction={})}
    with pytest.raises(ValueError, match="reference_answers/es was"):
        answer_again(finished, tmp_path, references=other)
