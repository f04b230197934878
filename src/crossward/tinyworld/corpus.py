"""What the tiny world's models are trained on before the method begins: instructions with answers, English preferences.

π_I learns from a mixture that is imbalanced as the real one is: mostly English, hardly any native Swahili, answers in
another language than the instruction (with the steering line), lists and words translated. π_0 learns English
preferences only. In hard mode (a Mixing is given) answers mix languages, translations do not. Knows no model;
randomness is an argument.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from crossward.core.instructions import judged_under
from crossward.core.language import language_name
from crossward.tinyworld.mixing import Mixing, mixed, translation
from crossward.tinyworld.vocabulary import LANGUAGES, Language, items
from crossward.tinyworld.world import Answer, Habits, Request, corrupt, gold, requests, write_answer

NATIVE_SHARES: dict[Language, float] = {"en": 80, "es": 8, "de": 6, "fr": 4, "sw": 2}
KIND_SHARES = {"native": 45, "crosslingual": 35, "list": 10, "dictionary": 10}
SMALLEST_GOLD_GAP = 0.08  # of an English preference pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An instruction and the answer to imitate."""

    instruction: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """An English request with a better and a worse answer."""

    instruction: str
    chosen: str
    rejected: str


def translation_request(text: str, target: Language) -> str:
    """The request for a text in another language.

    >>> translation_request("gato", "en")
    'Translate into English : gato'
    """
    return f"Translate into {language_name(target)} : {text}"


def examples(n: int, rng: random.Random, mixing: Mixing | None = None) -> Iterator[Example]:
    """n examples of the mixture that makes π_I."""
    everything = requests()
    for kind in rng.choices(list(KIND_SHARES), list(KIND_SHARES.values()), k=n):
        request = rng.choice(everything)
        match kind:
            case "native":
                language = rng.choices(list(NATIVE_SHARES), list(NATIVE_SHARES.values()))[0]
                answer = _answer(request, language, rng, mixing)
                yield Example(instruction=request.text(language), answer=answer)
            case "crosslingual":
                language = rng.choice(LANGUAGES[1:])
                answer = _answer(request, language, rng, mixing)
                yield Example(instruction=judged_under(request.prompt(language), "crosslingual"), answer=answer)
            case "list":
                source, target = rng.sample(LANGUAGES, 2)
                answered = write_answer(request, source, Habits(), rng)
                instruction = translation_request(answered.text(), target)
                yield Example(instruction=instruction, answer=_translated(answered, target).text())
            case _:
                source, target = rng.sample(LANGUAGES, 2)
                text, translated = _entry(request, source, target, rng)
                yield Example(instruction=translation_request(text, target), answer=translated)


def template_preferences(
    n: int, allowed: list[Request], rng: random.Random, mixing: Mixing | None = None
) -> Iterator[Preference]:
    """n pairs of fresh English answers whose gold differs clearly; no answer is used twice."""
    made = 0
    while made < n:
        request = rng.choice(allowed)
        answers = [_answer(request, "en", rng, mixing) for _ in range(2)]
        if (pair := preference(request, *answers)) is not None:
            made += 1
            yield pair


def corrupted_preferences(
    n: int, allowed: list[Request], rng: random.Random, mixing: Mixing | None = None
) -> Iterator[Preference]:
    """n English answers against themselves with one word dropped, doubled or moved: text that is whole is preferred."""
    for _ in range(n):
        request = rng.choice(allowed)
        text = _answer(request, "en", rng, mixing)
        yield Preference(instruction=request.text("en"), chosen=text, rejected=corrupt(text, rng))


def preference(request: Request, first: str, second: str) -> Preference | None:
    """The pair that gold makes of two English answers; None where they are too close."""
    prompt = request.prompt("en")
    gap = gold(prompt, first) - gold(prompt, second)
    if abs(gap) < SMALLEST_GOLD_GAP:
        return None
    better, worse = (first, second) if gap > 0 else (second, first)
    return Preference(instruction=request.text("en"), chosen=better, rejected=worse)


def _answer(request: Request, language: Language, rng: random.Random, mixing: Mixing | None) -> str:
    answer = write_answer(request, language, Habits(), rng)
    return (answer if mixing is None else mixed(answer, language, mixing, rng)).text()


def _translated(answer: Answer, target: Language) -> Answer:
    words = tuple(translation(word, target) for word in answer.words)
    return Answer(words=words, numbered=answer.numbered, tidy=answer.tidy)


def _entry(request: Request, source: Language, target: Language, rng: random.Random) -> tuple[str, str]:
    """A word or a whole request in two languages."""
    if rng.random() < 0.5:
        return request.text(source), request.text(target)
    k = rng.randrange(len(items(request.category, source)))
    return items(request.category, source)[k], items(request.category, target)[k]
