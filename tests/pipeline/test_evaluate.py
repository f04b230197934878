"""`crossward evaluate` on files, against a real HTTP server: joins, verdicts, both orders, a kill, what it refuses."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.chat_server import ChatServer, Reply, Request, chat_server
from tests.support.command import Called, call
from tests.support.judge_server import fair, named, p_second

from crossward.core.judging import Comparison, model_shown_first, parse_template
from crossward.pipeline.judges import read_template
from crossward.store.verdict_file import read_verdicts

N = 40


@pytest.fixture(autouse=True)
def straight_to_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def outputs(model: str, language: str, n: int = N, **more: Any) -> list[dict[str, Any]]:
    return [
        {"id": i, "instruction": f"{language} {i}", "output": f"{model} says {i} " * (1 + i % 3), "generator": model}
        | more
        for i in range(n)
    ]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for model in ("one", "two", "base"):
        for language in ("es", "sw"):
            rows = outputs(model, language)
            write(tmp_path / f"{model}.{language}.json", rows if model == "one" else rows[::-1])
    return tmp_path


Run = Callable[..., Called]


@pytest.fixture
def crossward(capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda *arguments: call(capsys, *arguments)


def told(done: Called) -> str:
    """What was said, in one line however it was wrapped."""
    return " ".join(done.err.split())


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def words(folder: Path, server: ChatServer | None, *more: str, output: str = "out") -> list[str]:
    address = server.base_url if server else "http://127.0.0.1:9/v1"
    return [
        "evaluate", "--answers", f"{folder}/one.{{language}}.json", "--answers", f"{folder}/two.{{language}}.json",
        "--baseline", f"{folder}/base.{{language}}.json", "--language", "es", "--language", "sw",
        "--judge-base-url", address, "--judge-model", "judge", "--output", str(folder / output),
        "--resamples", "20", "--concurrency", "8", *more,
    ]  # fmt: skip


def preference(language: str, i: int, model: str, *, model_first: bool | None = None) -> float:
    """What the server's judge thinks, asked as the template asks."""
    rows = {m: outputs(m, language)[i] for m in (model, "base")}
    comparison = Comparison(
        id=str(i), language=language, instruction=rows["base"]["instruction"], model=model, baseline="base",
        model_answer=rows[model]["output"], baseline_answer=rows["base"]["output"],
    )  # fmt: skip
    first = model_shown_first(comparison.instruction, 0) if model_first is None else model_first
    p = p_second(read_template(None).render(comparison, model_first=first)[-1]["content"])
    return 1 - p if first else p


def test_verdicts_rates_annotations_and_the_way_back(files: Path, crossward: Run):
    with chat_server(fair) as server:
        done = crossward(*words(files, server, "--json"))
        assert done.code == 0, done.err
        assert len(server.requests) == 4 * N
        summary = json.loads(done.out)
        verdicts = read_verdicts(files / "out" / "verdicts.jsonl")
        assert len(verdicts) == 4 * N
        for verdict in verdicts:
            expected = preference(verdict.language, int(verdict.id), verdict.model)
            assert verdict.preference == pytest.approx(expected)
            assert verdict.model_length == len(f"{verdict.model} says {verdict.id} " * (1 + int(verdict.id) % 3))
        assert {(rate["language"], rate["model"], rate["n_judged"]) for rate in summary["rates"]} == {
            (language, model, N) for language in ("es", "sw") for model in ("one", "two")
        }
        mean = 100 * sum(preference("es", i, "one") for i in range(N)) / N
        assert summary["rates"][0]["win_rate"] == pytest.approx(mean)
        assert summary["rates"][0]["lc_variant"] == "joint"
        assert {apart["language"] for apart in summary["differences"]} == {"es", "sw", "average"}
        assert summary["spent"]["answers"] == 4 * N
        # alpaca_eval's form, there and back
        annotations = files / "out" / "annotations" / "one.es.json"
        again = read_verdicts(annotations, language="es")
        mine = [v for v in verdicts if (v.language, v.model) == ("es", "one")]
        assert [v.preference for v in again] == pytest.approx([v.preference for v in mine])
        assert [replace(v, preference=None) for v in again] == [replace(v, preference=None) for v in mine]
        first = json.loads(annotations.read_text())[0]
        assert (first["generator_1"], first["generator_2"], first["annotator"]) == ("base", "one", "judge")
        # again: nothing is asked, the same is said
        more = crossward(*words(files, server, "--json"))
        assert len(server.requests) == 4 * N
        assert json.loads(more.out)["rates"] == summary["rates"]


