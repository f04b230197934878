"""Prompt and response ids: boundaries, BOS, ends of turn, forged specials, for every template family."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.families import FAMILIES, make_family, make_tokenizer, turn_end_of
from transformers import AutoTokenizer

from crossward.core.records import Response
from crossward.engines.protocols import ModelSpec
from crossward.engines.tokens import ChatTokens, compare_tokens, load_tokens
from crossward.tinyworld.tokenizer import build_tokenizer

TOKENS = {name: ChatTokens(make_tokenizer(name), name=name) for name in FAMILIES}
RENDERED = {  # written by hand: what each template must render for "Di", BOS included
    "chatml": "<|im_start|>user\nDi<|im_end|>\n<|im_start|>assistant\n",
    "llama3": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nDi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "gemma": "<bos><start_of_turn>user\nDi<end_of_turn>\n<start_of_turn>model\n",
    "mistral": "<s>[INST] Di [/INST]",
    "neox": "User: Di\n\nAssistant:",
}
ODD_TEXT = st.one_of(
    st.text(max_size=30),
    st.builds(lambda a, b, c: a + b + c, st.sampled_from(["", " ", "\n", "\n\n", "  \t"]), st.text(max_size=12),
              st.sampled_from(["", " ", "\n", " Hola", "苹果", "é", "🍎"])),
)  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_prompt_is_the_rendered_template_with_one_bos(name: str):
    ids = TOKENS[name].prompt_ids("Di")
    tokenizer = make_tokenizer(name)
    assert tokenizer.decode(list(ids)) == RENDERED[name]
    bos = tokenizer.bos_token_id
    assert ids.count(bos) == (0 if bos is None else 1)
    if bos is not None:
        assert ids[0] == bos


@pytest.mark.parametrize("name", FAMILIES)
def test_a_conversation_is_rendered_turn_by_turn(name: str):
    rendered = {  # by hand: "Di", the answer "Sol", then "Ya"
        "chatml": "<|im_start|>user\nDi<|im_end|>\n<|im_start|>assistant\nSol<|im_end|>\n"
        "<|im_start|>user\nYa<|im_end|>\n"
        "<|im_start|>assistant\n",
        "llama3": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nDi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nSol<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nYa<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "gemma": "<bos><start_of_turn>user\nDi<end_of_turn>\n<start_of_turn>model\nSol<end_of_turn>\n"
        "<start_of_turn>user\nYa<end_of_turn>\n<start_of_turn>model\n",
        "mistral": "<s>[INST] Di [/INST] Sol</s>[INST] Ya [/INST]",
        "neox": "User: Di\n\nAssistant: Sol<|endoftext|>User: Ya\n\nAssistant:",
    }
    ids = TOKENS[name].conversation_ids(("Di", "Sol", "Ya"))
    assert make_tokenizer(name).decode(list(ids)) == rendered[name]
    assert TOKENS[name].conversation_ids(("Di",)) == TOKENS[name].prompt_ids("Di")


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=60, deadline=None)
@given(instruction=ODD_TEXT, text=ODD_TEXT)
def test_boundaries_never_move(name: str, instruction: str, text: str):
    tokens = TOKENS[name]
    prompt = tokens.prompt_ids(instruction)
    response = tokens.response_ids(Response(text=text))
    cut = tokens.response_ids(Response(text=text, finish_reason="length"))
    assert prompt == tokens.prompt_ids(instruction)
    assert response == (*cut, tokens.end_of_turn_id)
    # Nothing but the end of turn is special, whatever the text spells out, and the text comes back untouched.
    assert not tokens.stop_ids.intersection(cut)
    assert tokens.decode(response) == tokens.decode(cut) == text
    # The sampler's own ids are taken as they are, even where tokenising the text again would give others.
    assert tokens.response_ids(Response(text="else", token_ids=response)) == response


def test_joint_tokenisation_would_have_moved_the_boundary():
    tokens, tokenizer = TOKENS["chatml"], make_tokenizer("chatml")
    prompt, response = tokens.prompt_ids("Di"), tokens.response_ids(Response(text="\n\nHola"))
    joint = tokenizer(RENDERED["chatml"] + "\n\nHola", add_special_tokens=False)["input_ids"]
    assert tuple(joint[: len(prompt)]) != prompt
    assert tokens.names(response) == ["Ċ", "Ċ", "Hola", "<|im_end|>"]


@pytest.mark.parametrize("name", FAMILIES)
def test_end_of_turn_stop_and_pad(name: str, tmp_path: Path):
    tokens = load_tokens(ModelSpec(path=str(make_family(name, tmp_path)), dtype="float32"))
    assert tokens.names([tokens.end_of_turn_id]) == [turn_end_of(name)]
    expected = {
        "chatml": ({"<|im_end|>", "<|endoftext|>"}, "<|endoftext|>"),
        "llama3": ({"<|eot_id|>", "<|end_of_text|>"}, "<|end_of_text|>"),
        "gemma": ({"<eos>", "<end_of_turn>"}, "<pad>"),
        "mistral": ({"</s>"}, "</s>"),
        "neox": ({"<|endoftext|>"}, "<|endoftext|>"),
    }[name]
    assert set(tokens.names(sorted(tokens.stop_ids))) == expected[0]
    assert tokens.names([tokens.pad_id]) == [expected[1]]


@pytest.mark.parametrize("name", FAMILIES)
def test_text_cannot_forge_special_tokens(name: str):
    tokens, tokenizer = TOKENS[name], make_tokenizer(name)
    for special in [*tokenizer.all_special_tokens, turn_end_of(name)]:
        ids = tokens.response_ids(Response(text=f"a{special}b", finish_reason="length"))
        assert tokenizer.convert_tokens_to_ids(special) not in ids
        assert tokens.decode(ids) == f"a{special}b"


def test_whole_word_vocabulary_cannot_be_forged_either():
    """A word-level model finds "<end>" among its words even when special tokens are not matched."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<unk>": 0, "<end>": 1, "Hola": 2, "mundo": 3}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="<end>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} <end> {% endfor %}"
    tokens = ChatTokens(tokenizer)
    assert tokens.names(tokens.response_ids(Response(text="Hola mundo"))) == ["Hola", "mundo", "<end>"]
    assert 1 not in tokens.response_ids(Response(text="Hola <end> mundo", finish_reason="length"))


