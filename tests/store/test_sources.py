"""Prompts from every kind of file, joined by id, and one clear sentence for each way in which a file can be wrong."""

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crossward.store.sources import LoadedPrompts, Source, load_counted, load_prompts, read_rows

EN = {"1": "Name a fruit.", "2": "Say hello.", "3": "Count to three."}
ES = {"1": "Nombra una fruta.", "2": "Di hola.", "3": "Cuenta hasta tres."}


def rows_of(texts: dict[str, str]) -> list[dict[str, str]]:
    return [{"id": id, "instruction": text} for id, text in texts.items()]


def write(path: Path, rows: list[dict]) -> Path:
    """Write rows in the format that the name asks for."""
    match path.suffix:
        case ".jsonl":
            path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        case ".json":
            path.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
        case ".csv":
            with path.open("w", encoding="utf-8", newline="") as handle:
                writer = csv.DictWriter(handle, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def load(folder: Path, spanish: str | list[dict], english: str | list[dict] | None = None, **options) -> LoadedPrompts:
    """Load en.jsonl and es.jsonl, given as rows or as the file's text."""
    for name, content in (("es", spanish), ("en", rows_of(EN) if english is None else english)):
        path = folder / f"{name}.jsonl"
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        else:
            write(path, content)
    english_source = Source(path=str(folder / "en.jsonl"))
    return load_counted(
        {"en": english_source, "es": Source(path=str(folder / "es.jsonl"))}, english=english_source, **options
    )


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_every_format_gives_the_same_prompts(tmp_path: Path, suffix: str):
    texts = ES | {"3": 'Di "uno, dos",\ny tres\u2028ya.'}  # a quote, a comma, a line break and a line separator
    path = write(tmp_path / f"es{suffix}", rows_of(texts))
    english = write(tmp_path / f"en{suffix}", rows_of(EN))
    (prompts,) = load_prompts({"es": Source(path=str(path))}, english=Source(path=str(english))).values()
    assert [(prompt.id, prompt.instruction, prompt.english_instruction) for prompt in prompts] == [
        (id, texts[id], EN[id]) for id in EN
    ]


def test_a_saved_dataset_is_read_with_its_split(tmp_path: Path):
    from datasets import Dataset, DatasetDict

    dataset = DatasetDict({"held_out": Dataset.from_list(rows_of(EN))})
    dataset.save_to_disk(tmp_path / "set")
    assert read_rows(Source(path=str(tmp_path / "set"), split="held_out")) == rows_of(EN)
    with pytest.raises(ValueError, match=r"has no split 'train': expected one of held_out"):
        read_rows(Source(path=str(tmp_path / "set")))


def test_a_folder_of_data_files_is_read_as_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "train.jsonl", rows_of(EN))
    assert read_rows(Source(path=str(tmp_path / "set"))) == rows_of(EN)