def test_both_orders_are_averaged_and_their_disagreement_told(files: Path, crossward: Run):
    with chat_server(fair) as server:
        done = crossward(*words(files, server, "--json", "--order", "both"))
        assert len(server.requests) == 8 * N
    (row, *_) = json.loads(done.out)["judge"]
    both = [[preference("es", i, "one", model_first=first) for first in (False, True)] for i in range(N)]
    verdicts = [v for v in read_verdicts(files / "out" / "verdicts.jsonl") if (v.language, v.model) == ("es", "one")]
    assert [v.preference for v in verdicts] == [pytest.approx(sum(pair) / 2) for pair in both]
    apart = sum((a - 0.5) * (b - 0.5) < 0 for a, b in both)
    assert row["orders_disagreed"] == pytest.approx(apart / N, abs=1e-4)


def test_one_order_alone_is_no_verdict(files: Path, crossward: Run):
    """Either order alone would carry the judge's bias of position into the mean."""

    def deaf(request: Request, before: int) -> Reply:
        text = request["messages"][-1]["content"]
        first = "es 7\n" in text and text.index("says") < text.index("base says") + 3
        return named(request, text="Neither", logprobs=False) if first else named(request)

    with chat_server(deaf) as server:
        done = crossward(*words(files, server, "--json", "--order", "both"))
    nulls = {(rate["language"], rate["model"]): rate["n_null"] for rate in json.loads(done.out)["rates"]}
    assert nulls == {("es", "one"): 1, ("es", "two"): 1, ("sw", "one"): 0, ("sw", "two"): 0}


def test_the_judges_bias_of_position_is_told(files: Path, crossward: Run):
    def always_first(request: Request, before: int) -> Reply:
        return Reply(
            body={"choices": [{"message": {"content": "m"}, "logprobs": {"content": [{"top_logprobs": [
                {"token": "m", "logprob": -0.1}, {"token": "M", "logprob": -3.0}]}]}}]}
        )  # fmt: skip

    with chat_server(always_first) as server:
        done = crossward(*words(files, server, "--json"))
    assert {row["first_shown_preferred"] for row in json.loads(done.out)["judge"]} == {1.0}
    assert json.loads(done.out)["judge"][0]["named_mass"] == pytest.approx(0.9546, abs=1e-4)  # e^-0.1 + e^-3
    assert "one (es): the judge prefers the answer shown first in 100% of questions" in told(done)


def test_a_language_without_verdicts_does_not_take_the_others_with_it(files: Path, crossward: Run):
    def deaf_in_spanish(request: Request, before: int) -> Reply:
        spanish = "\nes " in request["messages"][-1]["content"]
        return Reply(status=400, body={"error": "too long"}) if spanish else named(request)

    with chat_server(deaf_in_spanish) as server:
        done = crossward(*words(files, server, "--json"))
    found = json.loads(done.out)
    assert {(rate["language"], rate["lc_variant"]) for rate in found["rates"]} == {("sw", "joint")}
    assert "one (es): all verdicts are null, so it has no win rate" in told(done)
    assert "one (es): 40 of 40 without a verdict, mostly refused:" in told(done)
    assert "joint: fewer than 3 models in sw" in told(done)


def test_equal_questions_are_asked_once(files: Path, crossward: Run):
    for language in ("es", "sw"):
        write(files / f"two.{language}.json", outputs("one", language, generator="two"))
    with chat_server(fair) as server:
        done = crossward(*words(files, server, "--json"))
        assert len(server.requests) == 2 * N
    assert len(read_verdicts(files / "out" / "verdicts.jsonl")) == 4 * N
    assert json.loads(done.out)["spent"]["answers"] == 2 * N


