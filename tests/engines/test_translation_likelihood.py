"""Translation likelihood as a rating: by hand, against transformers' own logits, and none of the published traps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from tests.support.families import MAX_POSITIONS, make_family
from tests.support.seq2seq import POSITIONS, make_seq2seq
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from crossward.core.records import Prompt, Response
from crossward.core.translation import parse_template
from crossward.engines.hf_scorer import HfScorer
from crossward.engines.models import load_model
from crossward.engines.protocols import ModelSpec, ToRate
from crossward.engines.seq2seq_translator import Seq2SeqTranslator
from crossward.engines.tokens import load_tokens
from crossward.engines.translation_likelihood import (
    ChatTranslationLikelihood,
    TranslationLikelihoodRater,
    plain_request,
)
from crossward.tinyworld.corpus import translation_request


def group_of(*texts: str, english: Sequence[str] = ("one", "two"), language: str = "es") -> ToRate:
    prompt = Prompt(id="1", language=language, instruction="Di", english_instruction="Say")
    responses = tuple(Response(text=text) for text in texts)
    return ToRate(prompt=prompt, instruction="", responses=responses, english_answers=tuple(english))


@dataclass(slots=True)
class Table:
    """A translation model by rule: (length of the source) / (length of the target), negated; keeps its calls."""

    calls: list[tuple[str, str, list[tuple[str, str]]]] = field(default_factory=list)
    closed: bool = False

    def log_likelihood(
        self, sources: Sequence[str], targets: Sequence[str], *, source_lang: str, target_lang: str
    ) -> list[float | None]:
        pairs = list(zip(sources, targets, strict=True))
        self.calls.append((source_lang, target_lang, pairs))
        return [None if "LONG" in source + target else -len(source) / len(target) for source, target in pairs]

    def close(self) -> None:
        self.closed = True


def rate(*groups: ToRate) -> tuple[list[tuple[float | None, ...]], TranslationLikelihoodRater, Table]:
    table = Table()
    rater = TranslationLikelihoodRater(table, name="a table")
    return rater.rate(groups), rater, table


def test_the_mean_over_english_answers_by_hand():
    """ "aaaa" with answers of 2 and 4 characters: (−4/2 − 4/4)/2 = −1.5; "aa": (−2/2 − 2/4)/2 = −0.75."""
    rated, rater, table = rate(group_of("aaaa", "aa", english=("xx", "yyyy")))
    assert rated == [(-1.5, -0.75)]
    assert (rater.failures, rater.left_out) == ({}, {})
    assert rater.name == "translation likelihood of a table"
    rater.close()
    assert table.closed


def test_each_language_is_told_for_its_own_pairs_and_a_pair_is_computed_once():
    groups = [
        group_of("uno", "uno", "dos"),
        group_of("moja", language="sw"),
        group_of("uno", "tres"),
        group_of("eins", language="de", english=("x",)),
    ]
    seen: list[int] = []
    table = Table()
    rated = TranslationLikelihoodRater(table, name="t").rate(groups, advance=seen.append)
    assert [(source, target) for source, target, _ in table.calls] == [("de", "en"), ("es", "en"), ("sw", "en")]
    (spanish,) = (pairs for source, _, pairs in table.calls if source == "es")
    assert spanish == [(text, answer) for text in ("uno", "dos", "tres") for answer in ("one", "two")]
    assert rated == [(-1.0, -1.0, -1.0), (-4 / 3,), (-1.0, -4 / 3), (-4.0,)]
    assert sum(seen) == 7
    assert rate(*groups[::-1])[0] == rated[::-1]


def test_english_groups_are_not_rated():
    rated, rater, table = rate(group_of("one", "two", language="en"), group_of("uno"))
    assert rated == [(None, None), (-1.0,)]
    assert rater.failures == {"english": 2}
    assert [source for source, _, _ in table.calls] == ["es"]


def test_nothing_to_compare_with():
    rated, rater, table = rate(group_of("uno", "dos", english=()), group_of("uno", english=(" ", "")), group_of())
    assert rated == [(None, None), (None,), ()]
    assert rater.failures == {"no-english-answer": 3}
    assert rater.left_out == {"blank": 2}
    assert table.calls == []


def test_blank_texts_are_counted():
    rated, rater, table = rate(group_of("uno", " \n", english=("one", " ")))
    assert rated == [(-1.0, None)]
    assert table.calls == [("es", "en", [("uno", "one")])]
    assert (rater.failures, rater.left_out) == ({"empty": 1}, {"blank": 1})
    assert rate(group_of("", " "))[0] == [(None, None)]


def test_what_is_too_long_is_left_out_for_the_whole_group_or_not_at_all():
    """Every rated response of a group has the same English answers under its mean."""
    rated, rater, _ = rate(
        group_of("uno", "LONG", "dosdos"),  # a response that fits with none
        group_of("uno", "dosdos", english=("one", "LONG answer")),  # an answer that fits with none
        group_of("LONG", english=("one",)),
    )
    assert rated == [(-1.0, None, -2.0), (-1.0, -2.0), (None,)]
    assert rater.failures == {"too-long": 2}
    assert rater.left_out == {"too-long": 1}


def test_a_response_that_fits_with_some_answers_only_is_not_rated():
    class Narrow(Table):
        def log_likelihood(
            self, sources: Sequence[str], targets: Sequence[str], *, source_lang: str, target_lang: str
        ) -> list[float | None]:
            return [-1.0 if len(s + t) < 8 else None for s, t in zip(sources, targets, strict=True)]

    rater = TranslationLikelihoodRater(Narrow(), name="narrow")
    assert rater.rate([group_of("uno", "dosdos", english=("a", "aaaa"))]) == [(-1.0, None)]
    assert rater.failures == {"too-long": 1}


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_broken_weights_are_named(value: float):
    class Broken(Table):
        def log_likelihood(
            self, sources: Sequence[str], targets: Sequence[str], *, source_lang: str, target_lang: str
        ) -> list[float | None]:
            return [value] * len(sources)

    with pytest.raises(ValueError, match=rf"of b is {value} for the answer 'one' given 'uno' \(es\)"):
        TranslationLikelihoodRater(Broken(), name="b").rate([group_of("uno")])


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return ModelSpec(path=str(make_family("llama3", tmp_path_factory.mktemp("llama3"))), dtype="float32", device="cpu")


def request(text: str, source: str, target: str) -> str:
    return f"From {source} to {target}: {text}"


def own_likelihood(spec: ModelSpec, instruction: str, answer: str) -> float:
    """Mean log-probability of the answer's ids and its end of turn: transformers' logits, one sequence, float64."""
    tokens = load_tokens(spec)
    prompt = tokens.prompt_ids(instruction)
    answered = (*tokens.tokenizer.encode(answer, add_special_tokens=False), tokens.end_of_turn_id)
    logits = load_model(spec).double()(input_ids=torch.tensor([[*prompt, *answered]])).logits[0]
    terms = [float(logits[len(prompt) - 1 + t].log_softmax(-1)[token]) for t, token in enumerate(answered)]
    return sum(terms) / len(terms)


def test_a_chat_model_equals_its_own_logits_whatever_shares_the_call(spec: ModelSpec):
    """Sources and targets of 1 to about 100 tokens: a mean over padding, or over a batch's tokens, would show."""
    likelihood = ChatTranslationLikelihood(HfScorer(spec, load_tokens(spec)), request)
    sources = ["Hola", "Manzana. " * 12, "Hola", "苹果", "Hola"]
    targets = ["the thing", "a", "the thing in the house " * 9, "z", "z"]
    together = likelihood.log_likelihood(sources, targets, source_lang="es", target_lang="en")
    expected = [own_likelihood(spec, f"From es to en: {s}", t) for s, t in zip(sources, targets, strict=True)]
    assert together == pytest.approx(expected, abs=1e-4)
    alone = [
        likelihood.log_likelihood([s], [t], source_lang="es", target_lang="en")[0]
        for s, t in zip(sources, targets, strict=True)
    ]
    assert alone == pytest.approx(expected, abs=1e-4)
    turned = likelihood.log_likelihood(sources[::-1], targets[::-1], source_lang="es", target_lang="en")
    assert turned[::-1] == pytest.approx(expected, abs=1e-4)


