"""What servers answer, what checkpoints hold, and whole runs that somebody sent: the readers, and valid examples.

Replies go through the real client, over a transport that hands the bytes over instead of a network.
"""

import asyncio
import gzip
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.fuzz_files import Target, json_of, lines_of, of_file

from crossward.core.judging import Question
from crossward.core.mt_bench import parse_rating
from crossward.core.rating import parse_points
from crossward.core.records import Prompt
from crossward.core.spending import Budget, Spending
from crossward.core.translation import read_answer
from crossward.engines.endpoint import Again, ChatEndpoint, Endpoint, wait_asked
from crossward.engines.judgement_rows import answer_of
from crossward.store.json_lines import encode_row
from crossward.store.keyed_lines import KeyedLines

URL = "http://stranger.test/v1"
_ENDPOINT = Endpoint(base_url=URL, model="m", concurrency=1, attempts=1)


class _Kept:
    """protocols.KeptRows that keeps nothing, and finds out whether a row can be written down."""

    def get(self, key: str) -> dict[str, Any] | None:
        return None

    def put(self, key: str, row: dict[str, Any]) -> None:
        encode_row(row, where=URL)


class _Wire:
    """The project's own connections, whose transport gives one reply to every request."""

    def __init__(self) -> None:
        import httpx

        self._loop = asyncio.new_event_loop()
        self.reply = b""
        self._connections = ChatEndpoint(_ENDPOINT).client()
        self._connections._clients = [httpx.AsyncClient(transport=httpx.MockTransport(self._respond))]
        self._connections._free = list(self._connections._clients)

    def _respond(self, request: Any) -> Any:
        """The first byte chooses the status or the coding, where it is not JSON's."""
        import httpx

        chosen = self.reply[:1].decode("latin-1")
        status = {"4": 400, "5": 503, "9": 429, "0": 404}.get(chosen)
        coding = {"z": "gzip", "Z": "gzip, gzip", "Y": "br"}.get(chosen)
        content = self.reply[1:] if status or coding else self.reply

        class Sent(httpx.AsyncByteStream):
            """Not read before the client reads it, as from a network."""

            async def __aiter__(self) -> AsyncIterator[bytes]:
                yield content

        return httpx.Response(status or 200, headers={"content-encoding": coding} if coding else None, stream=Sent())

    def ask(self, reply: bytes, ask: Callable[[Any], Any]) -> object:
        """What `ask` makes of the reply. An answer that is to be asked for again is told as an error."""
        self.reply = reply
        try:
            return self._loop.run_until_complete(ask(self._connections))
        except Again as problem:
            raise ValueError(f"{URL}: {problem}") from None


@cache
def _wire() -> _Wire:
    return _Wire()


def _judge(content: bytes, folder: Path) -> object:
    from crossward.engines.openai_judge import OpenAiJudge

    judge = OpenAiJudge(_ENDPOINT, kept=_Kept(), spending=Spending(budget=Budget()))
    judge._gives_logprobs = None if content[-1:] == b"\n" else False
    question = Question(messages=({"role": "user", "content": "q"},), name="q")
    return _wire().ask(content, lambda connections: judge._once(connections, question, "key"))


def _grading(content: bytes, folder: Path) -> object:
    from crossward.engines.mt_bench_judge import Grading, MtBenchJudge, ToGrade

    judge = MtBenchJudge(_ENDPOINT, Grading(), kept=_Kept())
    item = ToGrade(question_id="q", language="es", turn=1, message="m")
    said = _wire().ask(content, lambda connections: judge._ask(connections, item, 0))
    encode_row(
        {"rating": said.rating if isinstance(said.rating, float) else None, "text": said.text, "tokens": said.tokens},
        where=URL,
    )  # type: ignore
    return said


_ASKED = Prompt(id="a", language="en", instruction="Name the animals.", english_instruction="Name the animals.")


def _sampling(content: bytes, folder: Path) -> object:
    from crossward.engines.openai_sampler import OpenAiSampler
    from crossward.engines.protocols import Sampling
    from crossward.store.edges import group_row

    sampler = OpenAiSampler(_ENDPOINT, _tokens() if content[-1:] == b"\n" else None)
    sampling = Sampling(n=2, temperature=0.5, top_p=1.0, max_new_tokens=8, seed=1)
    found = _wire().ask(content, lambda connections: sampler._ask(connections, _ASKED, sampling, n=2, seed=1))
    from crossward.core.records import SampledPrompt

    encode_row(group_row(SampledPrompt(prompt=_ASKED, responses=tuple(found))), where=URL)  # type: ignore
    return found


