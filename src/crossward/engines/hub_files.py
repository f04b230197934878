"""alpaca_eval's two data files from the Hugging Face hub, by pinned revision and checksum: what comes is what is known.

Revision and sha256 as a third party recorded them. They describe English instructions, one judge, one baseline.
"""

import hashlib
from pathlib import Path

REPOSITORY = "tatsu-lab/alpaca_eval"
REVISION = "2edc6fad8be6b14ea7230aabfd08188da6b8b814"
SHA256 = {
    "instruction_difficulty.csv": "e28d875bb334f75e17acd1e4ed659b261860e3db379cf5de29060301bed0a18b",
    "df_gamed.csv": "97aeec3f1c7de6dee6fd31fe66f1702623f4614c3efe1c6fc5f4927cd5fd674d",
}


def published_files() -> tuple[Path, Path]:
    """Difficulties and gamed rows in the hub's cache, fetched if need be.

    Raises ValueError where the hub is out of reach or a file is not the one that is known.
    """
    difficulty, gamed = (_fetched(name) for name in ("instruction_difficulty.csv", "df_gamed.csv"))
    return difficulty, gamed


def _fetched(name: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        path = Path(hf_hub_download(REPOSITORY, name, repo_type="dataset", revision=REVISION))
    except Exception as error:  # the hub's client raises errors of many libraries
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{name} could not be fetched from the hub's dataset {REPOSITORY} ({first[:160]}): name your own files "
            "with --difficulty and --gamed, or take the variant joint, which needs none"
        ) from None
    require_known(path, name)
    return path


def require_known(path: Path, name: str) -> None:
    """Raise ValueError where the content is not the one whose checksum is known."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256[name]:
        raise ValueError(
            f"{path}: sha256 is {found[:16]}…, expected {SHA256[name][:16]}…: the file is not the published one; "
            "delete it, and it is fetched again"
        )
