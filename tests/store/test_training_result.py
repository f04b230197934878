"""What a trainer said: read back as it was, or not at all."""

from pathlib import Path

from crossward.store.training_result import read_result, write_result


def test_what_was_written_is_read_and_nothing_else(tmp_path: Path):
    path = tmp_path / "trained.json"
    result = {"loss": 0.25, "pairs": 12, "seconds": 1.5}
    assert read_result(path) is None
    write_result(path, result)
    assert read_result(path) == result
    whole = path.read_bytes()
    for damage in (whole.replace(b"12", b"13"), whole[:20], b"", b"[]", b"null"):
        path.write_bytes(damage)
        assert read_result(path) is None
    path.unlink()
    path.mkdir()
    assert read_result(path) is None
