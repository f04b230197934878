"""Every reader of foreign input, on valid files made wrong: a value or a sentence, as tests/support/reader_rule.py asks.

Few examples, the same every time; benchmarks/fuzzing.py goes on from here for as long as it is given.
"""

from pathlib import Path

import pytest
from benchmarks.fuzz_answers import TARGETS as ANSWERS
from benchmarks.fuzz_files import TARGETS as FILES
from benchmarks.fuzz_files import Target
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.mutations import wrong_files
from tests.support.reader_rule import broken_rule

EXAMPLES = {"run": 6, "tokenizer": 8, "tokenizer-config": 8, "generation-config": 8, "model-config": 8, "hardware": 4}


@pytest.mark.parametrize("target", [*FILES, *ANSWERS], ids=lambda target: target.name)
def test_a_wrong_file_is_a_value_or_a_sentence(target: Target, tmp_path: Path):
    seeds = target.seeds()

    @settings(max_examples=EXAMPLES.get(target.name, 12), suppress_health_check=list(HealthCheck), database=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        content = data.draw(wrong_files(seeds, target.kind))
        finding = broken_rule(lambda: target.read(content, tmp_path), target.names)
        assert finding is None, f"{finding}\n{content[:500]!r}"

    check()


@pytest.mark.parametrize("target", [*FILES, *ANSWERS], ids=lambda target: target.name)
def test_the_first_valid_file_is_read(target: Target, tmp_path: Path):
    target.read(target.seeds()[0], tmp_path)
