"""align.json: the same command finds its work, another one is told what differs."""

from dataclasses import replace
from pathlib import Path

import pytest

from crossward.store.align_manifest import AlignManifest, begun, manifest_file, write_manifest

INPUTS, SETTINGS = {"model": "a", "preferences": "b"}, {"method": "dpo", "beta": 0.1, "target": ("q", "k")}
MANIFEST = AlignManifest(inputs=INPUTS, settings=SETTINGS, counts={"pairs": 3}, crossward="1")


def test_nothing_begun(tmp_path: Path):
    assert begun(tmp_path / "out", INPUTS, SETTINGS) is None


def test_the_same_command_finds_what_was_begun_and_what_is_done(tmp_path: Path):
    output = tmp_path / "out"
    write_manifest(output, MANIFEST)
    known = begun(output, INPUTS, SETTINGS)
    assert known is not None
    assert known.training is None
    output.mkdir()
    write_manifest(output, replace(MANIFEST, training={"steps": 4}))
    known = begun(output, INPUTS, SETTINGS)
    assert known is not None
    assert (known.training, known.counts) == ({"steps": 4}, {"pairs": 3})


def test_other_settings_are_named_where_something_would_be_lost(tmp_path: Path):
    output = tmp_path / "out"
    write_manifest(output, MANIFEST)
    assert begun(output, INPUTS, SETTINGS | {"beta": 0.2}) is None, "no step is kept yet"
    (tmp_path / "out.work" / "checkpoint-3").mkdir(parents=True)
    with pytest.raises(
        ValueError, match=r"was begun to be made from something else: beta was 0\.1, now 0\.2: .*delete"
    ):
        begun(output, INPUTS, SETTINGS | {"beta": 0.2})
    output.mkdir()
    with pytest.raises(ValueError, match=r"out was made from something else: preferences was 'b', now 'c'"):
        begun(output, INPUTS | {"preferences": "c"}, SETTINGS)


@pytest.mark.parametrize("name", ["out", "out.work"])
def test_what_no_command_here_made_is_not_touched(tmp_path: Path, name: str):
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=rf"{name} exists already and no out\.align\.json says what it was made from"):
        begun(tmp_path / "out", INPUTS, SETTINGS)


def test_a_checkpoint_that_is_gone_and_a_damaged_file(tmp_path: Path):
    output = tmp_path / "out"
    write_manifest(output, replace(MANIFEST, training={"steps": 4}))
    with pytest.raises(ValueError, match=r"out is gone: restore it, or delete out\.align\.json too"):
        begun(output, INPUTS, SETTINGS)
    manifest_file(output).write_text('{"inputs": {}}')
    with pytest.raises(ValueError, match=r"out\.align\.json is damaged"):
        begun(output, INPUTS, SETTINGS)
