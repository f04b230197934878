"""Hold every locked package against the index's known vulnerabilities, with pip-audit.

Exit 1: vulnerabilities were found, and are listed. Exit 0: none, or the data cannot be had, which one line says.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "requirements"
LONGEST_S = 300


def main() -> int:
    """Ask for one small file first: where that gets no data, none of the others would."""
    found: list[str] = []
    n_packages = 0
    files = sorted(FOLDER.glob("*.txt"), key=lambda path: path.name != "build.txt")
    for path in files:
        dependencies = _audited(path)
        if isinstance(dependencies, str):
            print(f"audit: no vulnerability data can be had here ({dependencies}), so nothing was audited")
            return 0
        n_packages += len(dependencies)
        for package in dependencies:
            for known in package["vulns"]:
                fixed = ", ".join(known.get("fix_versions") or ["no version yet"])
                found.append(f"{path.name}: {package['name']} {package['version']}: {known['id']}, fixed in {fixed}")
    for line in dict.fromkeys(found):
        print(line)
    print(f"audit: {len(set(found))} known vulnerabilities in {n_packages} packages of {len(files)} files")
    return int(bool(found))


def _audited(path: Path) -> list[dict[str, Any]] | str:
    """The packages of a lock with what is known of each, or why nothing is."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(path), "--disable-pip", "--no-deps"]
    options = ["--format", "json", "--progress-spinner", "off", "--timeout", "15"]
    try:
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=LONGEST_S, check=False)
        dependencies = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return f"no answer within {LONGEST_S} s"
    except (ValueError, KeyError):
        return (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1][:200]
    known = [package for package in dependencies if "vulns" in package]
    return known or str(dependencies[0].get("skip_reason", "every package was skipped"))[:200]


if __name__ == "__main__":
    sys.exit(main())
