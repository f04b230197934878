"""What fuzzing found, each with the smallest input that shows it: once a traceback, a hang or a wall of text."""

import io
import re
import struct
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmarks.fuzz_answers import TARGETS as ANSWERS
from benchmarks.fuzz_files import TARGETS as FILES
from tests.support.reader_rule import broken_rule
from tests.support.report_runs import make_run

from crossward.core.judging import parse_template
from crossward.core.mt_bench import parse_rating
from crossward.core.rating import parse_points
from crossward.engines import connections
from crossward.pipeline.run_state import run_found
from crossward.store import parquet_files
from crossward.store.metrics_file import read_metrics
from crossward.store.parquet_files import implausible
from crossward.store.rows import Source, located_rows
from crossward.store.shard_reasons import read_reasons
from crossward.store.stage_counts import wrong_count
from crossward.store.tracking_file import read_told

TARGETS = {target.name: target for target in (*FILES, *ANSWERS)}
DEEP = b"[" * 3000
DIGITS = b"9" * 5000
BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


NOT_UTF8 = pa.table({"id": ["a"], "instruction": pa.array([b"\xff"]).view(pa.string())})
NO_TIME = pa.table({"id": ["a"], "instruction": pa.array([2**62], pa.duration("s"))})
TWICE = pa.table([["a"], ["b"]], names=["id", "id"])

