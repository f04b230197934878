"""The lock: every package by one version and its files' hashes, the versions those that are named, and no address."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[\w,-]+\])?==([^\s;]+)", re.MULTILINE)


def pins(path: Path) -> dict[str, str]:
    return {plain(name): version for name, version in PIN.findall(path.read_text(encoding="utf-8"))}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_every_package_has_one_version_and_hashes(path: Path):
    text = path.read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[A-Za-z0-9])", "\n" + "\n".join(line for line in text.splitlines() if line[:1] != "#"))
    entries = [entry for entry in entries if entry.strip()]
    assert len(entries) == len(pins(path)) > 0
    for entry in entries:
        first, *hashes = entry.strip().split(" \\\n")
        assert PIN.match(first), first
        assert hashes, f"{first} has no hash"
        assert all(re.fullmatch(r"\s+--hash=sha256:[0-9a-f]{64}", line) for line in hashes), first
    assert "://" not in text


def test_versions_are_those_that_are_named():
    """constraints.txt for what is asked for, requirements-vllm-cpu.txt for vLLM on a CPU."""
    named = pins(ROOT / "constraints.txt") | pins(ROOT / "requirements-vllm-cpu.txt")
    for path in LOCKS:
        for name, version in pins(path).items():
            assert named.get(name, version) == version, f"{path.name} holds another {name}: run make lock"


def test_what_the_package_asks_for_is_in_the_lock():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    base = pins(ROOT / "requirements/base.txt") | pins(ROOT / "requirements/torch.txt")
    files = {"dev": base, "gguf": base, "openai": base}
    files |= {name: base | pins(ROOT / f"requirements/{name}.txt") for name in ("eval", "ray", "docs", "audit")}
    for extra, held in {"": base, **files}.items():
        for wanted in extras[extra] if extra else project["dependencies"]:
            name = re.match(r"[\w.-]+", wanted)
            assert name
            assert plain(name[0]) in held, f"{wanted} is not in the lock: run make lock"
    vllm = base | pins(ROOT / "requirements/vllm-cpu.txt")
    assert pins(ROOT / "requirements-vllm-cpu.txt").keys() <= vllm.keys()
