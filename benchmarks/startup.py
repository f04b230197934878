"""How long the command line takes to answer: `import crossward` and `--help`, best of five fresh processes."""

import subprocess
import sys
import time


def seconds(*arguments: str) -> float:
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        best = min(best, time.perf_counter() - started)
    return best


def main() -> None:
    bare = seconds("-c", "pass")
    print(f"python alone       {bare:.3f} s")
    print(f"import crossward   {seconds('-c', 'import crossward') - bare:.3f} s on top (bar 0.3)")
    print(f"crossward --help   {seconds('-m', 'crossward', '--help'):.3f} s (bar 1.0)")


if __name__ == "__main__":
    main()