@pytest.mark.parametrize(
    "named",
    [
        "OUTSIDE",
        "../outside.jsonl",
        "a/../../outside.jsonl",
        "http://127.0.0.1:9/x.jsonl",
        "zip://x::y.zip",
        "~/x.jsonl",
    ],
)
@pytest.mark.parametrize("file", ["README.md", ".huggingface.yaml"])
def test_a_data_sets_folder_names_nothing_outside_it(tmp_path: Path, named: str, file: str, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    outside = write(tmp_path / "outside.jsonl", rows_of(EN))
    where = str(outside) if named == "OUTSIDE" else named
    for files in (where, [{"split": "train", "path": ["train.jsonl", where]}]):
        text = json.dumps({"configs": [{"config_name": "default", "data_files": files}]})
        (tmp_path / "set" / file).write_text(f"---\n{text}\n---\n" if file == "README.md" else text)
        with pytest.raises(ValueError, match=r"to be read, which is not in the data set's folder") as caught:
            read_rows(Source(path=str(tmp_path / "set")))
        assert "\n" not in str(caught.value)


def test_a_data_sets_folder_is_not_unpacked_and_its_links_stay_in_it(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = write(tmp_path / "rows.jsonl", rows_of(EN))
    folder = tmp_path / "set"
    folder.mkdir()
    for name, content in (("a.zip", b""), ("a.jsonl.gz", b""), ("a.jsonl", gzip.compress(rows.read_bytes()))):
        (folder / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is an archive, which is not unpacked"):
            read_rows(Source(path=str(folder)))
        (folder / name).unlink()
    (folder / "a.jsonl").symlink_to(rows)
    with pytest.raises(ValueError, match=r"a\.jsonl is a link that leads out of the data set"):
        read_rows(Source(path=str(folder)))
    cached = tmp_path / "datasets--a--b"
    (cached / "snapshots" / "1").mkdir(parents=True)
    (cached / "blobs").mkdir()
    rows.rename(cached / "blobs" / "y")
    (cached / "snapshots" / "1" / "x.jsonl").symlink_to("../../blobs/y")
    assert read_rows(Source(path=str(cached / "snapshots" / "1"))) == rows_of(EN)


def test_a_picture_that_a_row_names_is_not_read(tmp_path: Path, monkeypatch):
    from datasets import Features, Image, Value

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    row = {"id": "1", "instruction": "Name it.", "seen": {"bytes": None, "path": "http://127.0.0.1:9/x.png"}}
    features = Features({"id": Value("string"), "instruction": Value("string"), "seen": Image()})
    (tmp_path / "set").mkdir()
    pq.write_table(pa.Table.from_pylist([row], schema=features.arrow_schema), tmp_path / "set" / "train.parquet")
    assert read_rows(Source(path=str(tmp_path / "set"))) == [row]


def test_a_saved_dataset_reads_its_own_files(tmp_path: Path):
    from datasets import Dataset

    Dataset.from_list(rows_of(EN)).save_to_disk(tmp_path / "set")
    state = tmp_path / "set" / "state.json"
    tree = json.loads(state.read_text())
    state.write_text(json.dumps(tree | {"_data_files": [{"filename": "../other/data.arrow"}]}))
    with pytest.raises(ValueError, match=r"state\.json names '\.\./other/data\.arrow' to be read"):
        read_rows(Source(path=str(tmp_path / "set")))
    state.unlink()
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "../other"]}')
    with pytest.raises(ValueError, match=r"dataset_dict\.json names '\.\./other' to be read"):
        read_rows(Source(path=str(tmp_path / "set")))


def test_ids_join_and_the_english_file_orders(tmp_path: Path):
    shuffled = rows_of(ES)[::-1]
    found = load(tmp_path, shuffled, limit=2).prompts
    assert [(p.id, p.instruction, p.english_instruction) for p in found["es"]] == [
        ("1", ES["1"], EN["1"]),
        ("2", ES["2"], EN["2"]),
    ]
    assert [(p.id, p.instruction, p.english_instruction) for p in found["en"]] == [
        ("1", EN["1"], EN["1"]),
        ("2", EN["2"], EN["2"]),
    ]


def test_numbers_and_texts_are_the_same_id(tmp_path: Path):
    spanish = [{"id": int(id), "instruction": text} for id, text in ES.items()]
    assert [p.id for p in load(tmp_path, spanish).prompts["es"]] == ["1", "2", "3"]


def test_an_id_column_with_a_gap_in_another_table_still_joins(tmp_path: Path):
    path = write(tmp_path / "es.parquet", [{"id": float(id), "instruction": text} for id, text in ES.items()])
    english = write(tmp_path / "en.jsonl", rows_of(EN))
    found = load_prompts({"es": Source(path=str(path))}, english=Source(path=str(english)))
    assert [p.id for p in found["es"]] == ["1", "2", "3"]


def test_fields_can_be_named_per_source(tmp_path: Path):
    path = write(tmp_path / "es.jsonl", [{"n": "1", "pregunta": "Di hola."}])
    english = write(tmp_path / "en.jsonl", [{"key": "1", "text": "Say hello."}])
    found = load_prompts(
        {"es": Source(path=str(path), id_field="n", instruction_field="pregunta")},
        english=Source(path=str(english)),
        id_field="key",
        instruction_field="text",
    )
    assert (found["es"][0].instruction, found["es"][0].english_instruction) == ("Di hola.", "Say hello.")


def test_missing_ids_stop_unless_allowed_and_are_counted(tmp_path: Path):
    with pytest.raises(ValueError, match=r"es\.jsonl: language 'es' lacks 1 of 3 ids .* first '3': add them, or set"):
        load(tmp_path, rows_of(ES)[:2])
    found = load(tmp_path, rows_of(ES)[:2], allow_missing=True)
    assert found.n_missing == {"en": 0, "es": 1}
    assert [p.id for p in found.prompts["es"]] == ["1", "2"]


@pytest.mark.parametrize(
    ("spanish", "sentence"),
    [
        ("", r"es\.jsonl is empty: expected at least one row"),
        ("\n \n", r"es\.jsonl is empty"),
        (
            '{"id": "1", "instruction": "a"}\n{"id": "2", "instr',
            r"es\.jsonl, line 2: broken JSON at column \d+",
        ),
        ('{"id": "1", "instruction": "a"}\n\n["x"]\n', r"es\.jsonl, line 3: expected a JSON object, got list"),
        (
            '{"id": "1", "instruction": "a"}\n{"id": "2", "instruction": "b"}\n{"id": "1", "instruction": "c"}\n',
            r"id '1' stands on line 1 and on line 3: each id may occur once",
        ),
        ('{"id": "9", "instruction": "a"}\n', r"1 of 1 ids have no English twin in .*en\.jsonl, first '9' \(line 1\)"),
        ('{"id": "1", "instruction": " "}\n', r"line 1: field 'instruction' is empty"),
        ('{"id": "1", "instrucion": "a"}\n', r"no field 'instruction', .* did you mean 'instrucion'\?"),
        ('{"id": null, "instruction": "a"}\n', r"field 'id' must be a text or a whole number, got None"),
        ('{"id": "1", "instruction": 5}\n', r"field 'instruction' must be a text, got int"),
        (
            '{"id": "1", "instruction": "a", "language": "fr"}\n',
            r"line 1: field 'language' is 'fr' but the file was named for 'es'",
        ),
        ('{"id": "1", "instruction": "a", "language": "French"}\n', r"is 'French' but the file was named for 'es'"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, spanish: str, sentence: str):
    with pytest.raises(ValueError, match=sentence) as caught:
        load(tmp_path, spanish)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("said", ["es", "es-MX", "Spanish", "ES", "und"])
def test_a_language_field_that_agrees_or_says_nothing_passes(tmp_path: Path, said: str):
    assert len(load(tmp_path, [row | {"language": said} for row in rows_of(ES)]).prompts["es"]) == 3


def test_files_that_are_not_there_or_not_readable(tmp_path: Path):
    for name, sentence in (
        ("no.jsonl", "does not exist"),
        ("no/such/folder/x", "does not exist"),
        ("prompts.txt", "unknown extension '.txt': expected one of .jsonl, .json, .csv, .parquet"),
    ):
        with pytest.raises(ValueError, match=sentence):
            read_rows(Source(path=str(tmp_path / name)))
    for name, content, sentence in (
        (
            "latin.jsonl",
            '{"id": "1", "instruction": "a"}\n{"id": "2", "instruction": "ñ"}\n'.encode("latin-1"),
            "line 2",
        ),
        ("cut.parquet", b"PAR1 and then nothing", "not a whole Parquet file"),
        ("short.csv", b"id,instruction\n1,a\n2\n", "line 3: 1 values for 2 columns"),
        ("twice.csv", b"id,id\n1,a\n", "column 'id' is named twice"),
        ("object.json", b'{"id": "1"}', "expected a list of objects, got dict"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=sentence):
            read_rows(Source(path=str(tmp_path / name)))


def test_a_byte_order_mark_is_no_part_of_the_first_field(tmp_path: Path):
    (tmp_path / "excel.csv").write_bytes("id,instruction\r\n1,Say hello.\r\n".encode("utf-8-sig"))
    assert read_rows(Source(path=str(tmp_path / "excel.csv"))) == [{"id": "1", "instruction": "Say hello."}]


def test_an_instruction_may_be_longer_than_csvs_own_limit(tmp_path: Path):
    path = write(tmp_path / "en.csv", [{"id": "1", "instruction": "a" * 200_000}])
    assert len(read_rows(Source(path=str(path)))[0]["instruction"]) == 200_000


def test_english_is_needed_once(tmp_path: Path):
    path = write(tmp_path / "es.jsonl", rows_of(ES))
    with pytest.raises(ValueError, match="no English source is named beside es"):
        load_prompts({"es": Source(path=str(path))})
    with pytest.raises(ValueError, match="two English sources are named"):
        load_prompts({"en": Source(path="a.jsonl")}, english=Source(path="b.jsonl"))