def test_annotations_of_several_languages_are_read_together(files: Path, crossward: Run):
    with chat_server(fair) as server:
        crossward(*words(files, server))
    several = [files / "out" / "annotations" / f"one.{language}.json" for language in ("es", "sw")]
    found = json.loads(crossward("winrate", *several, "--variant", "none", "--json").out)
    assert [(rate["language"], rate["n_judged"]) for rate in found] == [("es", N), ("sw", N)]


def test_equal_answers_are_a_draw_without_a_question(files: Path, crossward: Run):
    write(files / "two.es.json", outputs("base", "es", generator="two"))
    with chat_server(fair) as server:
        done = crossward(*words(files, server, "--json"))
        assert len(server.requests) == 3 * N
    rate = next(r for r in json.loads(done.out)["rates"] if (r["language"], r["model"]) == ("es", "two"))
    assert rate["win_rate"] == pytest.approx(50)


def test_nulls_are_counted_by_reason_and_asked_again(files: Path, crossward: Run):
    sick = [True]

    def partly(request: Request, before: int) -> Reply:
        bad = sick[0] and "es 7\n" in request["messages"][-1]["content"]
        return named(request, logprobs=not bad, text="None of them" if bad else None)

    with chat_server(partly) as server:
        done = crossward(*words(files, server))
        assert done.code == 0
        assert "unreadable 1" in done.out
        assert "instructions without a usable verdict, in no win rate (one es: 1, two es: 1)" in told(done)
        sick[0] = False
        asked = len(server.requests)
        done = crossward(*words(files, server, "--json"))
        assert len(server.requests) - asked == 2
    assert all(rate["n_null"] == 0 for rate in json.loads(done.out)["rates"])


