"""The scoring work that benchmarks share: 12 real English prompts x 10 responses of 60 to 700 tokens, as token ids.

With --data (a folder that holds `prompts/en.jsonl` and `x-alpacaeval/reference/<language>/<model>.json`, as the paper's
repository publishes them) the prompts are the first of the file with the steering line before them, and the responses
are cut from Spanish and Russian answers. Without it, ids of the same lengths are drawn at random.
"""

import json
import random
from pathlib import Path

from crossward.core.instructions import judged_under
from crossward.core.records import Prompt, Response
from crossward.engines.protocols import Judged
from crossward.engines.tokens import ChatTokens

N_GROUPS, N_RESPONSES, SHORTEST, LONGEST = 12, 10, 60, 700
SEED = 7


def groups(tokens: ChatTokens, data: Path | None, *, n: int = N_GROUPS, longest: int = LONGEST) -> list[Judged]:
    """`n` groups of 10 responses, lengths drawn evenly between 60 and `longest` tokens; every response is cut."""
    rng = random.Random(SEED)
    instructions = _prompts(data, n) if data else [_words(rng, 280) for _ in range(n)]
    source = (
        _answers(tokens, data)
        if data
        else [rng.randrange(100, min(20_000, tokens.vocabulary_size)) for _ in range(200_000)]
    )
    made = []
    for instruction in instructions:
        responses = []
        for _ in range(N_RESPONSES):
            length = rng.randint(SHORTEST, longest)
            start = rng.randrange(len(source) - length)
            ids = tuple(source[start : start + length])
            responses.append(Response(text="", token_ids=ids, finish_reason="length"))
        made.append(Judged(instruction=instruction, responses=tuple(responses)))
    return made


def _prompts(data: Path, n: int) -> list[str]:
    lines = (data / "prompts" / "en.jsonl").read_text(encoding="utf-8").split("\n")[:n]
    texts = [json.loads(line)["instruction"] for line in lines]
    languages = ("es", "ru")
    return [
        judged_under(
            Prompt(id=str(i), language=languages[i % 2], instruction=text, english_instruction=text), "crosslingual"
        )
        for i, text in enumerate(texts)
    ]


def _answers(tokens: ChatTokens, data: Path) -> list[int]:
    """Spanish and Russian answers, one after the other in turn, as one row of ids."""
    files = [data / "x-alpacaeval" / "reference" / code / "gpt-4-turbo-2024-04-09.json" for code in ("es", "ru")]
    spanish, russian = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    texts = [row["output"] for pair in zip(spanish, russian, strict=True) for row in pair]
    return [token for text in texts for token in tokens.response_ids(Response(text=text, finish_reason="length"))]


def _words(rng: random.Random, n: int) -> str:
    return " ".join(rng.choice(("the", "answer", "of", "a", "house", "and", "light", "number", "to")) for _ in range(n))
