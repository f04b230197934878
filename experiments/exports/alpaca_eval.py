"""alpaca_eval 0.6.6 makes its leaderboard from our verdicts, asks no judge, and finds the win rates that we find.

    python experiments/exports/alpaca_eval.py

Two made-up models and a baseline answer 240 instructions in English and in Spanish; a judge on 127.0.0.1 likes quality
and length, and gives no verdict on a few. `crossward evaluate` judges, `crossward export --to alpaca-eval` writes the
folder, and alpaca_eval's own command, as `crossward export` prints it, adds each model to a leaderboard; its
`make_leaderboard` then makes one of all. Win rate, standard error and length-controlled win rate are held against
`crossward winrate --variant published`. The difficulties and gamed rows,
which alpaca_eval takes from the hub, are made up too, and lie in a hub cache where it looks for them.
"""

import csv
import json
import math
import random
import re
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from environment import arguments, crossward, environment, inside

VERSION = "0.6.6"
INSTALLS = ([f"alpaca_eval=={VERSION}"],)
LANGUAGES, MODELS, N = ("en", "es"), ("model-a", "model-b"), 240
PROGRAM = """
import sys
from importlib.metadata import version
from alpaca_eval.main import main

print("versions: alpaca_eval " + version("alpaca_eval") + ", scikit-learn " + version("scikit-learn"))
sys.argv = ["alpaca_eval", *sys.argv[1:]]
main()
"""


def hardness(i: int) -> float:
    """The difficulty of an instruction, -1 to 1."""
    return (i * 37 % N) / N * 2 - 1


class Judge(BaseHTTPRequestHandler):
    """Prefers the answer of the higher quality (a digit in it) and the longer; says neither to a few."""

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["content-length"])))["messages"][-1]["content"]
        shown = re.findall(r"quality (\d+)((?: word)*)", question)
        (first, longer), (second, other) = shown[0], shown[1]
        number = re.search(r"number (\d+)", question)
        assert number is not None
        liking = 0.4 * (int(second) - int(first)) + 0.02 * (len(other) - len(longer))
        p = 1 / (1 + math.exp(-liking * (1 + 0.5 * hardness(int(number[1])))))
        name = "neither" if number[1].endswith(("39", "79")) else ("m", "M")[p > 0.5]
        top = [{"token": "m", "logprob": math.log(1 - p)}, {"token": "M", "logprob": math.log(p)}]
        content = {"token": name, "logprob": -0.1, "top_logprobs": [] if name == "neither" else top}
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": name},
            "finish_reason": "stop",
            "logprobs": {"content": [content]},
        }
        body = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 1}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def judge() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()


def write_answers(folder: Path) -> None:
    """Each model's answers in each language, of a quality and a length of its own."""
    draw = random.Random(7)
    for language in LANGUAGES:
        for name, quality, words in (("baseline", 5, 12), ("model-a", 4, 16), ("model-b", 6, 9)):
            rows = [
                {
                    "id": str(i),
                    "instruction": f"{language}: number {i}.",
                    "output": f"quality {max(0, round(draw.gauss(quality, 2)))}" + " word" * draw.randrange(2 * words),
                    "generator": name,
                }
                for i in range(N)
            ]
            path = folder / f"{name}.{language}.json"
            path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


def write_hub_cache(home: Path) -> tuple[Path, Path]:
    """The two files that alpaca_eval takes from the hub, where its client finds them offline."""
    draw, commit = random.Random(8), "0" * 40
    repository = home / "hub" / "datasets--tatsu-lab--alpaca_eval"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    columns = ["model", "index", "preference", "std_delta_len", "instruction_difficulty", "not_gamed_baseline"]
    rows: list[list[Any]] = [
        [model, i, 1 / (1 + math.exp(mean / 3 - hardness(i))), draw.gauss(mean, 0.3), hardness(i), False]
        for model, mean in (("concise", 2.0), ("verbose", -2.0))
        for i in range(N)
    ]
    for path, head, body in (
        (snapshot / "df_gamed.csv", columns, rows),
        (
            snapshot / "instruction_difficulty.csv",
            ["index", "instruction_difficulty"],
            [[i, hardness(i)] for i in range(N)],
        ),
    ):
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([head, *body])
    return snapshot / "instruction_difficulty.csv", snapshot / "df_gamed.csv"