def test_killed_half_way_it_loses_nothing_and_pays_for_nothing_twice(files: Path, crossward: Run):
    def slow(request: Request, before: int) -> Reply:
        time.sleep(0.02)
        return named(request)

    with chat_server(slow) as server:
        journal = files / "out" / "judgements.jsonl"
        process = subprocess.Popen(
            [sys.executable, "-m", "crossward", *words(files, server)], stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        while not journal.exists() or journal.read_bytes().count(b"\n") < N:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = {json.loads(line)["question"] for line in journal.read_text().splitlines() if line.endswith("}")}
        asked = -1
        while asked != len(server.requests):  # what the killed process had sent may still be coming in
            asked = len(server.requests)
            time.sleep(0.2)
        assert N <= len(kept) < 4 * N
        done = crossward(*words(files, server))
        assert done.code == 0
        later = server.requests[asked:]
        assert len(later) == 4 * N - len(kept)
        assert asked - len(kept) <= 8  # what was on its way when it was killed
        crossward(*words(files, server, output="whole"))
    assert (files / "out" / "verdicts.jsonl").read_bytes() == (files / "whole" / "verdicts.jsonl").read_bytes()


def test_an_estimate_asks_nobody(files: Path, crossward: Run):
    done = crossward(*words(files, None, "--estimate", "--json", "--prompt-price", "10"))
    found = json.loads(done.out)
    assert (found["comparisons"], found["questions"]) == (4 * N, 4 * N)
    assert found["cost"] == pytest.approx(10 * found["prompt_tokens"] / 1e6, abs=1e-4)
    assert not (files / "out").exists()


def test_a_budget_stops_with_a_sentence_and_the_next_call_goes_on(files: Path, crossward: Run):
    with chat_server(fair) as server:
        done = crossward(*words(files, server, "--max-tokens", "5000"))
        assert done.code == 2
        assert "which are kept: the budget is spent; the same command goes on there" in told(done)
        assert 0 < len(server.requests) < 4 * N
        done = crossward(*words(files, server))
        assert done.code == 0
        assert len(server.requests) == 4 * N


def missing_row(folder: Path) -> None:
    write(folder / "one.sw.json", outputs("one", "sw")[:-1])


def twice(folder: Path) -> None:
    write(folder / "one.sw.json", outputs("one", "sw") + outputs("one", "sw")[:1])


def itself(folder: Path) -> None:
    write(folder / "one.sw.json", outputs("base", "sw"))


def no_baseline(folder: Path) -> None:
    (folder / "base.sw.json").unlink()


def other_text(folder: Path) -> None:
    write(folder / "one.sw.json", [row | {"instruction": f"x{row['id']}"} for row in outputs("one", "sw")])


def no_name(folder: Path) -> None:
    write(folder / "one.sw.json", [{k: v for k, v in r.items() if k != "generator"} for r in outputs("one", "sw")])


def nothing(folder: Path) -> None:
    """Files as they are."""


@pytest.mark.parametrize(
    ("spoil", "more", "sentence"),
    [
        (missing_row, [], "over different instructions: 1 are only in .*base.sw.json, first '39'"),
        (twice, [], "id '0' stands on .* too: keep one answer"),
        (itself, [], "'base' would be judged against itself"),
        (no_baseline, [], "base.sw.json does not exist: .* has none for the language 'sw'"),
        (other_text, [], "id '0' names another instruction in"),
        (no_name, [], "one.sw.json names no generator: name the model with --name"),
        (nothing, ["--name", "a"], "--name is given 1 times for 2 files"),
        (nothing, ["--name", "a", "--name", "a"], "two files of answers are named 'a'"),
        (nothing, ["--judge-api-key-env", "CROSSWARD_NO_KEY"], "CROSSWARD_NO_KEY holds no key"),
        (nothing, ["--language", "es"], "each language may be named once, got es, sw, es"),
        (nothing, ["--template", "nowhere.txt"], "template nowhere.txt cannot be read"),
        (nothing, ["--language", "xx"], "unknown language code 'xx'"),
        (nothing, ["--max-cost", "1"], "a limit in money needs prices"),
        (nothing, ["--difficulty", "d.csv"], "belong to the variant published"),
        (nothing, ["--judge-checkpoint", "m"], "name one judge"),
    ],
)
def test_what_is_refused_before_anything_is_paid(
    files: Path, spoil: Any, more: list[str], sentence: str, crossward: Run
):
    spoil(files)
    done = crossward(*words(files, None, *more))
    assert done.code == 2
    assert re.search(sentence, told(done)), done.err
    assert "Traceback" not in done.err
    assert not (files / "out" / "judgements.jsonl").exists()


def test_missing_answers_may_be_left_out_and_are_counted(files: Path, crossward: Run):
    missing_row(files)
    with chat_server(fair) as server:
        done = crossward(*words(files, server, "--allow-missing", "--json"))
    assert "one (sw): 1 instructions are in one file only and are left out" in told(done)
    rates = json.loads(done.out)["rates"]
    assert {rate["n_judged"] for rate in rates if (rate["model"], rate["language"]) == ("one", "sw")} == {N - 1}


def test_few_verdicts_give_raw_rates_and_say_so(files: Path, crossward: Run):
    for model in ("one", "two", "base"):
        for language in ("es", "sw"):
            write(files / f"{model}.{language}.json", outputs(model, language, 5))
    with chat_server(fair) as server:
        done = crossward(*words(files, server, "--json"))
    assert "one (es): 5 usable verdicts, fewer than 30: its raw win rate alone" in told(done)
    assert {rate["lc_variant"] for rate in json.loads(done.out)["rates"]} == {"none"}


def test_the_packages_own_template_asks_for_both_names_and_the_language():
    (_, system), (_, user) = read_template(None).messages
    assert "{instruction}" in user
    assert "language of the instruction" in user
    assert parse_template("{instruction} {output_1} {output_2}", "t") != read_template(None)
    assert "length" in system


def test_alpaca_evals_own_form_of_template_and_a_template_of_ones_own(files: Path, crossward: Run):
    own = files / "own.txt"
    own.write_text("<|im_start|>user\nWhich? {instruction} A {output_1} B {output_2}\n<|im_end|>\n")
    with chat_server(fair) as server:
        crossward(*words(files, server, "--template", str(own)))
        assert server.requests[0]["messages"][0]["content"].startswith("Which? ")
        asked = len(server.requests)
        crossward(*words(files, server))  # another template is another question
        assert len(server.requests) == 2 * asked
