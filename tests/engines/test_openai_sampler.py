"""The endpoint sampler against a real HTTP server that fails in every way, and against a real `vllm serve`."""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.chat_server import Answer, ChatServer, Reply, Request, chat_server, choices, obliging
from tests.support.families import make_family

from crossward.core.records import FollowUp, Prompt
from crossward.core.seeds import derive_seed
from crossward.engines import endpoint
from crossward.engines.endpoint import Endpoint
from crossward.engines.hf_sampler import HfSampler
from crossward.engines.openai_sampler import OpenAiSampler
from crossward.engines.protocols import ModelSpec, Sampling
from crossward.engines.tokens import ChatTokens, load_tokens
from crossward.store.answers import Answers

SAMPLING = Sampling(n=3, temperature=0.9, top_p=0.95, max_new_tokens=12, seed=42)
KEY = "sk-secret-123"


@pytest.fixture(autouse=True)
def straight_to_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("CROSSWARD_TEST_KEY", KEY)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    folder = make_family("chatml", tmp_path_factory.mktemp("chatml"), head_size=32)
    return ModelSpec(path=str(folder), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def tokens(spec: ModelSpec) -> ChatTokens:
    return load_tokens(spec)


def prompts_of(*instructions: str) -> list[Prompt]:
    return [
        Prompt(id=f"p{index}", language="es", instruction=text, english_instruction="Say")
        for index, text in enumerate(instructions)
    ]


PROMPTS = prompts_of("Di Manzana.", "Hola", "the thing")


def endpoint_at(server: ChatServer, **changes: Any) -> Endpoint:
    return replace(Endpoint(base_url=server.base_url, model="served", attempts=3, first_pause_s=0.01), **changes)


def at_first(reply: Reply, then: Answer = obliging, *, times: int = 1) -> Answer:
    return lambda request, before: reply if before < times else then(request, before)


def test_every_prompt_is_asked_with_its_own_seed_and_the_runs_settings():
    seen: list[int] = []
    with chat_server() as server:
        sampler = OpenAiSampler(endpoint_at(server, api_key_env="CROSSWARD_TEST_KEY"), None)
        sampled = sampler.sample(PROMPTS, SAMPLING, advance=seen.append)
        again = sampler.sample(PROMPTS[::-1], SAMPLING)
    assert again == sampled[::-1]
    assert sum(seen) == 9
    assert [group.prompt for group in sampled] == PROMPTS
    seeds = {p.instruction: derive_seed(42, "es", p.id, 0, 0) % 2**31 for p in PROMPTS}
    for group in sampled:
        asked = group.prompt.instruction
        assert [r.text for r in group.responses] == [f"{asked} {seeds[asked]} {index}" for index in range(3)]
        assert all((r.token_ids, r.finish_reason) == (None, "stop") for r in group.responses)
    for request in server.requests:
        expected = {"model": "served", "n": 3, "temperature": 0.9, "top_p": 0.95, "max_tokens": 12}
        assert expected.items() <= request.items()
        assert request["path"] == "/v1/chat/completions"
        assert "return_token_ids" not in request
    assert set(server.authorizations) == {f"Bearer {KEY}"}


def test_no_more_requests_at_once_than_allowed():
    def slow(request: Request, before: int) -> Reply:
        return replace(obliging(request, before), delay_s=0.05)

    with chat_server(slow) as server:
        OpenAiSampler(endpoint_at(server, concurrency=4), None).sample(prompts_of(*"abcdefghijkl"), SAMPLING)
    assert server.busiest == 4


def test_fewer_choices_than_asked_for_are_topped_up_with_other_seeds():
    with chat_server(lambda request, before: choices(f"one {request['seed']}")) as server:
        (group,) = OpenAiSampler(endpoint_at(server), None).sample(PROMPTS[:1], SAMPLING)
    assert len({response.text for response in group.responses}) == 3
    assert [request["n"] for request in server.requests] == [3, 2, 1]
    with chat_server(lambda request, before: choices(*"abcdef")) as server:
        (group,) = OpenAiSampler(endpoint_at(server), None).sample(PROMPTS[:1], SAMPLING)
    assert [response.text for response in group.responses] == ["a", "b", "c"]


def test_choices_that_a_filter_cut_are_drawn_again():
    def filtering(request: Request, before: int) -> Reply:
        reply = choices("good", "bad", "cut")
        if before == 0:
            reply.body["choices"][1]["finish_reason"] = "content_filter"
            reply.body["choices"][2]["finish_reason"] = "length"
        return reply

    with chat_server(filtering) as server:
        (group,) = OpenAiSampler(endpoint_at(server), None).sample(PROMPTS[:1], SAMPLING)
    assert [(r.text, r.finish_reason) for r in group.responses] == [
        ("good", "stop"),
        ("cut", "length"),
        ("good", "stop"),
    ]


PASSING = {
    "busy": Reply(status=429, body={"error": {"message": "slow down"}}),
    "down": Reply(status=503, body="<html><h1>Service Unavailable</h1></html>"),
    "gone": Reply(drop=True),
    "slow": Reply(body={}, delay_s=0.6),
    "html": Reply(body="<html>Sign in</html>"),
    "no choices": Reply(body={"choices": []}),
    "an error with status 200": Reply(body={"error": {"message": "overloaded"}}),
    "a list": Reply(body=[1, 2]),
    "choices of nothing": Reply(body={"choices": [None, {"message": None}]}),
    "no text": choices(None),
    "content filter": choices("I", reason="content_filter"),
    "tool call": choices(None, reason="tool_calls"),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_is_tried_again_and_then_stops_with_a_sentence(name: str):
    reply = PASSING[name]
    with chat_server(at_first(reply, times=2)) as server:
        endpoint = endpoint_at(server, timeout_s=0.3)
        (group,) = OpenAiSampler(endpoint, None).sample(PROMPTS[:1], SAMPLING)
        assert len(group.responses) == 3
        assert len(server.requests) == 3
    with chat_server(lambda request, before: reply) as server:
        sampler = OpenAiSampler(endpoint_at(server, timeout_s=0.3), None)
        with pytest.raises(
            ValueError, match=r"no usable answer to prompt 'p0' \(es\) in 3 requests; the last: "
        ) as error:
            sampler.sample(PROMPTS[:1], SAMPLING)
    assert "run the same command again" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_server_that_is_not_there_is_named():
    with chat_server() as server:
        pass
    with pytest.raises(ValueError, match=rf"{server.base_url}/chat/completions gave no usable answer .*Connect"):
        OpenAiSampler(endpoint_at(server), None).sample(PROMPTS, SAMPLING)


def test_retry_after_is_honoured(monkeypatch: pytest.MonkeyPatch):
    busy = Reply(status=429, body={}, headers={"retry-after": "0.4"})
    with chat_server(at_first(busy)) as server:
        started = time.monotonic()
        OpenAiSampler(endpoint_at(server), None).sample(PROMPTS[:1], SAMPLING)
        assert time.monotonic() - started >= 0.4


def test_a_refusal_stops_at_once_and_never_shows_the_key():
    refusal = Reply(status=401, body={"error": {"message": f"Incorrect API key provided: {KEY}"}})
    with chat_server(lambda request, before: refusal) as server:
        sampler = OpenAiSampler(endpoint_at(server, api_key_env="CROSSWARD_TEST_KEY"), None)
        with pytest.raises(ValueError, match=r"HTTP 401: .*Incorrect API key") as error:
            sampler.sample(PROMPTS[:1], SAMPLING)
        assert KEY not in str(error.value)
        assert KEY not in repr(sampler)
        assert len(server.requests) == 1


def test_failed_requests_are_told_but_not_each_of_them(monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    with chat_server(at_first(Reply(status=503, body="down for a while"), times=2)) as server:
        OpenAiSampler(endpoint_at(server), None, say=said.append).sample(PROMPTS, SAMPLING)
    assert len(said) == 1
    assert re.fullmatch(
        rf"{server.base_url}/chat/completions, prompt 'p\d' \(es\): HTTP 503: down for a while; request 1 of 3, "
        r"asking again in 0 s",
        said[0],
    )
    monkeypatch.setattr(endpoint, "TELL_EVERY_S", 0.0)
    with chat_server(at_first(Reply(status=503, body="down"), times=2)) as server:
        OpenAiSampler(endpoint_at(server), None, say=said.append).sample(PROMPTS[:1], SAMPLING)
    assert [line.split("; ")[1].split(",")[0] for line in said[1:]] == ["request 1 of 3", "request 2 of 3"]


def test_finished_prompts_outlive_the_server_and_are_not_asked_for_again(tmp_path: Path):
    prompts = prompts_of(*"abcdefgh")
    answers_left = [5]

    def dying(request: Request, before: int) -> Reply:
        answers_left[0] -= 1
        return obliging(request, before) if answers_left[0] >= 0 else Reply(status=503, body="down")

    def sampler() -> OpenAiSampler:
        return OpenAiSampler(
            endpoint_at(server, attempts=2, concurrency=1), None, kept=Answers(tmp_path / "out.answers")
        )

    with chat_server(dying) as server:
        with pytest.raises(ValueError, match="finished prompts are kept: run the same"):
            sampler().sample(prompts, SAMPLING)
        answers_left[0], asked = 100, len(server.requests)
        seen: list[int] = []
        again = sampler()
        sampled = again.sample(prompts, SAMPLING, advance=seen.append)
        again.close()
        assert len(server.requests) - asked == 3
        assert sum(seen) == 24
        assert sampled == OpenAiSampler(endpoint_at(server), None).sample(prompts, SAMPLING)
        asked = len(server.requests)
        sampler().sample(prompts, replace(SAMPLING, temperature=0.8))  # another question
        sampler().sample([replace(prompts[0], instruction="z")], SAMPLING)
        assert len(server.requests) - asked == 9


def test_one_prompt_that_fails_stops_the_others():
    def picky(request: Request, before: int) -> Reply:
        return Reply(status=400, body="bad") if request["messages"][0]["content"] == "Hola" else obliging(request, 0)

    with chat_server(picky) as server, pytest.raises(ValueError, match=r"prompt 'p1' \(es\) with HTTP 400"):
        OpenAiSampler(endpoint_at(server), None).sample(PROMPTS, SAMPLING)


def test_token_ids_are_kept_and_the_prompts_checked(tokens: ChatTokens):
    end = tokens.end_of_turn_id

    def with_ids(request: Request, before: int) -> Reply:
        assert request["return_token_ids"] is True
        assert request["stop_token_ids"] == sorted(tokens.stop_ids)
        reply = choices("?", "?", token_ids=[80, 81, end])
        reply.body["choices"][1] |= {"token_ids": [80, 81], "finish_reason": "length"}
        ids = list(tokens.prompt_ids(request["messages"][0]["content"]))
        return replace(reply, body=reply.body | {"prompt_token_ids": ids})

    with chat_server(with_ids) as server:
        (group,) = OpenAiSampler(endpoint_at(server), tokens).sample(PROMPTS[:1], replace(SAMPLING, n=2))
    assert [(r.token_ids, r.finish_reason) for r in group.responses] == [((80, 81, end), "stop"), ((80, 81), "length")]
    assert all(response.text == tokens.decode([80, 81]) for response in group.responses)

    def other_template(request: Request, before: int) -> Reply:
        reply = with_ids(request, before)
        return replace(reply, body=reply.body | {"prompt_token_ids": [1, *reply.body["prompt_token_ids"]]})

    with (
        chat_server(other_template) as server,
        pytest.raises(ValueError, match=r"prompt 'p0' .* other tokens .* template"),
    ):
        OpenAiSampler(endpoint_at(server), tokens).sample(PROMPTS[:1], SAMPLING)

    def other_end(request: Request, before: int) -> Reply:
        return choices("?", token_ids=[80, 81])

    with chat_server(other_end) as server, pytest.raises(ValueError, match="which ends no turn"):
        OpenAiSampler(endpoint_at(server), tokens).sample(PROMPTS[:1], SAMPLING)


def test_a_follow_up_is_asked_with_what_was_said_before(tokens: ChatTokens, tmp_path: Path):
    def with_prompt_ids(request: Request, before: int) -> Reply:
        said = [message["content"] for message in request["messages"]]
        reply = obliging(request, before)
        return replace(reply, body=reply.body | {"prompt_token_ids": list(tokens.conversation_ids(said))})

    one, other = (
        FollowUp(id="p0", language="es", instruction="Ya", english_instruction="Now", earlier=("Di", answer))
        for answer in ("Sol", "Mar")
    )
    with chat_server(with_prompt_ids) as server:
        for follow_up in (one, other, one):
            sampler = OpenAiSampler(endpoint_at(server), tokens, kept=Answers(tmp_path / "answers"))
            assert [group.prompt for group in sampler.sample([follow_up], SAMPLING)] == [follow_up]
            sampler.close()
    assert [request["messages"] for request in server.requests] == [
        [
            {"role": "user", "content": "Di"},
            {"role": "assistant", "content": answer},
            {"role": "user", "content": "Ya"},
        ]
        for answer in ("Sol", "Mar")
    ]


def test_what_was_kept_before_there_were_conversations_is_still_found():
    with chat_server() as server:
        sampler = OpenAiSampler(endpoint_at(server), None)
        asked = [sampler._chat.url, "served", "es", "p0", "Di Manzana.", asdict(SAMPLING), None]
        assert (
            sampler._key_of(PROMPTS[0], SAMPLING)
            == hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        )


def test_a_server_that_knows_no_token_ids_is_asked_without(tokens: ChatTokens):
    def strict(request: Request, before: int) -> Reply:
        if "return_token_ids" in request:
            return Reply(status=400, body={"error": {"message": "Unrecognized request argument: return_token_ids"}})
        return obliging(request, before)

    with chat_server(strict) as server:
        sampled = OpenAiSampler(endpoint_at(server), tokens).sample(PROMPTS, SAMPLING)
    assert all(response.token_ids is None for group in sampled for response in group.responses)


def test_too_long_is_refused_before_anything_is_asked(tokens: ChatTokens):
    with chat_server() as server:
        with pytest.raises(ValueError, match=r"prompt 'p0' \(es\) is too long for served"):
            OpenAiSampler(endpoint_at(server), tokens, limit=20).sample(PROMPTS, SAMPLING)
        assert not server.requests


@pytest.mark.parametrize("ids", [["a"], [None, 1], [10**30], [-5], [99999], [True]])
def test_token_ids_that_are_none_are_asked_for_again_and_then_stop(tokens: ChatTokens, ids: list[Any]):
    with (
        chat_server(lambda request, before: choices("Hola", token_ids=ids)) as server,
        pytest.raises(ValueError, match="gave no usable answer to prompt 'p0'"),
    ):
        OpenAiSampler(endpoint_at(server), tokens).sample(PROMPTS[:1], SAMPLING)
    assert len(server.requests) == 3


def test_half_a_surrogate_pair_and_bottomless_json_are_no_answers():
    deep = Reply(body="[" * 100_000)
    for reply in (choices("\ud800x"), deep):
        with (
            chat_server(lambda request, before, reply=reply: reply) as server,
            pytest.raises(ValueError, match="gave no usable answer to prompt 'p0'"),
        ):
            OpenAiSampler(endpoint_at(server), None).sample(PROMPTS[:1], SAMPLING)


@pytest.fixture
def served(spec: ModelSpec, tmp_path: Path) -> Iterator[str]:
    """The address of a real vLLM server of `spec`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server",
        "--model", spec.path, "--served-model-name", "served",
        "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager",
        "--kv-cache-memory-bytes", str(2**27), "--no-enable-chunked-prefill", "--generation-config", "vllm",
    ]  # fmt: skip
    settings = {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=os.environ | settings, stdout=log, stderr=log, start_new_session=True, cwd=tmp_path
        )
    try:
        for _ in range(1200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (tmp_path / "server.log").read_text()[-3000:]
            time.sleep(0.25)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
        with suppress(ProcessLookupError):  # what it left behind, if anything
            os.killpg(process.pid, signal.SIGKILL)


def test_a_real_server_gives_the_checkpoints_own_tokens(spec: ModelSpec, tokens: ChatTokens, served: str):
    endpoint = Endpoint(base_url=served, model="served", first_pause_s=0.2)
    sampler = OpenAiSampler(endpoint, tokens, limit=512)
    greedy = Sampling(n=1, temperature=0.0, top_p=1.0, max_new_tokens=16, seed=0)
    assert sampler.sample(PROMPTS, greedy) == HfSampler(spec, tokens).sample(PROMPTS, greedy)
    whole = sampler.sample(PROMPTS, SAMPLING)
    assert all(response.token_ids for group in whole for response in group.responses)
    assert len({response.token_ids for group in whole for response in group.responses}) == 9
    assert sampler.sample(PROMPTS[1:2], SAMPLING) == whole[1:2]
    with pytest.raises(ValueError, match=r"HTTP 404: .*check the address, the model's name \(other\)"):
        OpenAiSampler(replace(endpoint, model="other"), tokens).sample(PROMPTS, SAMPLING)