def judged(work: Path) -> Path:
    """The folder that `crossward evaluate` makes."""
    write_answers(work)
    answers = [word for model in MODELS for word in ("--answers", work / (model + ".{language}.json"))]
    languages = [word for language in LANGUAGES for word in ("--language", language)]
    with judge() as url:
        crossward(
            *("evaluate", *answers, "--baseline", work / "baseline.{language}.json", *languages),
            *(
                "--judge-base-url",
                url,
                "--judge-model",
                "judge",
                "--attempts",
                2,
                "--concurrency",
                4,
                "--variant",
                "none",
            ),
            *("--output", work / "judged", "--json"),
        )
    return work / "judged"


def read_board(path: Path) -> dict[str, dict[str, str]]:
    """A leaderboard's rows by model."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row[""]: row for row in csv.DictReader(file)}


def main() -> None:
    given = arguments(__doc__ or "", run=False)
    with environment(given.environment, *INSTALLS) as python, tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        folder, export, home = judged(work), work / "export", work / "home"
        difficulty, gamed = write_hub_cache(home)
        exported = json.loads(crossward("export", folder, "--to", "alpaca-eval", "--output", export, "--json"))
        offline = {"HF_HOME": str(home), "OPENAI_API_BASE": "http://127.0.0.1:9/v1", "OPENAI_API_KEY": "none"}
        for command in exported["commands"]:
            print(inside(python, PROGRAM, *shlex.split(command)[1:], **offline))
        data = ("--variant", "published", "--difficulty", difficulty, "--gamed", gamed)
        ours = json.loads(crossward("winrate", folder / "verdicts.jsonl", *data, "--resamples", 10, "--json"))
        apart = 0.0
        for language in LANGUAGES:
            rows, board = read_board(export / language / "leaderboard.csv"), work / f"{language}.csv"
            words = [
                *("make_leaderboard", "--leaderboard_path", board, "--annotators_config", export / "annotator"),
                *("--all_model_outputs", export / language / "outputs" / "*.json", "--output_path", "None"),
                *("--reference_outputs", export / language / "reference.json"),
                *("--is_return_instead_of_print", "True"),  # 0.6.6 fails at printing it, after it was written
            ]
            inside(python, PROGRAM, *words, **offline)
            made = read_board(board)
            assert rows.keys() == made.keys(), (rows.keys(), made.keys())
            for name, row in rows.items():
                assert abs(float(row["win_rate"]) - float(made[name]["win_rate"])) < 1e-6, (name, row, made[name])
            print(f"{language}: make_leaderboard made the same win rates of {len(made)} models")
            for rate in (rate for rate in ours if rate["language"] == language):
                row = rows[rate["model"]]
                pairs = {
                    "win rate": (rate["win_rate"], float(row["win_rate"])),
                    "standard error": (rate["win_rate_se"], float(row["standard_error"])),
                    "length-controlled": (rate["lc_win_rate"], float(row["length_controlled_winrate"])),
                }
                assert int(float(row["n_total"])) == rate["n_judged"], (row["n_total"], rate["n_judged"])
                apart = max([apart, *(abs(mine - theirs) for mine, theirs in pairs.values())])
                told = "; ".join(f"{name} {mine:.6f} and {theirs:.6f}" for name, (mine, theirs) in pairs.items())
                print(f"{language} {rate['model']}: judged {rate['n_judged']}, null {rate['n_null']}; {told}")
        print(f"largest difference between crossward winrate --variant published and alpaca_eval: {apart:.1e}")
        if not apart < 1e-6:
            sys.exit("they differ")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
