"""The longest prompt is found among texts of which most are never tokenised."""

import random

import pytest
from tests.support.families import make_family, make_tokenizer
from tokenizers.normalizers import NFKD

from crossward.engines.prompt_lengths import longest_prompt
from crossward.engines.protocols import ModelSpec
from crossward.engines.tokens import ChatTokens, load_tokens

LETTERS = "abcdefgh   ñçßŁ水火\ufdfa\u0130é"


@pytest.fixture(scope="module", params=["chatml", "gemma"])
def tokens(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ChatTokens:
    path = make_family(request.param, tmp_path_factory.mktemp("model") / "model", seed=0)
    return load_tokens(ModelSpec(path=str(path), dtype="float32", device="cpu"))


def test_as_long_as_the_longest_of_all(tokens: ChatTokens, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("crossward.engines.prompt_lengths.CHUNK", 50)
    chance = random.Random(3)
    for most in (5, 60, 300):
        texts = ["".join(chance.choices(LETTERS, k=chance.randint(1, most))) for _ in range(200)]
        counted: list[int] = []
        assert longest_prompt(tokens, texts, advance=counted.append) == max(len(tokens.prompt_ids(t)) for t in texts)
        assert sum(counted) == 200


def test_a_letter_that_a_tokenizer_takes_apart_is_as_long_as_its_parts():
    tokenizer = make_tokenizer("chatml")
    tokenizer.backend_tokenizer.normalizer = NFKD()
    tokens = ChatTokens(tokenizer)
    texts = ["x" * 100, "\ufdfa" * 20]
    assert longest_prompt(tokens, texts) == len(tokens.prompt_ids(texts[1])) > len(tokens.prompt_ids(texts[0]))


def test_most_texts_are_not_tokenised(tokens: ChatTokens, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    prompt_ids = ChatTokens.prompt_ids
    monkeypatch.setattr(ChatTokens, "prompt_ids", lambda self, text: (asked.append(text), prompt_ids(self, text))[1])
    texts = [f"Say {i} words." for i in range(500)] + ["word " * 300]
    longest = longest_prompt(tokens, texts)
    assert longest == len(prompt_ids(tokens, texts[-1]))
    assert len(asked) == 2
    assert longest_prompt(tokens, texts[:500], longest=longest) == longest
    assert len(asked) == 3


def test_nothing_has_no_length(tokens: ChatTokens):
    assert longest_prompt(tokens, []) == 0