def _headers(content: bytes, folder: Path) -> object:
    names = ("retry-after", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
    values = content.decode("latin-1").split("\n")
    wait = wait_asked(dict(zip(names, values, strict=False)))
    assert wait is None or wait >= 0
    return wait


def _said(content: bytes, folder: Path) -> object:
    """The words of a judge and of a translator."""
    text = content.decode("utf-8", "replace")
    return (
        parse_points(text),
        parse_rating(text),
        read_answer(text, ended=True, parse="tags", source_text=text[:20]),
        read_answer(text, ended=False, parse="plain"),
    )


def _judgement_row(path: Path) -> object:
    with KeyedLines(path) as kept:
        return answer_of(kept.get("k"))


# Checkpoints


@cache
def _family() -> Path:
    """A tiny checkpoint."""
    from tests.support.families import make_family

    return make_family("chatml", Path(tempfile.mkdtemp(prefix="fuzz-family-")) / "m")


@cache
def _tokens() -> Any:
    from crossward.engines.protocols import ModelSpec
    from crossward.engines.tokens import load_tokens

    return load_tokens(ModelSpec(path=str(_family()), dtype="float32", device="cpu"))


def _checkpoint(file: str) -> Callable[[bytes, Path], object]:
    """The tokenizer of a checkpoint with one of its files replaced."""

    def read(content: bytes, folder: Path) -> object:
        from crossward.engines.protocols import ModelSpec
        from crossward.engines.tokens import load_tokens

        model = folder / "model"
        if not model.is_dir():
            shutil.copytree(_family(), model)
        (model / file).write_bytes(content)
        tokens = load_tokens(ModelSpec(path=str(model), dtype="float32", device="cpu"))
        return tokens.prompt_ids("Hola the sea"), tokens.fingerprint()

    return read


def _chat_template(content: bytes, folder: Path) -> object:
    """A checkpoint's own tokenizer with another chat template."""
    from crossward.engines.tokens import ChatTokens

    tokenizer = _tokens().tokenizer
    before = tokenizer.chat_template
    tokenizer.chat_template = content.decode("utf-8", "replace")
    try:
        return ChatTokens(tokenizer, name="model").prompt_ids("Hola the sea")
    finally:
        tokenizer.chat_template = before


def _of_checkpoint(name: str, file: str, kind: Any) -> Target:
    return Target(
        name=name,
        entry=f"models.policy, {file}",
        kind=kind,
        seeds=lambda: [(_family() / file).read_bytes()],
        read=_checkpoint(file),
        names=("model",),
    )


# Whole runs


@cache
def _run() -> Path:
    from tests.support.report_runs import make_run

    folder = Path(tempfile.mkdtemp(prefix="fuzz-run-")) / "run"
    make_run(folder, prompts=4, responses=3)
    return folder


_JSON_OF_A_RUN = (
    "iteration-1/sample/stage.json",
    "iteration-1/score/stage.json",
    "iteration-1/pair/stage.json",
    "iteration-1/train/stage.json",
    "iteration-1/train/metrics.jsonl",
    "iteration-2/evaluate/stage.json",
    "iteration-2/score/inputs.json",
    "reference/evaluate/stage.json",
    "iteration-1/score/tokens/en.jsonl",
    "evaluation.json",
    "reward-accuracy.json",
    "provenance.json",
    "config.yaml",
)


def _run_seeds() -> list[bytes]:
    """The number of a file in _JSON_OF_A_RUN, a space, and what the run has in it, without its checksum."""
    found = []
    for number, name in enumerate(_JSON_OF_A_RUN):
        content = (_run() / name).read_bytes()
        if name.endswith("stage.json"):
            tree = json.loads(content)
            tree.pop("checksum", None)
            content = json.dumps(tree, ensure_ascii=False).encode()
        found.append(b"%02d " % number + content)
    return found


def _sent_run(content: bytes, folder: Path) -> object:
    """Show and report a run of which one file is what a stranger made of it."""
    from crossward.pipeline.report.write import report_again
    from crossward.pipeline.runs import list_runs
    from crossward.pipeline.show_run import plain_run, plain_stage, stage_table

    run = folder / "run"
    if not run.is_dir():
        shutil.copytree(_run(), run)
    digits = content[:2]
    number = int(digits) % len(_JSON_OF_A_RUN) if digits.isdigit() else 0
    name = _JSON_OF_A_RUN[number]
    before = (run / name).read_bytes()
    (run / name).write_bytes(content[3:])
    try:
        for row in list_runs(run).runs:
            row.row()
        plain_run(run)
        if name.endswith(("stage.json", "inputs.json")):
            plain_stage(run, name.rpartition("/")[0])
            stage_table(run, name.rpartition("/")[0])
        return report_again(run, run / "out.html")
    finally:
        (run / name).write_bytes(before)


_CHOICE = {
    "message": {"role": "assistant", "content": "m"},
    "finish_reason": "stop",
    "logprobs": {
        "content": [{"token": "m", "top_logprobs": [{"token": "m", "logprob": -0.1}, {"token": "M", "logprob": -2.5}]}]
    },
}
_REPLY = {"id": "x", "choices": [_CHOICE], "usage": {"prompt_tokens": 12, "completion_tokens": 1}}
_SAMPLED = {"choices": [_CHOICE | {"token_ids": [5, 6]}, _CHOICE]}
_GRADED = {
    "choices": [{"message": {"content": "Rating: [[7]]"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3},
}


def _replies(*values: Any) -> Callable[[], Sequence[bytes]]:
    return lambda: [
        *json_of(*values)(),
        *(text + b"\n" for text in json_of(*values)()),
        b'4{"error": "logprobs"}',
        b"9busy",
        *(b"z" + gzip.compress(text, mtime=0) for text in json_of(*values)()),
        b"Z" + gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0),
        b"Y{}",
    ]


def _of_reply(name: str, entry: str, read: Callable[[bytes, Path], object], *values: Any) -> Target:
    return Target(name=name, entry=entry, kind="json", seeds=_replies(*values), read=read, names=("stranger.test",))


TARGETS: tuple[Target, ...] = (
    _of_reply("judge-reply", "evaluate.judge", _judge, _REPLY),
    _of_reply("mt-bench-reply", "mt-bench --judge-url", _grading, _GRADED),
    _of_reply(
        "sampler-reply",
        "sample.openai, a judge's ratings, translations",
        _sampling,
        _SAMPLED,
        _SAMPLED | {"prompt_token_ids": [1]},
    ),
    Target(
        name="reply-headers",
        entry="every server",
        kind="text",
        seeds=lambda: [b"7", b"Wed, 21 Oct 2026 07:28:00 GMT", b"\n0\n1m2.5s", b"\n0\n20ms"],
        read=_headers,
        names=("header",),
    ),
    Target(
        name="judge-words",
        entry="ratings, MT-Bench, translations",
        kind="text",
        seeds=lambda: [b"Score: 4,5", b"Rating: [[7]]", b"<translated>Hola</translated>", "评分: [８]".encode()],
        read=_said,
        names=("template",),
    ),
    of_file(
        "judgement-row",
        "judgements.jsonl of a run, judged again",
        lines_of([{"key": "k", "second_better": 0.5, "source": "logprobs", "first": 0.5, "second": None}]),
        _judgement_row,
        kind="jsonl",
    ),
    Target(
        name="run",
        entry="show, runs, report over a run that was sent",
        kind="json",
        seeds=_run_seeds,
        read=_sent_run,
        names=("run",),
        prefix=3,
    ),
    _of_checkpoint("tokenizer", "tokenizer.json", "json"),
    _of_checkpoint("tokenizer-config", "tokenizer_config.json", "json"),
    _of_checkpoint("generation-config", "generation_config.json", "json"),
    _of_checkpoint("model-config", "config.json", "json"),
    Target(
        name="chat-template",
        entry="models.policy, chat_template.jinja",
        kind="template",
        seeds=lambda: [(_family() / "chat_template.jinja").read_bytes(), b"{{ messages[0].content }}<|im_end|>"],
        read=_chat_template,
        names=("model",),
    ),
)
