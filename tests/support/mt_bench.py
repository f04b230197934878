"""A small MT-Bench in two languages: question, reference and answer files, and a judge whose ratings are known."""

import json
import re
from pathlib import Path
from typing import Any

from tests.support.chat_server import Reply, Request, choices

CATEGORIES = ("writing", "math", "stem", "coding")
IDS = (81, 111, 141, 121)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_mt_bench(folder: Path, languages: tuple[str, ...] = ("en", "es")) -> Path:
    """q/, r/ and a/ with four questions a language, two of which need a reference."""
    for language in languages:
        pairs = list(zip(IDS, CATEGORIES, strict=True))
        write_rows(
            folder / "q" / f"{language}.jsonl",
            [
                {"question_id": id, "category": name, "turns": [f"{language} Q{id}.1", f"{language} Q{id}.2"]}
                for id, name in pairs
            ],
        )
        for kind, which in (("r", pairs[1::2]), ("a", pairs)):
            write_rows(
                folder / kind / f"{language}.jsonl",
                [
                    {"question_id": id, "choices": [{"index": 0, "turns": [f"{kind}{id}.1", f"{kind}{id}.2"]}]}
                    for id, _ in which
                ],
            )
    return folder


def shown_turn(request: Request) -> tuple[str, int, int]:
    """(language, question id, turn) that a judge's message shows."""
    questions = re.findall(r"(\w\w) Q(\d+)\.([12])\n", request["messages"][-1]["content"])
    language, id, turn = questions[-1]
    return language, int(id), int(turn)


def rating_of(language: str, id: int, turn: int) -> float:
    """What the judge gives: 1 to 10, in halves."""
    return 1 + (id * 7 + turn * 5 + len(language) * 3 + (language == "es") * 4) % 19 / 2


def judge(request: Request, before: int) -> Reply:
    """A judge that never fails."""
    language, id, turn = shown_turn(request)
    reply = choices(f"Said [1]. Rating: [[{str(rating_of(language, id, turn)).replace('.', ',')}]]")
    reply.body["usage"] = {"prompt_tokens": 40, "completion_tokens": 2}
    return reply


def arguments(folder: Path, base_url: str, output: Path, *more: object) -> list[object]:
    """The command line that grades both languages."""
    return [
        "mt-bench", "--questions", folder / "q" / "{language}.jsonl", "--references", folder / "r" / "{language}.jsonl",
        "--language", "en", "--language", "es", "--judge-base-url", base_url, "--judge-model", "J",
        "--output", output, "--concurrency", 4, *more,
    ]  # fmt: skip
