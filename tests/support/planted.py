"""Files that do harm when they are trusted: pickles and Python modules that leave a mark where they ran."""

import os
import pickle
from pathlib import Path
from typing import Any


class Bomb:
    """Unpickled, it makes a folder: anything else could have been run as well."""

    def __init__(self, mark: Path) -> None:
        self._mark = str(mark)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self._mark,)


def plant_pickle(file: Path, mark: Path) -> Path:
    """A pickle that makes the folder `mark` when it is unpickled."""
    file.write_bytes(pickle.dumps({"weight": Bomb(mark)}))
    return file


def plant_code(file: Path, mark: Path, names: tuple[str, ...] = ()) -> Path:
    """A module that makes the folder `mark` when it is imported, and has classes of these names."""
    lines = ["import os", f"os.makedirs({str(mark)!r}, exist_ok=True)", *(f"class {name}: pass" for name in names)]
    file.write_text("\n".join(lines) + "\n")
    return file
