"""Parquet shards: exact round trips, equal bytes, and every damage told as one sentence."""

import math
import tempfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.store.strategies import OUTCOMES, RATED, SAMPLED, SCORED
from tests.support.live import counting

from crossward.core.records import (
    PreferencePair,
    Prompt,
    Response,
    SampledPrompt,
    ScoredPrompt,
    ScoredResponse,
    Skipped,
)
from crossward.store import parquet_files, table_rows, tables

KINDS = {
    "sampled": (tables.write_sampled, tables.read_sampled),
    "scored": (tables.write_scored, tables.read_scored),
    "rated": (tables.write_rated, lambda path: list(tables.stream_rated(path))),
    "outcomes": (tables.write_outcomes, tables.read_outcomes),
}
STRIDE = 11  # of the bytes flipped: all of them take 8 seconds a mask
PROMPT = Prompt(id="7", language="es", instruction="¿Qué?\n\u2028", english_instruction="What?")


def scored(text: str, policy: float, ids: tuple[int, ...] | None = (1, 2)) -> ScoredResponse:
    return ScoredResponse(
        response=Response(text=text, token_ids=ids), policy_logprob=policy, reference_logprob=-2.5, n_tokens=2
    )


GROUP = ScoredPrompt(
    prompt=PROMPT, view="crosslingual", judged_under="What?", responses=(scored("sí", -0.1), scored("", 0.0, None))
)
PAIR = PreferencePair(
    prompt=PROMPT,
    chosen=scored("sí", -0.1),
    rejected=scored("no", -9.0),
    alpha=0.01,
    chosen_score=2.4,
    rejected_score=-7,
)


def round_trip(kind: str, records: list) -> list:
    """What is read back; the bytes depend on the records alone."""
    write, read = KINDS[kind]
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "a.parquet", Path(folder) / "b.parquet"
        write(first, records)
        write(second, records)
        assert first.read_bytes() == second.read_bytes()
        found = read(first)
        write(second, found)
        assert first.read_bytes() == second.read_bytes()
        assert parquet_files.count_rows(first) == len(records)
        return found


@settings(max_examples=25, deadline=None)
@given(st.lists(SAMPLED, max_size=4))
def test_sampled_round_trip(records):
    assert round_trip("sampled", records) == records


@settings(max_examples=25, deadline=None)
@given(st.lists(RATED, max_size=4))
def test_rated_round_trip(records):
    assert round_trip("rated", records) == records


@settings(max_examples=25, deadline=None)
@given(st.lists(SCORED, max_size=4))
def test_scored_round_trip(records):
    assert round_trip("scored", records) == records


@settings(max_examples=25, deadline=None)
@given(st.lists(OUTCOMES, max_size=4))
def test_outcomes_round_trip(records):
    assert round_trip("outcomes", records) == records


def test_absent_ids_are_not_empty_ids(tmp_path):
    responses = (Response(text="a", token_ids=None), Response(text="b", token_ids=()))
    tables.write_sampled(tmp_path / "a", [SampledPrompt(prompt=PROMPT, responses=responses)])
    (group,) = tables.read_sampled(tmp_path / "a")
    assert [response.token_ids for response in group.responses] == [None, ()]


def test_floats_keep_every_bit(tmp_path):
    values = (math.nextafter(0.1, 1), 5e-324, -0.0, math.pi * 1e300)
    group = ScoredPrompt(
        prompt=PROMPT, view="multilingual", judged_under="", responses=tuple(scored("x", value) for value in values)
    )
    tables.write_scored(tmp_path / "a", [group])
    (read,) = tables.read_scored(tmp_path / "a")
    assert [item.policy_logprob.hex() for item in read.responses] == [value.hex() for value in values]


