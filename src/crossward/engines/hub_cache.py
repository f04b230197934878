"""What the hub's client has on this machine already. Asks nobody."""

from pathlib import Path


def is_cached_dataset(name: str) -> bool:
    """Whether a data set of this name was fetched from the hub to this machine."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return (Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="dataset")).is_dir()
