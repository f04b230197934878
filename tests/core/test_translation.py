"""Requests, answers, and what is seen to be wrong with a translation: each rule by hand, and what must pass."""

import pytest

from crossward.core.language import Identification
from crossward.core.translation import (
    Problem,
    Translation,
    length_ratio,
    parse_template,
    problems,
    prose_of,
    read_answer,
    speaks_of_languages,
)

TAGGED = "From {source} to {target}, between <translated> and </translated>: {text}"


def found(
    source_text: str, translation: str, *, target: str = "es", language: str | None = None, confidence: float = 0.99
) -> tuple[Problem, ...]:
    identified = None if language is None else Identification(language=language, confidence=confidence)
    return problems(source_text, translation, source="en", target=target, identified=identified)


def test_a_text_is_put_into_a_request_as_it_is():
    template = parse_template(TAGGED, "t")
    text = "Fill {text}, {source}, {{name}} and \\1 { in \\g<0>"
    assert template.parse == "tags"
    assert template.render(text, source="en", target="sw") == (
        f"From English to Swahili, between <translated> and </translated>: {text}"
    )


def test_templates_say_what_they_lack_and_the_parse_follows_the_words():
    assert parse_template("Into {target} : {text}\n", "t").parse == "plain"
    assert parse_template("Into {target} : {text}\n", "t").text == "Into {target} : {text}"
    assert parse_template(TAGGED, "t", parse="plain").parse == "plain"
    for text, sentence in (
        ("Into {target}", r"template t lacks the field \{text\}"),
        ("{text}", r"template t lacks the field \{target\}"),
        ("{text} {target} {tone}", r"unknown field \{tone\}"),
    ):
        with pytest.raises(ValueError, match=sentence):
            parse_template(text, "t")
    with pytest.raises(ValueError, match="does not ask for <translated>"):
        parse_template("Into {target}: {text}", "t", parse="tags")


@pytest.mark.parametrize(
    ("answer", "ended", "text", "problem"),
    [
        ("<translated>\nHola\n</translated>", True, "Hola", None),
        ("So: <translated>a\n\nb</translated> done", False, "a\n\nb", None),  # cut behind the translation
        ("<translated>a</translated> <translated>b</translated>", True, "a", None),
        ("Hola", True, None, "no-tags"),
        ("</translated>Hola<translated>", True, None, "no-tags"),
        ("Hola", False, None, "truncated"),
        ("<translated>Hol", False, None, "truncated"),
        ("<translated>Hola", True, None, "no-tags"),
        ("<translated>  </translated>", True, None, "empty"),
    ],
)
def test_answers_between_tags(answer: str, ended: bool, text: str | None, problem: str | None):
    read = read_answer(answer, ended=ended, parse="tags")
    assert (read.text, read.problem) == (text, problem)
    assert read.draft == ("" if text else answer)


def test_tags_within_the_text_itself_are_part_of_it():
    answer = "<translated>Quita <translated>x</translated> de aquí</translated>"
    read = read_answer(answer, ended=True, parse="tags", source_text="Remove <translated>x</translated> here")
    assert read.text == "Quita <translated>x</translated> de aquí"


def test_plain_answers_are_whole_or_cut():
    assert read_answer(" Hola \n", ended=True, parse="plain") == Translation(text="Hola")
    assert read_answer("Hol", ended=False, parse="plain").problem == "truncated"
    assert read_answer(" ", ended=True, parse="plain").problem == "empty"


def test_absence_has_a_reason():
    with pytest.raises(AssertionError):
        Translation(text=None)
    with pytest.raises(AssertionError):
        Translation(text="Hola", problem="no-tags")


ENGLISH = "Please write a short letter to my neighbour about the noise."
SPANISH = "Por favor, escribe una carta breve a mi vecino sobre el ruido."


def test_a_good_translation_has_no_problem():
    assert found(ENGLISH, SPANISH, language="es") == ()
    assert found(ENGLISH, SPANISH) == ()


def test_the_wrong_language_counts_from_a_confidence_on():
    assert found(ENGLISH, "Bitte schreibe einen kurzen Brief an meinen Nachbarn.", language="de") == ("wrong-language",)
    assert found(ENGLISH, SPANISH, language="pt", confidence=0.89) == ()
    assert found(ENGLISH, SPANISH, language="pt", confidence=0.9) == ("wrong-language",)
    # Still in the source's language: half is enough.
    assert found(ENGLISH, SPANISH, language="en", confidence=0.5) == ("wrong-language",)
    assert found(ENGLISH, SPANISH, language="en", confidence=0.49) == ()