def test_types_and_compression_on_disk(tmp_path):
    path = tmp_path / "a.parquet"
    tables.write_scored(path, [GROUP])
    item = pq.read_schema(path).field("responses").type.value_type
    assert item.field("token_ids").type.value_type == pa.int32()
    assert item.field("policy_logprob").type == pa.float64()
    assert pq.read_metadata(path).row_group(0).column(0).compression == "ZSTD"


def read_or_refusal(path: Path) -> list | str:
    try:
        return tables.read_outcomes(path)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize(("mask", "start"), [(0x01, 0), (0x10, 3), (0x80, 7)])
def test_every_flipped_byte_is_harmless_or_a_sentence(tmp_path, mask, start):
    path = tmp_path / "part.parquet"
    records = [PAIR, Skipped(prompt=PROMPT, reason="tie")]
    tables.write_outcomes(path, records)
    whole = path.read_bytes()
    refusals = 0
    for position in range(start, len(whole), STRIDE):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ mask]) + whole[position + 1 :])
        match read_or_refusal(path):
            case str(sentence):
                refusals += 1
                assert sentence.startswith(f"shard {path} is damaged or foreign (")
                assert sentence.endswith("): delete it and run again, only that shard is redone")
            case found:
                assert found == records, position
    assert refusals > len(whole) / STRIDE / 3


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated(tmp_path, share):
    path = tmp_path / "part.parquet"
    tables.write_scored(path, [GROUP] * 5)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"part\.parquet is damaged or foreign .*delete it and run again"):
        tables.read_scored(path)


def test_foreign_table_names_the_columns(tmp_path):
    path = tmp_path / "part.parquet"
    tables.write_sampled(path, [SampledPrompt(prompt=PROMPT, responses=())])
    with pytest.raises(ValueError, match=r"column 'view' is missing.*column 'responses' is list"):
        tables.read_scored(path)
    pq.write_table(pa.table({"id": ["1"], "extra": [2]}), path)
    with pytest.raises(ValueError, match=r"column 'language' is missing.*column 'extra' is unexpected"):
        tables.read_sampled(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcome": "won"}, "row 2: field 'outcome' is 'won', expected 'pair' or 'skipped'"),
        ({"outcome": "pair"}, "row 2: field 'chosen' is empty, expected a value in a pair"),
        ({"reason": "bored"}, "row 2: field 'reason' is 'bored', expected one of empty, truncated"),
        ({"reason": None}, "row 2: field 'reason' is None"),
    ],
)
def test_wrong_values_name_row_and_field(tmp_path, change, message):
    path = tmp_path / "part.parquet"
    tables.write_outcomes(path, [PAIR, Skipped(prompt=PROMPT, reason="tie")])
    first, second = pq.read_table(path).to_pylist()
    pq.write_table(pa.Table.from_pylist([first, second | change], schema=table_rows.OUTCOMES), path)
    with pytest.raises(ValueError, match=message):
        tables.read_outcomes(path)