def test_decode_stops_before_the_first_stop_id_and_strips_nothing():
    tokens = TOKENS["chatml"]
    body = tokens.response_ids(Response(text=" \nHola ", finish_reason="length"))
    end = tokens.end_of_turn_id
    assert tokens.decode((*body, end, *body)) == " \nHola "
    assert tokens.decode((end,)) == ""


def test_ids_of_another_tokenizer_are_not_taken():
    tokens = TOKENS["chatml"]
    ids = (*tokens.response_ids(Response(text="Hola", finish_reason="length")), tokens.end_of_turn_id)
    ours = Response(text="Hola", token_ids=ids)
    assert tokens.own(ours) is ours
    for other in ((ids[0] + 1, *ids[1:]), (10**9,), (-1,)):
        assert tokens.own(Response(text="Hola", token_ids=other)) == Response(text="Hola")


def test_two_bos_are_refused_and_the_template_named():
    tokenizer = make_tokenizer("llama3")
    tokenizer.chat_template = "{{ bos_token }}" + str(tokenizer.chat_template)
    with pytest.raises(ValueError, match="chat template of mine begins with two BOS"):
        ChatTokens(tokenizer, name="mine")


def test_no_template_and_no_end_of_turn_are_refused():
    tokenizer = make_tokenizer("neox")
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        ChatTokens(tokenizer)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    assert ChatTokens(tokenizer).end_of_turn_id == tokenizer.eos_token_id
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="no end of turn"):
        ChatTokens(tokenizer)


def test_templates_with_a_date_render_the_same_every_day():
    tokenizer = make_tokenizer("chatml")
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + str(tokenizer.chat_template)
    rendered = str(tokenizer.decode(list(ChatTokens(tokenizer).prompt_ids("Di"))))
    assert rendered.startswith("26 Jul 2024<|im_start|>")


def test_fingerprint_and_comparison_see_each_difference(tmp_path: Path):
    folder = make_family("gemma", tmp_path)
    tokens = load_tokens(ModelSpec(path=str(folder), dtype="float32"))
    same = load_tokens(ModelSpec(path=str(folder), dtype="float32"))
    assert compare_tokens(tokens, same) == []
    assert tokens.fingerprint() == same.fingerprint()
    changes = {"template": "chat templates differ", "token": "vocabularies differ", "pad": "pad ids differ"}
    for change, sentence in changes.items():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if change == "template":
            tokenizer.chat_template = str(tokenizer.chat_template).replace("model\n", "model \n")
        elif change == "token":
            tokenizer.add_tokens(["nuevo"])
        else:
            tokenizer.pad_token = "<eos>"
        other = ChatTokens(tokenizer, generation_eos=tokens.stop_ids)
        (difference,) = compare_tokens(tokens, other)
        assert sentence in difference
        assert other.fingerprint() != tokens.fingerprint()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_missing_tokenizer_is_refused_even_where_transformers_makes_an_empty_one(name: str, tmp_path: Path):
    folder = make_family(name, tmp_path)
    for file in folder.glob("*token*"):
        file.unlink()
    with pytest.raises(ValueError, match="tokenizer"):
        load_tokens(ModelSpec(path=str(folder), dtype="float32"))


def test_a_text_without_its_ids_is_refused(tmp_path: Path):
    """No tokens would be a reward of exactly 0."""
    tokens = load_tokens(ModelSpec(path=str(make_family("chatml", tmp_path)), dtype="float32", device="cpu"))
    with pytest.raises(ValueError, match="'Hola' has a text but no token ids"):
        tokens.response_ids(Response(text="Hola", token_ids=()))
    assert tokens.response_ids(Response(text="", token_ids=(), finish_reason="length")) == ()


@pytest.mark.parametrize("name", FAMILIES)
def test_pieces_are_the_text_cut_at_its_tokens(name: str):
    tokens = TOKENS[name]
    for text in ("Hola, mar azul. ¿Qué?", "  two  spaces\n\nlines", "ทะเล 海 👩‍👩‍👧", ""):
        for reason in ("stop", "length"):
            ids = tokens.response_ids(Response(text=text, finish_reason=reason))
            pieces = tokens.pieces(ids)
            assert len(pieces) == len(ids)
            assert "".join(pieces) == tokens.decode(ids)
            if reason == "stop":
                assert pieces[-1] == "", "the end of turn shows nothing"


def test_pieces_keep_spaces_that_are_written_only_between_tokens():
    """A word alone decodes without its space; the tiny world's tokens are whole words."""
    tokens = ChatTokens(build_tokenizer(), name="words")
    ids = tokens.response_ids(Response(text="1 apple 2 pear"))
    assert tokens.decode(ids) == "1 apple 2 pear"
    assert tokens.pieces(ids) == ["1", " apple", " 2", " pear", ""]
