"""FLORES-200 codes of the languages that the method is run in, and one sentence for what is not there."""

import re

import pytest

from crossward.core.flores import FLORES, flores_code
from crossward.core.language import NAMES


def test_codes_have_their_form_and_belong_to_languages_with_names():
    assert FLORES.keys() <= NAMES.keys()
    assert len(FLORES) > 43
    assert all(re.fullmatch(r"[a-z]{3}_[A-Z][a-z]{3}", code) for code in FLORES.values())
    wanted = {
        "ar": "arb_Arab", "bn": "ben_Beng", "de": "deu_Latn", "en": "eng_Latn", "es": "spa_Latn", "fr": "fra_Latn",
        "it": "ita_Latn", "ja": "jpn_Jpan", "ko": "kor_Hang", "ru": "rus_Cyrl", "sw": "swh_Latn", "th": "tha_Thai",
        "zh": "zho_Hans",
    }  # fmt: skip
    assert {code: flores_code(code) for code in wanted} == wanted


def test_only_the_two_norwegian_codes_share_one():
    values = list(FLORES.values())
    assert {value for value in values if values.count(value) > 1} == {"nob_Latn"}


def test_unknown_languages_are_told():
    with pytest.raises(ValueError, match="FLORES-200 has no Latin"):
        flores_code("la")
    with pytest.raises(ValueError, match="unknown language code 'xx'"):
        flores_code("xx")
