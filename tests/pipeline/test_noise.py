"""The noise floor of real scorings: nothing in float32, something in bfloat16, and a margin that pairing obeys."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.command import call
from tests.support.families import make_family
from tests.support.recipes import config_of, make_recipe, report_text

from crossward.core.records import Prompt, Response, ResponseLogprob, SampledPrompt, ScoredPrompt, ScoredResponse
from crossward.engines.protocols import Judged, ModelSpec, Work
from crossward.pipeline.iterate import run
from crossward.pipeline.noise import measure_noise, noise_margins, noise_sample
from crossward.pipeline.progress import Silent
from crossward.pipeline.report.tables import cell
from crossward.pipeline.resumable import score_file
from crossward.store import edges, manifest, tables
from crossward.store.noise_file import known_margins, noise_file

TEXT = "la casa del mar tiene una puerta azul y Hola Manzana the thing in winter"
WORDS = TEXT.split()


def groups_of(n: int, language: str = "es") -> list[SampledPrompt]:
    """n prompts with four responses of 5 to 60 words."""
    return [
        SampledPrompt(
            prompt=Prompt(
                id=f"p{i}", language=language, instruction=f"Nombra {i} cosas.", english_instruction=f"Name {i} things."
            ),
            responses=tuple(
                Response(text=" ".join(WORDS[(i + j * (k + 1)) % len(WORDS)] for j in range(5 + 13 * k)))
                for k in range(4)
            ),
        )
        for i in range(n)
    ]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("noise")
    return make_family("llama3", folder / "policy", seed=0), make_family("llama3", folder / "reference", seed=1)


def score_with_noise(folder: Path, models: tuple[Path, Path], dtype: str) -> dict:
    edges.write_groups(folder / "groups.jsonl", groups_of(6))
    policy, reference = (ModelSpec(path=str(path), dtype=dtype, device="cpu") for path in models)  # pyright: ignore
    summary = score_file(
        folder / "groups.jsonl",
        folder / "scored.jsonl",
        policy=policy,
        reference=reference,
        view="crosslingual",
        compatibility="none",
        batch_tokens=2048,
        noise=True,
        progress=Silent(),
    )
    return summary["languages"]["es"]["noise"]


def test_float32_has_no_noise_worth_the_name(tmp_path: Path, models: tuple[Path, Path]):
    noise = score_with_noise(tmp_path, models, "float32")
    assert noise["float32"] is None
    assert noise["rebatched"]["n_responses"] == 24
    assert noise["rebatched"]["largest"] < 1e-3
    assert noise["margin"] < 1e-2
    assert noise["rebatched"]["best_flips"] == noise["rebatched"]["worst_flips"] == 0


def test_bfloat16_has_noise_and_the_pairs_under_it_are_skipped(
    tmp_path: Path, models: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
):
    noise = score_with_noise(tmp_path, models, "bfloat16")
    assert noise["float32"]["sd"] > 1e-3
    assert noise["margin"] == max(noise["float32"]["margin"], noise["rebatched"]["margin"]) > 1e-3
    written = json.loads(noise_file(tmp_path / "scored.jsonl").read_text(encoding="utf-8"))
    assert written == {"view": "crosslingual", "dtype": "bfloat16", "languages": {"es": noise}}
    assert known_margins(tmp_path / "scored.jsonl", view="crosslingual", dtype="bfloat16") == {"es": noise["margin"]}
    assert known_margins(tmp_path / "scored.jsonl", view="multilingual", dtype="bfloat16") == {}

    scored = edges.read_scored(tmp_path / "scored.jsonl")
    spreads = [max(r.log_ratio for r in g.responses) - min(r.log_ratio for r in g.responses) for g in scored]
    margin = sorted(spreads)[2] + 1e-6  # three of six groups lie under it
    written["languages"]["es"]["margin"] = margin
    noise_file(tmp_path / "scored.jsonl").write_text(json.dumps(written), encoding="utf-8")
    called = call(
        capsys, "pair", "--input", tmp_path / "scored.jsonl", "--output", tmp_path / "pairs.jsonl",
        "--length-unit", "none", "--min-margin", "auto", "--json",
    )  # fmt: skip
    assert called.code == 0, called.err
    assert json.loads(called.out)["es"]["skipped"] == {"below-margin": 3}


def test_a_run_pairs_by_its_own_noise_floor_and_reports_it(tmp_path: Path):
    recipe = make_recipe(tmp_path, iterations=1)
    recipe["models"] |= {"dtype": "bfloat16"}
    recipe["pair"] |= {"min_margin": "auto"}
    directory = run(config_of(recipe), progress=Silent())
    here = directory.iteration(1)
    scored, paired = manifest.read(here.stage("score")), manifest.read(here.stage("pair"))
    assert scored is not None
    assert paired is not None
    margins = noise_margins(scored)
    assert paired.settings["min_margin"] == margins
    assert all(margin > 0 for margin in margins.values())
    for language, margin in margins.items():
        for outcome in tables.read_outcomes(here.stage("pair").language_file(language)):
            assert getattr(outcome, "margin", margin) >= margin
    report = report_text(directory)
    floor = scored.counts["languages"]["es"]["noise"]
    flips = sum(floor["float32"][name] for name in ("best_flips", "worst_flips"))
    assert f"| {cell(floor['float32']['sd'])} | {cell(floor['float32']['largest'])} | {flips} of 4 | " in report
    assert "sd, float32" in report
    assert "ρ tokens" in report
    run(config_of(recipe), progress=Silent())  # nothing has changed


class Fake:
    """A scorer whose values are made up: `shift` by response, and a journal of who was open when."""

    def __init__(self, name: str, journal: list[str], shift: float = 0.0) -> None:
        self.work = Work()
        self._name, self._journal, self._shift = name, journal, shift
        journal.append(f"open {name}")

    def score(self, groups: list[Judged], *, per_token: bool = False, advance=lambda n: None) -> list:
        self._journal.append(f"{self._name} {[len(group.responses) for group in groups]}")
        return [
            tuple(
                ResponseLogprob(logprob=float(response.text) + self._shift * (k % 2), n_tokens=1)
                for k, response in enumerate(group.responses)
            )
            for group in groups
        ]

    def close(self) -> None:
        self._journal.append(f"close {self._name}")


def fake_group(id: str, language: str, *values: float) -> ScoredPrompt:
    return ScoredPrompt(
        prompt=Prompt(id=id, language=language, instruction="x", english_instruction="x"),
        view="crosslingual",
        judged_under="x",
        responses=tuple(
            ScoredResponse(response=Response(text=str(v)), policy_logprob=v, reference_logprob=v, n_tokens=1)
            for v in values
        ),
    )


def test_no_two_models_in_float32_are_open_at_once_and_none_beside_the_first():
    journal: list[str] = []
    policy, reference = Fake("policy", journal), Fake("reference", journal)
    found = measure_noise(
        {"es": [fake_group("1", "es", 1.0, 2.0, 3.0)], "fr": [fake_group("1", "fr", 5.0)]},
        policy=policy,
        reference=reference,
        open_exact=(lambda: Fake("policy32", journal, 0.5), lambda: Fake("reference32", journal)),
        progress=Silent(),
        title="test",
    )
    assert journal == [
        "open policy", "open reference",
        "policy [2]", "policy [1]", "policy [1]", "reference [2]", "reference [1]", "reference [1]",
        "close policy", "close reference",
        "open policy32", "policy32 [3, 1]", "close policy32",
        "open reference32", "reference32 [3, 1]", "close reference32",
    ]  # fmt: skip
    # Errors against float32: 0, −0.5, 0; deviations from their mean ⅙, ⅓, ⅙ give w² = (⅓² + 2·⅙²)/2 = 1/12.
    assert found["es"]["float32"]["sd"] == pytest.approx((0.25 / 3) ** 0.5)
    assert found["es"]["margin"] == pytest.approx(3.3145 * (1 / 12) ** 0.5, rel=1e-4)
    assert found["es"]["rebatched"]["sd"] == found["fr"]["margin"] == 0.0


def test_a_files_sample_is_spread_over_its_languages():
    groups = [replace(fake_group(str(i), "es", *range(10)), view="multilingual") for i in range(100)]
    groups += [fake_group(str(i), "fr", 0.0, 1.0) for i in range(30)]
    found = noise_sample(groups, responses=100)
    assert [len(found[language]) for language in ("es", "fr")] == [5, 25]
    assert [group.prompt.id for group in found["es"]] == ["0", "1", "2", "3", "4"]
    assert noise_sample([]) == {}


def test_auto_without_a_floor_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    scored = tmp_path / "scored.jsonl"
    row = {"id": "1", "language": "es", "instruction": "Di.", "log_ratio": [0.0, 1.0], "responses": ["a", "b"]}
    scored.write_text(json.dumps(row) + "\n")
    pair = ("pair", "--input", scored, "--output", tmp_path / "pairs.jsonl")
    for margin, sentence in (
        ("auto", "which does not exist"),
        ("-1", "0 or more, or auto, got '-1'"),
        ("x", "got 'x'"),
    ):
        called = call(capsys, *pair, f"--min-margin={margin}")
        assert (called.code, len(called.err.splitlines())) == (2, 1)
        assert sentence in called.sentence
    noise_file(scored).write_text('{"languages": {"fr": {"margin": 0.5}}}')
    called = call(capsys, *pair, "--min-margin", "auto")
    assert "no noise floor was measured for 'es' (known: fr)" in called.sentence


def test_a_new_scoring_removes_an_older_ones_floor(tmp_path: Path, models: tuple[Path, Path]):
    edges.write_groups(tmp_path / "groups.jsonl", groups_of(1))
    noise_file(tmp_path / "scored.jsonl").write_text("{}")
    policy, reference = (ModelSpec(path=str(path), dtype="float32", device="cpu") for path in models)
    score_file(
        tmp_path / "groups.jsonl",
        tmp_path / "scored.jsonl",
        policy=policy,
        reference=reference,
        view="multilingual",
        compatibility="none",
        batch_tokens=2048,
        progress=Silent(),
    )
    assert not noise_file(tmp_path / "scored.jsonl").exists()