def test_missing_shard_and_folder(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.parquet does not exist"):
        tables.read_sampled(tmp_path / "gone.parquet")
    with pytest.raises(ValueError, match=r"damaged or foreign \(a folder\): delete it and run again"):
        tables.read_sampled(tmp_path)


def test_rows_that_are_not_those_written_are_refused(tmp_path):
    """As where a flipped bit in the footer, which has no checksum, leads to other pages."""
    path = tmp_path / "part.parquet"
    tables.write_scored(path, [GROUP, GROUP])
    known = pq.read_metadata(path).metadata[b"crossward.rows"]
    rows = pq.read_table(path)
    pq.write_table(rows.slice(0, 1).replace_schema_metadata({"crossward.rows": known}), path)
    with pytest.raises(ValueError, match="its rows are not those that were written"):
        tables.read_scored(path)
    pq.write_table(rows.slice(0, 1).replace_schema_metadata({}), path)  # of an earlier version
    assert tables.read_scored(path) == [GROUP]


def test_stale_temporary_is_ignored_and_overwritten(tmp_path):
    stale = tmp_path / ".part.parquet.tmp"
    stale.write_bytes(b"half")
    tables.write_scored(tmp_path / "part.parquet", [GROUP])
    assert tables.read_scored(tmp_path / "part.parquet") == [GROUP]
    assert not stale.exists()


def test_a_record_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "part.parquet"
    tables.write_scored(path, [GROUP])
    before = path.read_bytes()

    def broken():
        yield GROUP
        raise RuntimeError("engine died")

    with pytest.raises(RuntimeError):
        tables.write_scored(path, broken())
    assert path.read_bytes() == before


def many(n: int):
    for i in range(n):
        prompt = Prompt(id=str(i), language="es", instruction="¿Qué?", english_instruction="What?")
        yield ScoredPrompt(prompt=prompt, view="crosslingual", judged_under="What?", responses=GROUP.responses)


def test_row_groups_are_written_and_read_as_they_come(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_files, "ROW_GROUP", 16)
    most = 0
    with counting(ScoredPrompt) as live:

        def watched():
            nonlocal most
            for record in many(100):
                most = max(most, live())
                yield record

        tables.write_scored(tmp_path / "stream", watched())
        assert 0 < most <= 2, "rows are buffered, records are not"
    tables.write_scored(tmp_path / "list", list(many(100)))
    assert (tmp_path / "stream").read_bytes() == (tmp_path / "list").read_bytes()
    assert pq.read_metadata(tmp_path / "stream").num_row_groups == 7
    with counting(ScoredPrompt) as live:
        for i, record in enumerate(tables.stream_scored(tmp_path / "stream")):
            assert record.prompt.id == str(i)
            assert 0 < live() <= 2
    assert tables.read_scored(tmp_path / "stream") == list(many(100))


def test_no_record_is_a_file_too(tmp_path):
    tables.write_outcomes(tmp_path / "none", [])
    assert tables.read_outcomes(tmp_path / "none") == []
    assert parquet_files.count_rows(tmp_path / "none") == 0


def test_a_row_is_named_in_whatever_row_group(tmp_path):
    path = tmp_path / "part.parquet"
    records = [Skipped(prompt=PROMPT, reason="tie")] * 5
    tables.write_outcomes(path, records)
    rows = pq.read_table(path).to_pylist()
    rows[4]["reason"] = "bored"
    pq.write_table(pa.Table.from_pylist(rows, schema=table_rows.OUTCOMES), path, row_group_size=2)
    stream = tables.stream_outcomes(path)
    assert [next(stream) for _ in range(4)] == records[:4]
    with pytest.raises(ValueError, match="row 5: field 'reason' is 'bored'"):
        next(stream)


def test_responses_are_counted(tmp_path):
    responses = (Response(text="a"), Response(text="b"))
    tables.write_sampled(
        tmp_path / "a", [SampledPrompt(prompt=PROMPT, responses=r) for r in (responses, (), responses)]
    )
    assert tables.count_responses(tmp_path / "a") == 4


def test_one_prompt_is_read_without_the_row_groups_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parquet_files, "ROW_GROUP", 2)
    path = tmp_path / "0.parquet"
    groups = [replace(GROUP, prompt=replace(PROMPT, id=str(number))) for number in (0, 1, 2, 3, 2)]
    tables.write_scored(path, groups)
    assert list(tables.stream_scored(path, id="2")) == [groups[2], groups[4]]
    assert list(tables.stream_scored(path, id="\udcff")) == []
    texts = next(
        column
        for column in map(pq.read_metadata(path).row_group(0).column, range(20))
        if column.path_in_schema == "responses.list.element.text"
    )
    content = bytearray(path.read_bytes())
    content[texts.data_page_offset + texts.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(content)
    for id in ("1", None):
        with pytest.raises(ValueError, match="is damaged"):
            list(tables.stream_scored(path, id=id))
    assert list(tables.stream_scored(path, id="2")) == [groups[2], groups[4]], "the first row group was not opened"
