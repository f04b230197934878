"""A folder to the Hugging Face hub: the one place that writes there. The token is the client's own and never shown."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

RepoType = Literal["dataset", "model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """Where a folder went."""

    url: str
    commit: str


def push_folder(folder: Path, repo: str, *, repo_type: RepoType, private: bool, message: str) -> Pushed:
    """Create the repository if need be and commit every file of the folder to it, in one commit.

    Raises ValueError where the hub is out of reach, knows no token of yours, or refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    api = HfApi()
    try:
        created = api.create_repo(repo, repo_type=repo_type, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=created.repo_id, repo_type=repo_type, folder_path=str(folder), commit_message=message
        )
    except LocalTokenNotFoundError:
        raise ValueError(_no_token(repo)) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 401:
            raise ValueError(_no_token(repo)) from None
        raise ValueError(f"the hub refused to push to {repo} ({status}: {_first_line(error)})") from None
    except OfflineModeIsEnabled:
        raise ValueError("HF_HUB_OFFLINE is set, so nothing can be pushed: unset it") from None
    except Exception as error:  # the hub's client raises errors of many libraries
        raise ValueError(f"the hub could not be reached to push to {repo}: {_first_line(error)}") from None
    return Pushed(url=str(created), commit=commit.oid)


def require_repo_name(repo: str) -> None:
    """Raise ValueError where the hub would not take the name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError:
        raise ValueError(
            f"--to-repo {repo[:100]!r} is no name of a repository: expected NAME or OWNER/NAME of letters, digits, "
            "'-', '_' and '.'"
        ) from None


def _no_token(repo: str) -> str:
    return (
        f"the hub asks who you are before {repo} can be pushed to: log in with `hf auth login`, or set HF_TOKEN to a "
        "token that may write"
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
