"""What every reader of foreign input owes: a value, or a ValueError that a person can act on.

One line of at most 1,000 characters that names the file or the reader and a place in it, without the input's control
characters. An OSError is the operating system's word. Anything else is a finding.
"""

import re
import traceback
from collections.abc import Callable
from pathlib import Path

LONGEST = 1000
_RAW = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u206a-\u206f\u2028\u2029\ud800-\udfff]"
)
_ROOT = Path(__file__).parent.parent.parent / "src"


def broken_rule(read: Callable[[], object], names: tuple[str, ...]) -> str | None:
    """What is wrong with how `read` ends, in a line that begins with a signature; None where all is well.

    An error must hold one of `names`: the file's name, or what the reader calls itself.
    """
    try:
        read()
    except ValueError as error:
        if isinstance(error, UnicodeError):
            return f"{type(error).__name__} at {_place(error)}: {error!r:.200}"
        return _wrong_with(error, str(error), names)
    except OSError:
        return None
    except Exception as error:
        return f"{type(error).__name__} at {_place(error)}: {error!r:.200}"
    return None


def _wrong_with(error: ValueError, text: str, names: tuple[str, ...]) -> str | None:
    place = _place(error)
    if len(text) > LONGEST:
        return f"too long at {place}: {len(text)} characters, {text[:200]!r}"
    if found := _RAW.search(text):
        return f"not plain at {place}: {found.group()!r} in {text[:300]!r}"
    if not any(name in text for name in names):
        return f"nameless at {place}: {text[:300]!r}"
    return None


def _place(error: BaseException) -> str:
    """The last line of ours that an error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(str(_ROOT))] or frames
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno} {ours[-1].name}"