def test_a_chat_model_cuts_nothing(spec: ModelSpec):
    """At the context's last token it still scores; one token more is None, and its neighbour keeps its value."""
    tokens = load_tokens(spec)
    scorer = HfScorer(spec, tokens)
    rater = TranslationLikelihoodRater(ChatTranslationLikelihood(scorer, request), name="chat")
    room = MAX_POSITIONS - len(tokens.prompt_ids(request("z", "sw", "en"))) + 1 - len("a") - 1
    group = group_of("z" * room, "z" * (room + 1), "Hola", english=("a",), language="sw")
    (row,) = rater.rate([group])
    assert row[0] == pytest.approx(own_likelihood(spec, request("z" * room, "sw", "en"), "a"), abs=1e-4)
    assert row[1] is None
    assert row[2] == pytest.approx(own_likelihood(spec, request("Hola", "sw", "en"), "a"), abs=1e-4)
    assert rater.failures == {"too-long": 1}
    assert rater.rate([replace(group, responses=group.responses[::-1])])[0][::-1] == pytest.approx(row, abs=1e-4)
    rater.close()


def test_a_translation_model_equals_transformers_own_loss_and_knows_each_language(tmp_path: Path):
    """−loss of transformers on one pair at a time, unpadded, with the languages' tokens written by hand."""
    folder = make_seq2seq("m2m", tmp_path)
    spec = ModelSpec(path=str(folder), dtype="float32", device="cpu")
    rater = TranslationLikelihoodRater(Seq2SeqTranslator(spec, name="tiny", identity="tiny"), name="tiny")
    english = ("one two three", "a")
    groups = [
        group_of("uno dos tres", "dos", english=english),
        group_of("uno dos tres", language="sw", english=english),
    ]
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    end = tokenizer.convert_tokens_to_ids("</s>")

    def own(language: str, source: str, target: str) -> float:
        ids = [
            [
                tokenizer.convert_tokens_to_ids(f"__{code}__"),
                *tokenizer(text, add_special_tokens=False)["input_ids"],
                end,
            ]
            for code, text in ((language, source), ("en", target))
        ]
        labels = torch.tensor([ids[1]])
        logits = model(input_ids=torch.tensor([ids[0]]), decoder_input_ids=torch.tensor([[end, *ids[1][:-1]]])).logits[
            0, 1:
        ]  # the language's token is given, not scored
        return float(logits.detach().log_softmax(-1).gather(-1, labels[0, 1:, None]).mean())

    expected = [
        tuple(sum(own(group.prompt.language, r.text, answer) for answer in english) / 2 for r in group.responses)
        for group in groups
    ]
    for row, exact in zip(rater.rate(groups), expected, strict=True):
        assert row == pytest.approx(exact, abs=1e-4)
    assert expected[0][0] != pytest.approx(expected[1][0], abs=1e-3), "the language is read"
    assert rater.rate([groups[1]])[0] == pytest.approx(expected[1], abs=1e-4)
    too_long = group_of("uno " * POSITIONS, "dos", english=("a",))
    assert [value is None for value in rater.rate([too_long])[0]] == [True, False]
    rater.close()


def test_the_requests_of_the_tiny_world_and_of_a_template():
    plain = plain_request(parse_template("Translate from {source} into {target}: {text}", "t"))
    assert plain("gato {text}", "es", "en") == "Translate from Spanish into English: gato {text}"
    tiny = plain_request(parse_template("Translate into {target} : {text}", "t"))
    assert tiny("gato", "es", "en") == translation_request("gato", "en")
    with pytest.raises(ValueError, match="a template that asks for tags cannot tell"):
        plain_request(parse_template("Put it between <translated> and </translated>: {text} {target}", "t"))
