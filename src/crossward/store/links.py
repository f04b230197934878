"""Links in a folder that somebody sent: which are followed. Knows nothing of what the folder holds."""

from pathlib import Path


def require_stays(path: Path, folder: Path, what: str) -> None:
    """Raise ValueError where `path`, in `folder`, is a link that leads out of it; `what` names the folder.

    A snapshot in the hub's cache links to the blobs beside it, which are its own.
    """
    home, target = folder.resolve(), path.resolve()
    repository = home.parent.parent
    own = [home]
    if home.parent.name == "snapshots" and "--" in repository.name:
        own.append(repository / "blobs")
    if not any(target.is_relative_to(place) for place in own):
        raise ValueError(
            f"{path} is a link that leads out of the {what} {folder}, which is not followed: "
            "put what it leads to in its place, or remove it"
        )
