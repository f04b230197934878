"""10,000 verdicts from a judge that fails in every way, killed ten times on the way: what is lost, what is paid twice.

    python experiments/judge_faults.py --verdicts 10000 --kills 10

The judge is a server of this script's own, in a process of its own. Of its answers 30 % are faults, drawn anew for
every request: 429 (with and without Retry-After), 500, no answer in time, a dropped connection, truncated JSON, an
answer without log-probabilities, in another language, or empty. Its verdict depends on the question alone.
`crossward evaluate` runs against it twice: undisturbed, and in a folder that it is killed in (SIGKILL) at random
moments and begun again. Printed: verdicts, nulls, answers that the server gave twice after the journal had them,
whether both tables are the same bytes, and the share of the time that the server's slots were busy.
"""

import argparse
import asyncio
import hashlib
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from multiprocessing import Process
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

FAULTS = ("429", "429 later", "500", "no answer", "dropped", "truncated", "no logprobs", "language", "empty")
SHARE = 0.3


def body_of(question: str) -> dict[str, Any]:
    """The right answer: P(M) from a hash of the question."""
    p = 0.02 + 0.96 * int.from_bytes(hashlib.sha256(question.encode()).digest()[:4], "big") / 2**32
    top = [{"token": "m", "logprob": math.log(1 - p)}, {"token": "M", "logprob": math.log(p)}]
    chosen = max(top, key=lambda item: item["logprob"])
    return {
        "choices": [
            {
                "message": {"role": "assistant", "content": chosen["token"]},
                "logprobs": {"content": [{**chosen, "top_logprobs": top}]},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": len(question) // 4, "completion_tokens": 1},
    }


def name_of(question: str) -> str:
    """A question as the journal names it."""
    found = re.search(r"\n(es|sw) (\d+)\?\n", question)
    assert found is not None
    model = "one" if f"one {found[2]} " in question else "two"
    return f"instruction '{found[2]}' ({found[1]}, {model})"


class Server:
    """Serves until it is terminated, and writes what it saw when it is told to stop."""

    def __init__(self, latency_s: float, patience_s: float, log: Path) -> None:
        self.latency_s, self.patience_s, self.log = latency_s, patience_s, log
        self.random = random.Random(1)
        self.faults: Counter[str] = Counter()
        self.busy = 0
        self.busy_s = 0.0
        self.changed = time.monotonic()

    def _count(self, change: int) -> None:
        now = time.monotonic()
        self.busy_s += self.busy * (now - self.changed)
        self.busy, self.changed = self.busy + change, now

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.lower().split(b"\r\n")
                length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
                request = json.loads(await reader.readexactly(length))
                self._count(1)
                try:
                    going = await self.answer(request["messages"][-1]["content"], writer)
                finally:
                    self._count(-1)
                if not going:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(self, question: str, writer: asyncio.StreamWriter) -> bool:
        """One reply; False where the connection is to be closed."""
        fault = self.random.choice(FAULTS) if self.random.random() < SHARE else ""
        self.faults[fault or "good"] += 1
        if fault == "no answer":
            self.busy_s -= self.patience_s * 0.5  # by then the client has gone: its slot is free
        await asyncio.sleep(self.patience_s * 1.5 if fault == "no answer" else self.latency_s)
        if fault == "dropped":
            return False
        body, status, more = body_of(question), 200, ""
        choice = body["choices"][0]
        match fault:
            case "429" | "429 later":
                status, more = 429, "retry-after: 0.2\r\n" if fault == "429 later" else ""
            case "500":
                status = 500
            case "no logprobs":
                choice["logprobs"] = None
            case "language":
                choice["message"]["content"] = "Lo siento"
                choice["logprobs"] = {"content": [{"top_logprobs": [{"token": "Lo", "logprob": -0.1}]}]}
            case "empty":
                choice["message"]["content"], choice["logprobs"] = "", None
        content = json.dumps(body).encode() if status == 200 else b'{"error": "busy"}'
        if fault == "truncated":
            content = content[: len(content) // 2]
        if not fault:
            with self.log.open("a") as seen:
                seen.write(name_of(question) + "\n")
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{more}content-length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        await writer.drain()
        return True


def serve(port: int, latency_s: float, patience_s: float, folder: Path) -> None:
    """The server's process."""
    server = Server(latency_s, patience_s, folder / "good.log")

    async def run() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        async with await asyncio.start_server(server.connection, "127.0.0.1", port, limit=2**22, backlog=1024):
            await stop.wait()
        (folder / "server.json").write_text(json.dumps({"faults": server.faults, "busy_s": server.busy_s}))
        os._exit(0)

    asyncio.run(run())


def write_answers(folder: Path, n: int) -> list[str]:
    """Two models, a baseline and two languages; the command's words for them."""
    per = n // 4
    for model in ("base", "one", "two"):
        for code in ("es", "sw"):
            rows = [
                {"id": str(i), "instruction": f"{code} {i}?", "output": f"{model} {i} " * (1 + i % 7)}
                | {"generator": model}
                for i in range(per)
            ]
            (folder / f"{model}.{code}.json").write_text(json.dumps(rows))
    words = ["--baseline", f"{folder}/base.{{language}}.json", "--language", "es", "--language", "sw"]
    return ["--answers", f"{folder}/one.{{language}}.json", "--answers", f"{folder}/two.{{language}}.json", *words]


def evaluate(words: list[str], port: int, output: Path, arguments: argparse.Namespace) -> subprocess.Popen[bytes]:
    """The command itself, as a user types it."""
    command = [sys.executable, "-m", "crossward", "evaluate", *words, "--output", str(output), "--judge-model", "stub"]
    command += ["--judge-base-url", f"http://127.0.0.1:{port}/v1", "--concurrency", str(arguments.concurrency)]
    command += ["--timeout", str(arguments.patience), "--resamples", "100", "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"NO_PROXY": "*"})


def started(port: int, folder: Path, arguments: argparse.Namespace) -> Process:
    """A server that answers."""
    folder.mkdir(parents=True)
    process = Process(target=serve, args=(port, arguments.latency, arguments.patience, folder))
    process.start()
    time.sleep(1.0)
    return process


def journal_names(path: Path) -> set[str]:
    """The questions whose answers a journal holds: whole lines only."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return {json.loads(line)["question"] for line in lines}


def journal_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def killed_run(words: list[str], port: int, output: Path, log: Path, arguments: Any) -> tuple[bytes, int, int]:
    """The command killed again and again; its last words, how often, and good answers to what the journal had."""
    kills = again = 0
    journal = output / "judgements.jsonl"
    chance = random.Random(2)
    goals = sorted(chance.sample(range(arguments.verdicts // 50, arguments.verdicts), arguments.kills))
    for goal in goals:
        had, told = journal_names(journal), len(log.read_text().splitlines()) if log.exists() else 0
        process = evaluate(words, port, output, arguments)
        while process.poll() is None and journal_lines(journal) < goal:
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
        time.sleep(arguments.latency + 0.1)  # what was on its way arrives at nobody
        again += sum(name in had for name in log.read_text().splitlines()[told:])
    had, told = journal_names(journal), len(log.read_text().splitlines())
    last = evaluate(words, port, output, arguments).communicate()[0]
    return last, kills, again + sum(name in had for name in log.read_text().splitlines()[told:])


def paid_twice(log: Path, journal: Path) -> tuple[int, int]:
    """Good answers beyond the first to a question, and good answers in all. On its way at a kill one may come twice."""
    asked = Counter(log.read_text().splitlines())
    assert len(asked) == journal_lines(journal)
    return sum(count - 1 for count in asked.values()), asked.total()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verdicts", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds that the server thinks")
    parser.add_argument("--patience", type=float, default=1.0, help="seconds that the client waits")
    parser.add_argument("--port", type=int, default=18_431)
    arguments = parser.parse_args()
    with TemporaryDirectory() as name:
        root = Path(name)
        words = write_answers(root, arguments.verdicts)
        server = started(arguments.port, root / "whole", arguments)
        begun = time.monotonic()
        whole, told = evaluate(words, arguments.port, root / "out-whole", arguments).communicate()
        seconds = time.monotonic() - begun
        if not whole:
            sys.exit(told.decode())
        server.terminate()
        server.join()
        seen = json.loads((root / "whole" / "server.json").read_text())
        server = started(arguments.port + 1, root / "cut", arguments)
        cut, kills, again = killed_run(
            words, arguments.port + 1, root / "out-cut", root / "cut" / "good.log", arguments
        )
        server.terminate()
        server.join()
        report(root, arguments, json.loads(whole), json.loads(cut), seen, seconds, (kills, again))


def report(root: Path, arguments: Any, whole: Any, cut: Any, seen: Any, seconds: float, cuts: tuple[int, int]) -> None:
    """What the two runs came to."""
    nulls = [sum(rate["n_null"] for rate in run["rates"]) for run in (whole, cut)]
    judged = [sum(rate["n_judged"] for rate in run["rates"]) for run in (whole, cut)]
    twice = [paid_twice(root / run / "good.log", root / f"out-{run}" / "judgements.jsonl") for run in ("whole", "cut")]
    same = (root / "out-whole" / "verdicts.jsonl").read_bytes() == (root / "out-cut" / "verdicts.jsonl").read_bytes()
    faults = sum(count for fault, count in seen["faults"].items() if fault != "good")
    print(f"server: {sum(seen['faults'].values())} requests, {faults} faults: {seen['faults']}")
    print(f"undisturbed: {judged[0]} judged, {nulls[0]} null, {twice[0][0]} of {twice[0][1]} good answers paid twice")
    print(f"killed {cuts[0]} times: {judged[1]} judged, {nulls[1]} null, {cuts[1]} paid again that the journal had")
    print(
        f"({twice[1][0]} of {twice[1][1]} answers were on their way at a kill: at most {arguments.concurrency} a kill)"
    )
    print(f"verdicts.jsonl the same bytes: {same}; rates the same: {whole['rates'] == cut['rates']}")
    ideal = seen["busy_s"] / arguments.concurrency
    print(f"{seconds:.1f} s in all; slots busy for {ideal:.1f} s each: {100 * ideal / seconds:.1f} % of the time")


if __name__ == "__main__":
    main()
