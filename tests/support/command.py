"""The command line, called in this process as a shell would call it: arguments in; exit code, stdout and stderr out."""

import sys
from dataclasses import dataclass

import pytest

from crossward import cli


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """What stderr ends with: the one sentence of a command that failed."""
        return self.err.rstrip("\n").rsplit("\n", 1)[-1]


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> Called:
    """Run `crossward` with these arguments."""
    before = sys.argv
    sys.argv = ["crossward", *map(str, arguments)]
    capsys.readouterr()
    try:
        cli.main()
        raise AssertionError("main() ends with SystemExit")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = before
    printed = capsys.readouterr()
    return Called(code=code, out=printed.out, err=printed.err)
