"""Every reader of foreign input under atheris, coverage-guided, each in a process of its own with limits.

    python benchmarks/fuzzing.py --minutes 60 [--target NAME] [--seed N]

The readers are listed in fuzz_files.py (files of strangers) and fuzz_answers.py (servers, checkpoints, whole runs),
with the rule in tests/support/reader_rule.py that each must keep: a value, or a ValueError of one line that names what
and where. Half of the inputs are changed by libFuzzer, half by tests/support/mutations.py, which knows their structure.
Limits: 10 s of CPU an input (180 s by the clock), 6 GiB of address space (none where torch is loaded), 2 GiB resident.
Prints a row a target, and every finding (its input lies under --findings); exits 1 where there is any.
Needs pip install 'crossward[fuzz]'.
"""

import argparse
import json
import os
import platform
import random
import re
import resource
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

CPU_SECONDS = 10  # an input
WALL_SECONDS = 180  # an input: a busy machine gives a process at nice 19 little
ADDRESS_SPACE_GIB = 6
RESIDENT_MIB = 2048
LONGEST_INPUT = 1 << 16
HEAVY = ("sampler-reply", "tokenizer", "tokenizer-config", "generation-config", "model-config", "run", "chat-template")
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "critical",
    "PYTHONWARNINGS": "ignore",
}
KEPT_FINDINGS = 20  # of one target, by signature


def _targets() -> list[Any]:
    """All targets. What they import is instrumented once, here: the processes are forked from this one."""
    import atheris

    with atheris.instrument_imports(include=["crossward"], enable_loader_override=False):
        from benchmarks.fuzz_answers import TARGETS as ANSWERS
        from benchmarks.fuzz_files import TARGETS as FILES

    return [*FILES, *ANSWERS]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="of all targets together")
    parser.add_argument("--target", action="append", help="only this one; may be given several times")
    parser.add_argument("--without", action="append", default=[], help="all but this one; may be given several times")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--findings", type=Path, default=ROOT / "runs" / "fuzzing", help="where inputs are kept")
    given = parser.parse_args()
    os.environ.update(_ENVIRONMENT)
    targets = {target.name: target for target in _targets()}
    known = list(targets)
    wanted = [name for name in given.target or known if name not in given.without]
    if unknown := [name for name in (*wanted, *given.without) if name not in known]:
        parser.error(f"unknown target {unknown[0]!r}: known are {', '.join(known)}")
    print(
        f"{datetime.now():%Y-%m-%d %H:%M}, {platform.machine()}, Python {platform.python_version()}, seed {given.seed}"
    )
    print(
        f"| {'target':<20} | executions | seconds | corpus | findings | peak MiB |\n|---|---:|---:|---:|---:|---:|",
        flush=True,
    )
    found: list[str] = []
    total = 0
    end = time.monotonic() + 60 * given.minutes
    for place, name in enumerate(wanted):
        share = max(5.0, (end - time.monotonic()) / (len(wanted) - place))  # of what those before it have left
        row, findings = _run(targets[name], share, given.seed, given.findings / name)
        total += row["executions"]
        print(
            f"| {name:<20} | {row['executions']:,} | {row['seconds']:.0f} | {row['corpus']} | {len(findings)} | "
            f"{row['peak_mib']:.0f} |",
            flush=True,
        )
        found += [f"{name}: {finding}" for finding in findings]
    print(f"{total:,} executions, {len(found)} findings")
    for finding in found:
        print(finding)
    return 1 if found else 0


def _run(target: Any, seconds: float, seed: int, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """One target for so many seconds; a process that dies is a finding, and another one goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*"):
        if old.is_file():
            old.unlink()
    row: dict[str, Any] = {"executions": 0, "seconds": 0.0, "corpus": 0, "peak_mib": 0.0}
    deaths: list[str] = []
    end = time.monotonic() + seconds
    begun = time.monotonic()
    while (left := end - time.monotonic()) > 2 and len(deaths) < KEPT_FINDINGS:
        if (child := os.fork()) == 0:
            log = os.open(folder / f"log-{len(deaths)}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            try:
                _work(target, left, seed + len(deaths), folder)
            finally:
                os._exit(3)  # atheris ends the process itself, with another status
        _, status, usage = os.wait4(child, 0)
        ended = os.waitstatus_to_exitcode(status)
        row["peak_mib"] = max(row["peak_mib"], usage.ru_maxrss / 1024)
        stats = folder / "stats.json"
        if stats.exists():
            told = json.loads(stats.read_text())
            row["executions"] += told["executions"]
            stats.unlink()
        text = (folder / f"log-{len(deaths)}.txt").read_text(errors="replace")
        row["corpus"] = max([row["corpus"], *(int(size) for size in re.findall(r"corp: (\d+)/", text))])
        if ended != 0:
            last = [line for line in text.splitlines() if "ERROR" in line or "Error" in line or "SUMMARY" in line]
            deaths.append(f"the process ended with {ended}: {' '.join(last[-2:]) or text[-300:]!r}")
    row["seconds"] = time.monotonic() - begun
    findings = sorted(path.read_text(errors="replace").splitlines()[0] for path in folder.glob("finding-*.txt"))
    return row, findings + deaths


def _work(target: Any, seconds: float, seed: int, folder: Path) -> None:
    """The process of one target: atheris until the time is over. Findings are written down and do not stop it."""
    import atheris
    from tests.support.mutations import mutated
    from tests.support.reader_rule import broken_rule

    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, content in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(content)
    known: dict[str, int] = {}
    told = {"executions": 0, "at": time.monotonic()}

    def note(finding: str, content: bytes) -> None:
        signature = re.sub(r"[^\w.:-]+", "-", finding.split(": ")[0])[:100]
        if len(known) >= KEPT_FINDINGS and signature not in known:
            return
        if len(content) < known.get(signature, 1 << 62):
            known[signature] = len(content)
            (folder / f"finding-{signature}.txt").write_text(finding + "\n", errors="backslashreplace")
            (folder / f"finding-{signature}.input").write_bytes(content)

    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)

        def once(content: bytes) -> None:
            told["executions"] += 1
            if (now := time.monotonic()) - told["at"] > 1:
                told["at"] = now
                (folder / "stats.json").write_text(json.dumps({"executions": told["executions"]}))
            begun = time.process_time()
            finding = broken_rule(lambda: target.read(content, place), target.names)
            if (spent := time.process_time() - begun) > CPU_SECONDS:
                note(f"slow: {spent:.0f} s of CPU for {len(content)} bytes", content)
            if finding is not None:
                note(finding, content)

        def changed(content: bytes, longest: int, lot: int) -> bytes:
            draw = random.Random(lot)
            if draw.random() < 0.5:
                return atheris.Mutate(content, longest)
            before, content = content[: target.prefix], content[target.prefix :]
            found = before + mutated(content, target.kind, draw.randrange)
            return found[:longest]

        for content in target.seeds():
            finding = broken_rule(lambda content=content: target.read(content, place), target.names)  # imports too
            if finding is not None:
                note(finding, content)
        if target.name not in HEAVY:
            limit = ADDRESS_SPACE_GIB << 30
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        options = [
            f"-max_total_time={max(1, int(seconds))}",
            f"-timeout={WALL_SECONDS}",
            f"-rss_limit_mb={RESIDENT_MIB}",
        ]
        options += [f"-seed={seed}", f"-max_len={LONGEST_INPUT}", f"-artifact_prefix={folder}/", "-print_final_stats=1"]
        options += ["-report_slow_units=600", str(corpus)]
        atheris.Setup([sys.argv[0], *options], once, custom_mutator=changed)
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