SENTENCES = {
    "a key that looks like a type": ("recipe", b"'a[b]': 1", "unknown key 'a[b]'"),
    "a key that is a number": ("hardware", b"5: 1", "unknown key '5'"),
    "more mistakes than a person reads": ("recipe", b"{" + b"".join(b"k%d: 1, " % n for n in range(99)) + b"}", "more"),
    "a long value": ("prices", b"currency: [" + b"x" * 5000 + b"]", "currency"),
    "nesting without end in YAML": ("recipe", b"run: " + DEEP, "nested more than 64 deep"),
    "aliases of aliases": ("recipe", BOMB.encode(), "aliases counted each time"),
    "a value inside itself": ("recipe", b"run: &a [*a]", "holds itself"),
    "no number after all": ("recipe", b"run: !!int ''", "line 1: a value that is no int"),
    "no day of any calendar": ("recipe", b"\nrun: 2024-99-99", "line 2: a value that is no timestamp"),
    "no truth": ("recipe", b"run: !!bool x", "no bool"),
    "half a character in YAML": ("experiment", b'\ngrid: {sample.n: {"\\uD800": 1}}', "line 2: the text holds half"),
    "a megabyte of YAML": ("recipe", b"#" * (2**20 + 1), "more than 1048576 characters"),
    "a control character in YAML": ("prices", b"models: \x01", "not valid YAML"),
    "an override without end": ("override", b"sample.n=" + DEEP, "nested"),
    "an override of bytes": ("override", b"\xff" * 500, "must look like section.key=value"),
    "a number of 5,000 digits": ("verdicts", b'{"preference": ' + DIGITS + b"}", "more than 4,300 digits"),
    "a number beyond floats": ("reference-answers", b'[{"id": 1e' + DIGITS + b"}]", "is too large for a number"),
    "an exponent of 5,000 digits": ("verdicts", b'{"preference": 1e' + DIGITS + b"}", "is too large for a number"),
    "field names that steer a terminal": ("prompts-jsonl", b'{"x\\n\\u001b": 1}', "the row has: x␊␛"),
    "long field names": ("groups", b'{"' + b"y" * 5000 + b'": 1}', "field 'language' is missing"),
    "a long id that stands twice": (
        "prompts-csv",
        (b"id,instruction\n" + b"x" * 5000 + b",a\n") + b"x" * 5000 + b",b",
        "id",
    ),
    "a header that steers a terminal": ("prompts-csv", b"a,\x1b\nb", "1 values for 2 columns (a, ␛)"),
    "a column of many names": ("difficulties", b"y" * 5000 + b"\n1", "there is no column"),
    "a quotation that does not end": ("difficulties", b'id,x\n1,"2', "line 2: broken CSV"),
    "a row longer than its header": ("difficulties", b"id,instruction_difficulty\n1,2,3", "3 values for 2 columns"),
    "a text that is not UTF-8 in Parquet": ("prompts-parquet", parquet(NOT_UTF8), "column 'instruction'"),
    "a time that Python has not": ("prompts-parquet", parquet(NO_TIME), "column 'instruction'"),
    "a column that is there twice": ("prompts-parquet", parquet(TWICE), "column 'id' is there twice"),
    "a placeholder without end": (
        "rating-template",
        b"{instruction} {response} {" + b"r" * 5000 + b"}",
        "unknown placeholder",
    ),
    "a field without end": ("translation-template", b"{text} {target} {" + b"r" * 5000 + b"}", "unknown field"),
    "a grid without end": (
        "experiment",
        TARGETS["experiment"]
        .seeds()[0]
        .replace(
            b"  sample.n:\n  - 2\n  - 4\n",
            b"".join(b"  sample.k%d: [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" % n for n in range(9)),
        ),
        "the grid makes 387420489 cells",
    ),
    "a recipe whose name steers a terminal": (
        "experiment",
        b'{experiment: e, seeds: [1], measure: {metric: fidelity}, cells: {a: {}}, recipe: "x\\n\\e[2J"}',
        "recipe x␊␛[2J does not exist",
    ),
    "a history that is none": (
        "preferences-json",
        b'[{"instruction": "q", "output": ["a", "b"], "history": [null]}]',
        "row 1: field 'history' must be a list of pairs of texts, got [None]",
    ),
    "a shard whose column types steer a terminal": (
        "shard-sampled",
        parquet(pa.table({"responses": [[{"text\x00": "a"}]]})),
        "is list<element: struct<text␀: string",
    ),
    "long names of languages": ("noise", b'{"languages": {"' + b"y" * 5000 + b'": {}}}', "'margin' must be"),
    "an align.json of texts": (
        "align-json",
        b'{"inputs": "x", "settings": {}, "counts": {}, "crossward": "0"}',
        "its key 'inputs' is no object",
    ),
    "counts edited into texts": (
        "stage-json",
        TARGETS["stage-json"].seeds()[0].replace(b'"n_pairs": 1', b'"n_pairs": "1"'),
        "counts 'n_pairs' as something else",
    ),
    "seconds without end": (
        "stage-json",
        TARGETS["stage-json"].seeds()[0].replace(b'"seconds": 1.5', b'"seconds": 1e300'),
        "seconds",
    ),
    "a reply that steers a terminal": ("judge-reply", b"4\x00\x1b[2J", "HTTP 400: ␀␛[2J"),
    "a reply that nests without end": ("judge-reply", DEEP, "not JSON"),
    "a reply of 100 brackets": ("mt-bench-reply", b"[" * 100 + b"]" * 100, "not JSON"),
    "a token of a vocabulary that is no number": (
        "generation-config",
        b'{"eos_token_id": [{}]}',
        "names an eos_token_id that is no token id",
    ),
    "a tokenizer of other types": ("tokenizer", b'{"model": 5}', "no tokenizer could be loaded"),
    "a longest text that is a list": ("tokenizer-config", b'{"model_max_length": []}', "model"),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_it_is_a_sentence(name: str, tmp_path: Path):
    target, content, said = SENTENCES[name]
    reader = TARGETS[target]
    assert broken_rule(lambda: reader.read(content, tmp_path), reader.names) is None
    with pytest.raises(ValueError, match=re.escape(said)):
        reader.read(content, tmp_path)


def test_a_run_of_a_billion_iterations_is_looked_at_no_longer_than_another(tmp_path: Path):
    """Every verb over a run goes through the iterations that its config.yaml names."""
    directory, _ = make_run(tmp_path / "run", prompts=2, responses=2)
    text = directory.config.read_text(encoding="utf-8")
    directory.config.write_text(text.replace("iterations: 2", f"iterations: {10**9}"), encoding="utf-8")
    found = run_found(directory.root)
    assert found.state == "damaged"
    assert "iterations" in (found.problem or "")


def test_every_cell_wrong_in_its_own_way_is_told_shortly(tmp_path: Path):
    text = (
        TARGETS["experiment"].seeds()[0].decode().replace("sample.n:\n  - 2\n  - 4", "sample.n: [a, b, c, d, e, f, g]")
    )
    text = text.replace("languages:", "languagez:").replace("prompts:", "promptz:")
    reader = TARGETS["experiment"]
    assert broken_rule(lambda: reader.read(text.encode(), tmp_path), reader.names) is None
    with pytest.raises(ValueError, match="more mistakes"):
        reader.read(text.encode(), tmp_path)


def test_our_own_files_that_nest_without_end_are_damaged_and_nothing_more(tmp_path: Path):
    path = tmp_path / "file.json"
    path.write_bytes(DEEP)
    assert read_metrics(path) == []
    assert read_told(path, "key") is None
    TARGETS["tracking"].read(b'{"key": "\\ud800"}', tmp_path)  # and writes what it found there again
    with pytest.raises(ValueError, match="is damaged"):
        read_reasons([path], "failures")
    TARGETS["journal"].read(b'{"origin": ' + DEEP + b"\n", tmp_path)


def test_a_damaged_row_of_a_judges_journal_is_asked_again(tmp_path: Path):
    read = TARGETS["judgement-row"].read
    assert read(b'{"key": "k", "second_better": 1, "source": "letter", "first": null, "second": null}\n', tmp_path)
    for wrong in (b'{"key": "k"}', b'{"key": "k", "second_better": 2, "source": "letter", "first": 0, "second": 0}'):
        assert read(wrong + b"\n", tmp_path) is None


def test_a_parquet_file_that_says_it_holds_more_than_it_can_is_not_decoded():
    content = parquet(pa.table({"id": pa.nulls(123_457, pa.string())}))
    size = struct.unpack("<I", content[-8:-4])[0]
    footer = content[-8 - size : -8]
    claims = footer.replace(varint(123_457), varint(2**40))
    assert claims != footer
    sent = content[: -8 - size] + claims + struct.pack("<I", len(claims)) + b"PAR1"
    metadata = pq.ParquetFile(pa.BufferReader(sent)).metadata
    assert "says that it holds" in (implausible(metadata, len(sent)) or "")


def varint(value: int) -> bytes:
    """A number as Thrift's compact protocol writes it: zigzag, seven bits a byte."""
    left, found = value * 2, bytearray()
    while left > 127:
        found.append(left & 127 | 128)
        left >>= 7
    return bytes([*found, left])


def test_a_parquet_file_that_unpacks_without_end_is_refused_before_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(parquet_files, "PLAUSIBLE_BYTES", 2**20)
    path = tmp_path / "bomb.parquet"
    with pq.ParquetWriter(path, pa.schema([("id", pa.string())]), compression="zstd", use_dictionary=False) as writer:
        for _ in range(4):
            writer.write_table(pa.table({"id": ["x" * 2**20]}))
    with pytest.raises(ValueError, match=r"bomb\.parquet unpacks from \d+ to \d+ bytes"):
        located_rows(Source(path=str(path)))


def test_an_answer_longer_than_any_that_is_asked_for_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connections, "LARGEST_ANSWER_BYTES", 1000)
    with pytest.raises(ValueError, match="its answer is longer than"):
        TARGETS["judge-reply"].read(b'"' + b"x" * 2000 + b'"', tmp_path)


@pytest.mark.parametrize(
    "read",
    [
        lambda: parse_rating("[[1]]" * 40_000),
        lambda: parse_points("score" + " " * 100_000),
        lambda: parse_points("score" + "*" * 100_000),
        lambda: parse_template("<|im_start|>user\n" * 6000 + "{instruction} {output_1} {output_2}", "t"),
    ],
)
def test_words_are_read_in_time_that_grows_with_their_length(read):
    """Each took half a minute or more of CPU; what is left takes a fraction of a second."""
    begun = time.process_time()
    read()
    assert time.process_time() - begun < 8


def test_lines_of_counts_that_nobody_could_show():
    told = {"prompts": 1, "responses": 2, "truncated": 0, "mean_chars": 1.0}
    assert wrong_count("sample", {"languages": {"es": told}}) is None
    for name, value in (("prompts", "1"), ("responses", -1), ("mean_chars", None), ("truncated", True)):
        assert name in (wrong_count("sample", {"languages": {"es": told | {name: value}}}) or "")
    assert wrong_count("train", {"training": {"loss": "low"}}) == "its training counts 'loss' as no number"
