"""What `crossward run` says at its end: every concern, on stderr."""

from pathlib import Path

import pytest
from tests.support.command import call
from tests.support.recipes import make_recipe, write_recipe


def test_a_run_ends_with_its_concerns_in_three_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recipe = write_recipe(tmp_path, make_recipe(tmp_path, iterations=1, evaluate={}))
    called = call(capsys, "run", recipe)
    assert called.code == 0, called.err
    assert "CONCERN not-the-child, models: the policy's weights are far from the reference's" in called.err
    for part in ("  why: log π − log π_ref", "  try: name in models.reference", "  more: docs/troubleshooting.md#not-"):
        assert part in called.err
    assert "no concerns" not in called.err
    assert called.out.count("\n") == 1  # where the report is, and nothing else
