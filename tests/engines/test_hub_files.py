"""The pinned files of the hub: asked for by revision, checked by content, a clear sentence where there is no hub."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from crossward.engines import hub_files


def test_they_are_asked_for_by_revision_and_another_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[Any, ...]] = []

    def download(repository: str, name: str, **more: Any) -> str:
        asked.append((repository, name, more["repo_type"], more["revision"]))
        (tmp_path / name).write_text("other")
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(ValueError, match=r"instruction_difficulty.csv: sha256 is \w{16}…, expected e28d875bb334f75e…"):
        hub_files.published_files()
    assert asked == [("tatsu-lab/alpaca_eval", "instruction_difficulty.csv", "dataset", hub_files.REVISION)]
    known = hub_files.hashlib.sha256(b"other").hexdigest()
    monkeypatch.setattr(hub_files, "SHA256", dict.fromkeys(hub_files.SHA256, known))
    assert [path.name for path in hub_files.published_files()] == ["instruction_difficulty.csv", "df_gamed.csv"]


def test_without_a_hub(monkeypatch: pytest.MonkeyPatch):
    def nowhere(*_: Any, **__: Any) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", nowhere)
    with pytest.raises(
        ValueError, match=r"could not be fetched .* \(no route to host\): name your own files with --diff"
    ):
        hub_files.published_files()