def test_a_text_about_languages_may_hold_one():
    about = "Translate this letter into German: my neighbour makes too much noise."
    assert found(about, "Traduce esta carta al alemán: mi vecino hace demasiado ruido.", language="de") == ()
    assert speaks_of_languages("Which Swahili word is it?")
    assert not speaks_of_languages("Please polish this English text.")
    response = problems("Di algo en French", "Bonjour à tous", source="es", target="en",
                        identified=Identification(language="fr", confidence=1.0))  # fmt: skip
    assert "wrong-language" in response  # known of English texts only


def test_long_prose_must_change_and_names_may_stay():
    assert found(ENGLISH, ENGLISH.upper() + "\n", language="en") == ("unchanged",)
    assert found("Pizza Margherita", "Pizza Margherita") == ()
    assert (
        found("```\nprint('a long line of code that stays')\n```", "```\nprint('a long line of code that stays')\n```")
        == ()
    )


@pytest.mark.parametrize(
    ("source", "translation", "problem"),
    [
        ("Explain:\n```\nx = 'red'\n```", "Explica:\n```\nx = 'rojo'\n```", "code-block-lost"),
        ("Explain:\n```\nx\n```", "Explica:\n```\nx\n```\n```\nx\n```", "code-block-lost"),
        ("Explain this code:\n```\nx\n```", "Explica este código:", "code-block-lost"),
        ("What does `len(x)` do?", "¿Qué hace len(x)?", "inline-code-lost"),
        ("Name 5 animals", "Nombra cinco animales", "number-lost"),
        ("Summarise https://a.org/b.", "Resume https://a.org/c.", "url-lost"),
        ("Write to a@b.org and a@b.org", "Escribe a a@b.org", "url-lost"),
        ("Greet {name} and %s", "Saluda a {nombre} y %s", "placeholder-lost"),
        ("Dear [NAME], from [FIRM]", "Querido [NOMBRE], de", "placeholder-lost"),
        (ENGLISH, "Escribe.", "length-ratio"),
        (ENGLISH, SPANISH * 5, "length-ratio"),
    ],
)
def test_each_loss_is_seen_alone(source: str, translation: str, problem: str):
    assert found(source, translation) == (problem,)


def test_what_is_kept_is_no_loss():
    source = "Dear {name}, run `ls -l` 3 times, see https://a.org/b and mail [NAME]:\n```sh\nls -l\n```"
    kept = "Querido {name}: ejecuta `ls -l` 3 veces, mira https://a.org/b y escribe a [NOMBRE]:\n```sh\nls -l\n```"
    assert found(source, kept, language="es") == ()


def test_several_problems_are_told_worst_first():
    assert found("Name 5 animals at https://a.org", "Nenne Tiere", language="de") == (
        "wrong-language",
        "number-lost",
        "url-lost",
    )


def test_an_empty_translation_and_an_empty_text():
    assert found(ENGLISH, " \n") == ("empty",)
    assert found(" ", "") == ()


def test_length_is_counted_in_characters_of_english():
    # (33 / 0.33 + 15) / (100 + 15) = 1: a third of the characters is usual for Chinese, and odd for Spanish.
    assert length_ratio("a" * 100, "字" * 33, source="en", target="zh") == pytest.approx(1.0)
    assert length_ratio("字" * 33, "a" * 100, source="zh", target="en") == pytest.approx(1.0)
    assert length_ratio("a" * 1000, "a" * 3030, source="en", target="es") == pytest.approx(3.0)
    assert length_ratio("a" * 10, "a" * 60, source="en", target="es") == pytest.approx(3.0)
    assert "length-ratio" not in found("a" * 1000, "字" * 330, target="zh")
    assert "length-ratio" in found("a" * 1000, "a" * 323)
    assert "length-ratio" not in found("a" * 1000, "a" * 324)


def test_prose_has_no_code():
    assert prose_of("Sag `hello` ```\nhello world\n``` bitte").split() == ["Sag", "bitte"]
