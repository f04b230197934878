"""The judge as a rater: against a real HTTP server that answers in every way, and against weights at hand."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.chat_server import ChatServer, Reply, Request, chat_server, choices
from tests.support.families import MAX_POSITIONS, make_family

from crossward.core.rating import Template, parse_points, rating_template
from crossward.core.records import Prompt, Response
from crossward.core.seeds import derive_seed
from crossward.engines.endpoint import GONE_AFTER, Endpoint, GaveUp, Refused
from crossward.engines.hf_sampler import HfSampler
from crossward.engines.openai_sampler import OpenAiSampler
from crossward.engines.protocols import ModelSpec, ToRate
from crossward.engines.rating_judge import RatingJudge, read_template
from crossward.engines.tokens import load_tokens

TEMPLATE = rating_template("Asked: {instruction}\nAnswered: {response}", "t")


@pytest.fixture(autouse=True)
def straight_to_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def group_of(*texts: str, language: str = "es", instruction: str = "Di algo") -> ToRate:
    prompt = Prompt(id="1", language=language, instruction="Di", english_instruction="Say")
    return ToRate(prompt=prompt, instruction=instruction, responses=tuple(Response(text=text) for text in texts))


def judge_at(server: ChatServer, template: Template = TEMPLATE, *, attempts: int = 2, **changes: Any) -> RatingJudge:
    endpoint = Endpoint(base_url=server.base_url, model="served", attempts=attempts, first_pause_s=0.01, concurrency=4)
    return RatingJudge(OpenAiSampler(endpoint, None), template, name="served", **changes)


def answer_in(request: Request) -> str:
    return request["messages"][0]["content"].rpartition("Answered: ")[2]


def saying(said: Callable[[str], str]) -> Callable[[Request, int], Reply]:
    return lambda request, before: choices(*(said(answer_in(request)) for _ in range(request["n"])))


def test_each_response_gets_its_points_greedily():
    groups = [group_of("uno 1", "dos 2"), group_of("tres 3", "cuatro 4.5", "cero 0", instruction="Di más")]
    seen: list[int] = []
    with chat_server(saying(lambda answer: f"Well.\n**Score:** {answer.split()[1]}/5")) as server:
        judge = judge_at(server)
        assert judge.rate(groups, advance=seen.append) == [(1.0, 2.0), (3.0, 4.5, 0.0)]
        judge.close()
    assert not judge.failures
    assert judge.name == "judge served"
    assert sum(seen) == 5
    assert {request["messages"][0]["content"] for request in server.requests} == {
        f"Asked: {group.instruction}\nAnswered: {response.text}" for group in groups for response in group.responses
    }
    for request in server.requests:
        assert {"temperature": 0.0, "n": 1, "max_tokens": 512}.items() <= request.items()
        assert [message["role"] for message in request["messages"]] == ["user"]


def test_an_answer_without_points_is_none_and_counted_never_0():
    says = {
        "a": "Score: 4",
        "b": "Good.",
        "c": "Score: four",
        "d": "Score: 6",
        "e": "Score: 7/10",
        "f": "",
        "g": "Score: 0",
        "h": "Fine. Score: -2",
    }
    with chat_server(saying(says.__getitem__)) as server:
        judge = judge_at(server)
        assert judge.rate([group_of(*says)]) == [(4.0, None, None, None, None, None, 0.0, None)]
    assert judge.failures == {"no-score": 2, "no-number": 1, "out-of-range": 2, "other-scale": 1}


def test_an_answer_that_was_cut_is_not_read():
    with chat_server(lambda request, before: choices("The form is Score: 5", reason="length")) as server:
        judge = judge_at(server, max_new_tokens=9)
        assert judge.rate([group_of("a")]) == [(None,)]
        assert server.requests[0]["max_tokens"] == 9
    assert judge.failures == {"cut": 1}


def test_draws_are_averaged_over_those_that_can_be_read():
    says = {"a": ["Score: 1", "Score: 2", "Score: 4.5"], "b": ["Score: 3", "none", "Score: 9"], "c": ["x", "y", "z"]}
    seen: list[int] = []
    with chat_server(lambda request, before: choices(*says[answer_in(request)])) as server:
        judge = judge_at(server, draws=3, temperature=0.7, top_p=0.9)
        assert judge.rate([group_of("a", "b", "c")], advance=seen.append) == [(2.5, 3.0, None)]
        assert {"temperature": 0.7, "top_p": 0.9, "n": 3}.items() <= server.requests[0].items()
    assert judge.failures == {"no-score": 1}
    assert judge.left_out == {"no-score": 1, "out-of-range": 1}
    assert sum(seen) == 3
    assert all(step >= 0 for step in seen)


def test_wherever_questions_fail_the_others_are_rated():
    """Random sets of broken answers, no two neighbours in the order in which they are asked."""
    texts = [f"text {k}" for k in range(12)]
    group = group_of(*texts)
    for trial in range(1, 5):
        broken: set[str] = set()

        def answer(request: Request, before: int, broken: set[str] = broken) -> Reply:
            return choices(None) if answer_in(request) in broken else choices("Score: 4")

        with chat_server(answer) as server:
            judge = judge_at(server, attempts=1)
            ordered = sorted(texts, key=lambda text: judge._question(group, Response(text=text)).id)
            broken |= set(random.Random(trial).sample(ordered[trial % 2 :: 2], trial))
            assert judge.rate([group]) == [tuple(None if text in broken else 4.0 for text in texts)]
            assert judge.failures == {"no-answer": trial}


@pytest.mark.parametrize(("draws", "temperature"), [(2, 0.0), (0, 0.0), (0, 1.0)])
def test_draws_that_make_no_sense_are_refused(draws: int, temperature: float):
    with chat_server() as server, pytest.raises(ValueError, match=f"cannot rate with {draws} draws at temperature"):
        judge_at(server, draws=draws, temperature=temperature)


def test_the_same_question_is_asked_once_and_its_seed_depends_on_nothing_else():
    def seeds(groups: list[ToRate]) -> tuple[Any, dict[str, int]]:
        def by_seed(request: Request, before: int) -> Reply:
            return choices(f"Score: {request['seed'] % 50 / 10}")

        with chat_server(by_seed) as server:
            rated = judge_at(server, draws=1, temperature=1.0).rate(groups)
        assert len(server.requests) == len({request["messages"][0]["content"] for request in server.requests})
        return rated, {request["messages"][0]["content"]: request["seed"] for request in server.requests}

    groups = [group_of("a", "b", "a"), group_of("b", "c"), group_of("a", instruction="Di más")]
    rated, first = seeds(groups)
    turned, second = seeds([replace(group, responses=group.responses[::-1]) for group in groups[::-1]])
    assert len(first) == 4
    assert len(set(first.values())) == 4
    assert first == second
    assert rated == [row[::-1] for row in turned[::-1]]
    assert rated[0][0] == rated[0][2]
    assert rated[0][1] == rated[1][0]


def test_failures_of_a_question_asked_once_are_counted_for_each_response():
    with chat_server(saying(lambda answer: "no")) as server:
        judge = judge_at(server)
        assert judge.rate([group_of("a", "a"), group_of("a")]) == [(None, None), (None,)]
        assert len(server.requests) == 1
    assert judge.failures == {"no-score": 3}


def test_a_refused_or_unanswered_question_stops_none_of_the_others():
    def picky(request: Request, before: int) -> Reply:
        match answer_in(request):
            case "long":
                return Reply(status=400, body={"error": "maximum context length is 4096 tokens"})
            case "odd":
                return choices(None, reason="content_filter")
        return choices("Score: 4")

    texts = [f"text {k}" for k in range(20)]
    seen: list[int] = []
    with chat_server(picky) as server:
        judge = judge_at(server)
        (row,) = judge.rate([group_of("long", *texts[:10], "odd", *texts[10:])], advance=seen.append)
    assert row == (None, *[4.0] * 10, None, *[4.0] * 10)
    assert judge.failures == {"refused": 1, "no-answer": 1}
    assert sum(seen) == 22


def test_more_filtered_questions_than_a_gone_server_takes_are_counted_and_the_server_is_not_called_gone():
    """One in five, more than GONE_AFTER; then a window that has nothing else."""
    texts = [f"text {k}" for k in range(5 * (GONE_AFTER + 2))]
    filtered = set(texts[::5])

    def filtering(request: Request, before: int) -> Reply:
        odd = answer_in(request) in filtered
        return choices(None, reason="content_filter") if odd else choices("Score: 4")

    with chat_server(filtering) as server:
        judge = judge_at(server, attempts=6)
        assert judge.rate([group_of(*texts)]) == [tuple(None if text in filtered else 4.0 for text in texts)]
        assert len(server.requests) == len(texts) + 2 * len(filtered)  # each filtered one three times, no other twice
        alone = judge_at(server, attempts=6)
        assert alone.rate([group_of(*filtered)]) == [(None,) * len(filtered)]
    assert judge.failures == alone.failures == {"no-answer": len(filtered)}


def test_a_server_that_refuses_all_or_is_gone_is_told():
    group = group_of(*(f"text {k}" for k in range(16)))
    with (
        chat_server(lambda request, before: Reply(status=400, body="no")) as server,
        pytest.raises(Refused, match="refuses the request for prompt"),
    ):
        judge_at(server).rate([group])
    with chat_server(lambda request, before: Reply(drop=True)) as server:
        with pytest.raises(GaveUp, match="gave no usable answer"):
            judge_at(server, attempts=1).rate([group])
        assert len(server.requests) <= 4 + GONE_AFTER  # so many in a row, and what was on its way
    with chat_server(lambda request, before: Reply(status=404, body="no such model")) as server:
        with pytest.raises(ValueError, match="HTTP 404"):
            judge_at(server).rate([group])
        assert len(server.requests) <= 4


def test_braces_and_scores_in_a_response_are_only_shown():
    odd = "{instruction} {0} Score: 5"
    with chat_server(lambda request, before: choices("Score: 1")) as server:
        assert judge_at(server).rate([group_of(odd, instruction="Di {response}")]) == [(1.0,)]
        assert server.requests[0]["messages"][0]["content"] == f"Asked: Di {{response}}\nAnswered: {odd}"


def test_weights_at_hand_say_the_same_in_any_company_and_what_is_too_long_is_counted(tmp_path: Path):
    """Random weights say nothing that can be read, so what they said is compared, not the points."""
    spec = ModelSpec(path=str(make_family("chatml", tmp_path)), dtype="float32", device="cpu")
    tokens = load_tokens(spec)
    judge = RatingJudge(
        HfSampler(spec, tokens),
        TEMPLATE,
        name="random",
        max_new_tokens=8,
        temperature=1.0,
        tokens=tokens,
        limit=MAX_POSITIONS,
    )

    def said(group: ToRate) -> dict[str, Response]:
        questions = [judge._question(group, response) for response in group.responses]
        sampled = judge._sampler.sample(questions, judge._sampling)
        return {group.prompt.id: group.responses[0] for group in sampled}

    good, long = group_of("Hola", "the thing"), group_of("z" * (MAX_POSITIONS - 20), "a")
    assert judge.rate([good, long]) == [(None, None), (None, None)]
    assert judge.failures == {"too-long": 1, "cut": 3}
    together = said(good)
    assert len(together) == 2
    assert said(group_of("the thing")).items() <= together.items()
    judge.close()


def test_the_packages_own_template_is_whole_and_names_the_form_that_is_read():
    template = read_template()
    filled = template.fill(instruction="Di {x}", response="Hola")
    assert "<asked>\nDi {x}\n</asked>" in filled
    assert "<answer>\nHola\n</answer>" in filled
    assert filled.endswith("Score: <total>")
    assert parse_points(filled) == "no-number"  # a judge that repeats the form gives no points


def test_a_template_of_the_users(tmp_path: Path):
    path = tmp_path / "mine.txt"
    path.write_text("Rate {response} for {instruction}\n", encoding="utf-8")
    assert read_template(path).fill(instruction="i", response="r") == "Rate r for i"
    path.write_text("Rate {response}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"template .*mine\.txt lacks the placeholder \{instruction\}"):
        read_template(path)
    path.write_bytes(b"\xff{response}{instruction}")
    with pytest.raises(ValueError, match=r"mine\.txt cannot be read as a UTF-8 text file"):
        read_template(path)
    with pytest.raises(ValueError, match=r"none\.txt cannot be read"):
        read_template(tmp_path / "none.txt")


def test_seeds_are_those_of_the_sampler():
    """The question's name is a hash of language and words; the draw's seed is the sampler's own, made of that."""
    with chat_server(lambda request, before: choices("Score: 1")) as server:
        judge = judge_at(server, seed=7)
        group = group_of("a")
        judge.rate([group])
        question = judge._question(group, group.responses[0])
        assert server.requests[0]["seed"] == derive_seed(7, "es", question.id, 0, 0) % 2**31
    assert judge._question(replace(group, prompt=replace(group.prompt, language="sw")), group.responses[0]) != question
