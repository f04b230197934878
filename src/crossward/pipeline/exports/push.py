"""A run's pairs or checkpoint to the Hugging Face hub, or what would go there."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from crossward.core.plain_markdown import one_line
from crossward.engines.hub_push import push_folder, require_repo_name
from crossward.pipeline.exports.export import Exported, Wanted, export
from crossward.pipeline.progress import Progress
from crossward.store.export_folder import MARKER

What = Literal["dataset", "model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """What went to the hub; with `url` None, what would go."""

    repo: str
    what: What
    private: bool
    card: str
    exported: Exported
    url: str | None = None
    commit: str | None = None

    def summary(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "repo": self.repo,
            "repo_type": self.what,
            "private": self.private,
            "dry_run": self.url is None,
            "url": self.url,
            "commit": self.commit,
            "front_matter": self.card.split("\n---\n", 1)[0].removeprefix("---\n"),
            "files": dict(self.exported.files),
            "languages": dict(self.exported.languages),
            "notes": list(self.exported.written.notes),
        }


def push(source: Path, repo: str, wanted: Wanted, *, private: bool, dry_run: bool, progress: Progress) -> Push:
    """Export into a temporary folder beside nothing of yours, and commit that. A dry run contacts nobody."""
    assert wanted.format in ("dataset", "model")
    require_repo_name(repo)
    with tempfile.TemporaryDirectory(prefix="crossward-push-") as temporary:
        folder = Path(temporary) / repo.rpartition("/")[2]
        exported = export(source, folder, wanted)
        card = (folder / "README.md").read_text(encoding="utf-8")
        (folder / MARKER).unlink()
        would = Push(repo=repo, what=wanted.format, private=private, card=card, exported=exported)
        if dry_run:
            return would
        size = sum(exported.files.values())
        progress.say(f"pushing {len(exported.files)} files, {size / 1e6:.1f} MB, to {repo}")
        message = (
            f"{'Preference pairs' if wanted.format == 'dataset' else 'Checkpoint'} of {one_line(source.resolve().name)}"
        )
        pushed = push_folder(folder, repo, repo_type=wanted.format, private=private, message=message)
    return Push(
        repo=repo,
        what=wanted.format,
        private=private,
        card=card,
        exported=exported,
        url=pushed.url,
        commit=pushed.commit,
    )
