"""The judge's templates as text files: the package's own, or a folder's in their place, one by one."""

from importlib.resources import files
from pathlib import Path

from crossward.core.judge_templates import REQUIRED, JudgeTemplates
from crossward.store.json_lines import decode, read_file


def read_templates(folder: Path | None = None) -> JudgeTemplates:
    """The MT-Bench templates; a file NAME.txt in `folder` replaces the package's own of that name.

    Raises ValueError where the folder holds another .txt file or none, or a template's placeholders are wrong.
    """
    own = files("crossward") / "templates" / "mt_bench"
    texts = {name: (own / f"{name}.txt").read_text(encoding="utf-8") for name in REQUIRED}
    origins = {name: f"{name}.txt" for name in REQUIRED}
    if folder is not None:
        for path in _replacing(folder):
            texts[path.stem] = "\n".join(decode(path, read_file(path)))
            origins[path.stem] = str(path)
    return JudgeTemplates(texts=texts, origins=origins)


def _replacing(folder: Path) -> list[Path]:
    names = ", ".join(f"{name}.txt" for name in REQUIRED)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: --templates expects one that holds some of {names}")
    found = sorted(folder.glob("*.txt"))
    if not found:
        raise ValueError(f"folder {folder} holds no template: expected some of {names}")
    for path in found:
        if path.stem not in REQUIRED:
            raise ValueError(f"{path} is no template of MT-Bench: expected some of {names}")
    return found
