"""The tiny world's tokenizer: one token a word, a real fast tokenizer with a chat template, nothing learnt.

Whitespace parts words and is not kept, so a sentence of the world comes back from its tokens as it was, while the blank
line behind the steering line does not. Start, end of turn, padding and unknown are four different tokens.
"""

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from crossward.core.instructions import judged_under
from crossward.tinyworld.corpus import translation_request
from crossward.tinyworld.vocabulary import LANGUAGES
from crossward.tinyworld.world import Request, all_words

PAD, START, END_OF_TURN, UNKNOWN, USER, ASSISTANT = "<pad>", "<s>", "<end>", "<unk>", "<user>", "<assistant>"
SPECIAL = (PAD, START, END_OF_TURN, UNKNOWN, USER, ASSISTANT)
MODEL_MAX_LENGTH = 128

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<user>' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ '<assistant>' + message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('the tiny world knows the roles user and assistant only') }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer, the same each time it is built."""
    first = Request(category="animals", count=2, template=0)
    steering = [judged_under(first.prompt(language), "crosslingual") for language in LANGUAGES]
    translation = [translation_request("", language) for language in LANGUAGES]
    words = [*SPECIAL, *all_words(), *" ".join(steering + translation).split()]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=START,
        eos_token=END_OF_TURN,
        unk_token=UNKNOWN,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=MODEL_MAX_LENGTH,
        padding_side="left",
    )
