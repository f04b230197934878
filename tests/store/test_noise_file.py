"""The noise floor beside a file of scored groups: read as it was written, refused where it is something else."""

from pathlib import Path

import pytest

from crossward.store.noise_file import known_margins, noise_file, read_margins, write_noise


def test_margins_come_back_and_are_known_for_their_own_view_and_dtype_only(tmp_path: Path):
    scored = tmp_path / "scored.jsonl"
    assert known_margins(scored, view="crosslingual", dtype="bfloat16") == {}
    write_noise(scored, {"view": "crosslingual", "dtype": "bfloat16", "languages": {"es": {"margin": 0.5}}})
    assert noise_file(scored) == tmp_path / "scored.jsonl.noise.json"
    assert read_margins(scored) == known_margins(scored, view="crosslingual", dtype="bfloat16") == {"es": 0.5}
    assert known_margins(scored, view="multilingual", dtype="bfloat16") == {}
    assert known_margins(scored, view="crosslingual", dtype="float32") == {}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"noise floor from .*scored.jsonl.noise.json, which does not exist: score with"),
        ("{", "broken JSON"),
        ("[1]", "expected a key 'languages'"),
        (
            '{"languages": {"es": {"margin": -1}}}',
            "language 'es': 'margin' must be a number of nats, 0 or more, got -1",
        ),
        ('{"languages": {"es": 4}}', "language 'es': 'margin' must be a number"),
    ],
)
def test_a_noise_file_that_is_not_one(tmp_path: Path, content: str | None, sentence: str):
    path = tmp_path / "scored.jsonl"
    if content is not None:
        noise_file(path).write_text(content)
    with pytest.raises(ValueError, match=sentence):
        read_margins(path)
