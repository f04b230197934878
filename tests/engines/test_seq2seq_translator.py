"""Encoder-decoder translators: what they are told of languages, results free of their batch, likelihoods by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.families import make_family
from tests.support.seq2seq import POSITIONS, STYLES, make_seq2seq
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from crossward.core.translation import Translation
from crossward.engines import seq2seq_translator
from crossward.engines.models import read_config
from crossward.engines.protocols import ModelSpec
from crossward.engines.seq2seq_tokens import load_seq2seq_tokens
from crossward.engines.seq2seq_translator import Seq2SeqTranslator

TEXTS = [
    "Hello there.",
    "Go!\n\n- one\n- two",
    "A",
    "What is the sea made of, and who says so? Nobody.",
    "12\n---",
    "Hi",
]


def spec_of(folder: Path) -> ModelSpec:
    return ModelSpec(path=str(folder), dtype="float32", device="cpu")


def translator_of(folder: Path, **more: Any) -> Seq2SeqTranslator:
    return Seq2SeqTranslator(spec_of(folder), name="tiny", identity="tiny", max_new_tokens=24, **more)


@pytest.fixture(scope="module")
def nllb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_seq2seq("flores", tmp_path_factory.mktemp("nllb"), seed=1)


@pytest.mark.parametrize("attempt", [0, 1])
@pytest.mark.parametrize("beams", [1, 3])
def test_a_text_is_translated_alike_alone_and_among_others(nllb: Path, attempt: int, beams: int):
    whole = translator_of(nllb, beams=beams).translate(TEXTS, source="en", target="es", attempt=attempt)
    assert any(one.text for one in whole[:4])
    assert any(one.problem == "truncated" for one in whole)
    small = translator_of(nllb, beams=beams, batch_rows=2)
    assert small.translate(TEXTS[::-1], source="en", target="es", attempt=attempt) == whole[::-1]
    for text, one in zip(TEXTS, whole, strict=True):
        assert small.translate([text], source="en", target="es", attempt=attempt) == [one]


def test_attempts_and_seeds_differ_and_each_repeats_itself(nllb: Path):
    def made(attempt: int, seed: int = 42) -> list[Translation]:
        return translator_of(nllb, seed=seed).translate(TEXTS, source="en", target="es", attempt=attempt)

    assert made(1) == made(1)
    assert len({str(made(0)), str(made(1)), str(made(2)), str(made(1, seed=7))}) == 4
    assert made(0) == made(0, seed=7)  # greedy


def test_the_target_language_decides(nllb: Path):
    es, sw = (translator_of(nllb).translate(TEXTS, source="en", target=code) for code in ("es", "sw"))
    assert es != sw


def test_greedy_is_what_transformers_itself_generates(nllb: Path):
    model = AutoModelForSeq2SeqLM.from_pretrained(nllb)
    tokenizer = AutoTokenizer.from_pretrained(nllb)
    english, spanish, eos = tokenizer.convert_tokens_to_ids(["eng_Latn", "spa_Latn", "</s>"])
    for text in ("Hello there.", "A", "Hi"):
        ids = torch.tensor([[english, *tokenizer(text, add_special_tokens=False)["input_ids"], eos]])
        out = model.generate(ids, forced_bos_token_id=spanish, num_beams=1, do_sample=False, max_new_tokens=25)
        assert out[0, :2].tolist() == [eos, spanish]
        made = out[0, 2:].tolist()
        (one,) = translator_of(nllb).translate([text], source="en", target="es")
        decoded = tokenizer.decode(made[:24], skip_special_tokens=True).strip()
        assert decoded
        assert (one.text or one.draft) == decoded
        assert one.problem == (None if eos in made[:24] else "truncated")


def test_code_line_breaks_and_lines_without_letters_pass_untouched(nllb: Path):
    text = "Hi\n\n```python\nprint('Hello')  # Hi\n```\n  12\nHi"
    (hi,) = translator_of(nllb).translate(["Hi"], source="en", target="es")
    assert hi.text
    (made,) = translator_of(nllb).translate([text], source="en", target="es")
    assert made.text == f"{hi.text}\n\n```python\nprint('Hello')  # Hi\n```\n  12\n{hi.text}"


def test_a_line_longer_than_the_model_is_a_reason_and_stops_nobody(nllb: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(seq2seq_translator, "PIECE_TOKENS", 20)
    told: list[int] = []
    translator = translator_of(nllb)
    long, cut, short = translator.translate(
        ["x" * POSITIONS, "One thing here. " * 20, "Hi"], source="en", target="es", advance=told.append
    )
    assert long == Translation(text=None, problem="too-long")
    assert cut.problem in (None, "truncated")  # in pieces it fits
    assert short == translator_of(nllb).translate(["Hi"], source="en", target="es")[0]
    assert sum(told) == 3


@pytest.mark.parametrize("style", STYLES)
def test_each_style_tells_its_languages(style: str, tmp_path: Path):
    spec = spec_of(make_seq2seq(style, tmp_path))
    tokens = load_seq2seq_tokens(spec, read_config(spec))
    names = AutoTokenizer.from_pretrained(tmp_path).convert_ids_to_tokens
    assert tokens.style == style
    source = names(list(tokens.source_ids("a", source="en", target="es")))
    prefix = names(list(tokens.target_prefix("es")))
    assert (source, prefix) == {
        "flores": (["eng_Latn", "a", "</s>"], ["spa_Latn"]),
        "m2m": (["__en__", "a", "</s>"], ["__es__"]),
        "mbart": (["en_XX", "a", "</s>"], ["es_XX"]),
        "madlad": (["<2es>", "a", "</s>"], []),
        "marian": ([">>spa<<", "a", "</s>"], []),
        "pair": (["a", "</s>"], []),
    }[style]
    assert names(list(tokens.target_ids("a"))) == ["a", "</s>"]
    translated = translator_of(tmp_path).translate(TEXTS, source="en", target="es")
    assert translator_of(tmp_path, batch_rows=1).translate(TEXTS, source="en", target="es") == translated
    if style != "pair":
        with pytest.raises(ValueError, match="has no token for German"):
            translator_of(tmp_path).translate(["Hi"], source="en", target="de")


def test_languages_that_a_model_has_not_are_told_in_a_sentence(nllb: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="FLORES-200 has no Latin"):
        translator_of(nllb).translate(["Hi"], source="en", target="la")
    with pytest.raises(ValueError, match="unknown language code 'xx'"):
        translator_of(nllb).translate(["Hi"], source="en", target="xx")
    norwegian = make_seq2seq("m2m", tmp_path / "m2m")
    assert translator_of(norwegian).translate(["Hi"], source="en", target="nb")
    pair = make_seq2seq("pair", tmp_path / "pair", source_lang="eng", target_lang="es")
    assert translator_of(pair).translate(["Hi"], source="en", target="es")
    with pytest.raises(ValueError, match="translates from eng to es, not from en to de"):
        translator_of(pair).translate(["Hi"], source="en", target="de")


def test_a_chat_model_and_a_folder_without_tokenizer_are_told(tmp_path: Path):
    chat = make_family("chatml", tmp_path / "chat")
    with pytest.raises(ValueError, match="is no encoder-decoder"):
        translator_of(chat).translate(["Hi"], source="en", target="es")
    with pytest.raises(ValueError, match="does not exist"):
        translator_of(tmp_path / "nowhere").translate(["Hi"], source="en", target="es")


PAIRS = [
    ("Hola amigo.", "Hello friend."),
    ("No", "No, nobody knows how deep the sea is."),
    ("¿Qué es esto que dices?", "A"),
    ("Sí", ""),
]


@pytest.mark.parametrize("style", ["flores", "pair", "madlad"])
def test_likelihood_is_the_mean_over_the_targets_own_tokens(style: str, tmp_path: Path):
    folder = make_seq2seq(style, tmp_path)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).double()
    spec = spec_of(folder)
    tokens = load_seq2seq_tokens(spec, read_config(spec))
    found = translator_of(folder).log_likelihood(*zip(*PAIRS, strict=True), source_lang="es", target_lang="en")
    for (source, target), value in zip(PAIRS, found, strict=True):
        ids = torch.tensor([tokens.source_ids(source, source="es", target="en")])
        prefix, labels = tokens.target_prefix("en"), tokens.target_ids(target)
        # transformers shifts the labels itself; −100 leaves the language token out of the mean.
        given = torch.tensor([[*prefix, *labels]])
        start = model.config.decoder_start_token_id
        logits = model(input_ids=ids, decoder_input_ids=torch.tensor([[start, *prefix, *labels[:-1]]])).logits[0]
        counted = given[0].clone()
        counted[: len(prefix)] = -100
        loss = torch.nn.functional.cross_entropy(logits, counted)
        assert value == pytest.approx(-loss.item(), abs=2e-5)
        assert value is not None
        assert value < 0


def test_a_likelihood_does_not_depend_on_its_batch(nllb: Path, monkeypatch: pytest.MonkeyPatch):
    sources, targets = zip(*PAIRS * 2, strict=True)
    together = translator_of(nllb).log_likelihood(sources, targets, source_lang="es", target_lang="en")
    reversed_ = translator_of(nllb, batch_rows=3).log_likelihood(
        sources[::-1], targets[::-1], source_lang="es", target_lang="en"
    )
    assert together == pytest.approx(reversed_[::-1], abs=1e-5)
    monkeypatch.setattr(seq2seq_translator, "LOGITS_BYTES", 1)
    for source, target, value in zip(sources, targets, together, strict=True):
        alone = translator_of(nllb).log_likelihood([source], [target], source_lang="es", target_lang="en")
        assert alone == pytest.approx([value], abs=1e-5)


def test_what_is_too_long_for_the_model_has_no_likelihood(nllb: Path):
    told: list[int] = []
    values = translator_of(nllb).log_likelihood(
        ["a", "a" * POSITIONS, "a"],
        ["a" * POSITIONS, "a", "a" * (POSITIONS - 2)],
        source_lang="es",
        target_lang="en",
        advance=told.append,
    )
    assert [value is None for value in values] == [True, True, False]
    assert sum(told) == 3
