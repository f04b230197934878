"""What people look at: one prompt's life, and a report whose numbers are the stages' own."""

import math
import re
from pathlib import Path

import pytest
from tests.support.recipes import config_of, make_recipe, report_text

from crossward.core.records import PreferencePair, Skipped
from crossward.pipeline.iterate import run
from crossward.pipeline.progress import Silent
from crossward.pipeline.report.tables import table
from crossward.pipeline.report.write import report_again
from crossward.pipeline.show import lines_of, lives
from crossward.store import manifest, tables
from crossward.store.run_dir import RunDir
from crossward.store.token_file import read_token_terms


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    folder = tmp_path_factory.mktemp("shown")
    return run(config_of(make_recipe(folder, iterations=1)), progress=Silent())


def test_a_life_tells_the_outcome_that_was_stored(finished: RunDir):
    outcomes = tables.read_outcomes(finished.iteration(1).stage("pair").language_file("es"))
    assert {type(outcome) for outcome in outcomes} <= {PreferencePair, Skipped}
    for outcome in outcomes:
        (found,) = lives(finished.root, outcome.prompt.id, "es")
        life = lines_of(found)
        assert life[0] == f"iteration 1 · es · {outcome.prompt.id}"
        if isinstance(outcome, Skipped):
            assert life[-1] == f"no pair: {outcome.reason}"
        else:
            assert life[-1].startswith(f"pair: margin {outcome.margin:.3f} nats at α = ")
            (chosen,) = {line for line in life if line.startswith("chosen")}
            assert repr(outcome.chosen.response.text) in chosen
        shown = [float(line.split(" nats")[0].split()[-1]) for line in life if " nats  " in line]
        assert len(shown) == 4
        assert shown == sorted(shown, reverse=True)


def test_a_prompt_is_shown_in_every_language_or_in_one(finished: RunDir):
    assert [lines_of(life)[0] for life in lives(finished.root, "p1")] == [
        "iteration 1 · en · p1",
        "iteration 1 · es · p1",
    ]
    with pytest.raises(ValueError, match="has no prompt 'p77'"):
        lives(finished.root, "p77")
    with pytest.raises(ValueError, match="is not a run directory"):
        lives(finished.root.parent, "p1")


def test_the_report_holds_the_counts_of_the_stages(finished: RunDir):
    report = report_text(finished)
    sampled = manifest.read(finished.iteration(1).stage("sample"))
    scored = manifest.read(finished.iteration(1).stage("score"))
    paired = manifest.read(finished.iteration(1).stage("pair"))
    assert sampled is not None
    assert scored is not None
    assert paired is not None
    for language in ("en", "es"):
        counts, pairs = sampled.counts["languages"][language], paired.counts["languages"][language]
        empty = scored.counts["languages"][language]["empty"]
        assert f"| {language} | 6 | 24 | {counts['truncated']} | {empty} | 0 | {counts['mean_chars']:.2f} |" in report
        assert re.search(rf"\| {language} \| {pairs['n_pairs']} \| ", report)
    assert "| iteration-1/train | " in report
    assert '"transformers": ' in report
    assert "DPO" in report or "dpo_loss" in report


def test_the_noise_sample_is_kept_token_by_token(finished: RunDir):
    """The terms are those of the sum that the response was ranked by, and their texts are its text."""
    score = finished.iteration(1).stage("score")
    done = manifest.read(score)
    assert done is not None
    for language in ("en", "es"):
        terms = read_token_terms(score.tokens_file(language))
        groups = {group.prompt.id: group for _, _, path in score.shards() for group in tables.stream_scored(path)
                  if group.prompt.language == language}  # fmt: skip
        assert len(terms) == 4 * done.counts["languages"][language]["noise"]["rebatched"]["n_groups"]
        for (id, place), found in terms.items():
            response = groups[id].responses[place]
            assert math.fsum(found.log_ratios) == pytest.approx(response.log_ratio, abs=1e-4)
            assert "".join(found.pieces) == response.response.text
        whole = score.tokens_file(language).read_bytes()
        score.tokens_file(language).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(ValueError, match=re.escape(str(score.tokens_file(language)))):
            manifest.completed(score, done.inputs, done.settings)
        score.tokens_file(language).write_bytes(whole)
    assert manifest.completed(score, done.inputs, done.settings) == done


def test_an_unfinished_run_has_a_report_too(finished: RunDir, tmp_path: Path):
    config = finished.config.read_text(encoding="utf-8")
    (tmp_path / "config.yaml").write_text(config, encoding="utf-8")
    assert "Iteration 1" not in report_again(tmp_path)[0].read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="is not a run directory"):
        report_again(tmp_path / "none")


def test_text_cannot_break_a_table():
    assert table(["a", "b"], [["x|y\nz", 0.001]]) == "| a | b |\n| --- | ---: |\n| x\\|y z | 0.001 |"
