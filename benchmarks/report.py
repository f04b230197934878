"""How long a report of a large run takes to write and to open, and how large it is: nothing is trained or sampled.

    python benchmarks/report.py [--prompts 3000] [--languages 5] [--chromium PATH]

The run is made by the store alone: two iterations, ten responses of 200 to 2,400 characters to each prompt.
"""

import argparse
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from crossward.config import parse
from crossward.core.pairing import PairingRules
from crossward.core.records import Prompt, Response, ScoredPrompt, ScoredResponse
from crossward.pipeline import stages
from crossward.pipeline.counts import scored_counts
from crossward.pipeline.progress import Silent
from crossward.pipeline.report.write import report_again
from crossward.store import manifest, tables
from crossward.store.run_dir import RunDir

WORDS = ["sea", "name", "море", "слово", "фрукты", "ทะเล", "คำ", "海", "词", "bahari", "neno", "matunda", "palabra"]
SHARD = 500
CODES = ["en", "es", "ru", "de", "fr", "zh", "th", "sw", "bn", "ar"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=3000)
    parser.add_argument("--languages", type=int, default=5)
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp()) / "run"
    make(folder, CODES[: arguments.languages], arguments.prompts)
    started = time.monotonic()
    path, _ = report_again(folder)
    seconds, peak = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    groups = 2 * arguments.languages * arguments.prompts
    print(
        f"{arguments.languages} languages x {arguments.prompts} prompts x 2 iterations ({groups} groups): "
        f"{path.stat().st_size / 1e6:.1f} MB, written in {seconds:.1f} s, peak memory of the process {peak:.0f} MiB"
    )
    if arguments.chromium:
        print(f"opened in Chromium: {opened(path, arguments.chromium):.0f} ms until loaded, the best of 3")
    shutil.rmtree(folder.parent)


def opened(path: Path, chromium: str) -> float:
    """Milliseconds from navigation to the end of the load event."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        took = []
        for _ in range(3):
            page = browser.new_page()
            page.goto(path.as_uri())
            took.append(page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
            page.close()
        browser.close()
    return min(took)


def make(folder: Path, languages: list[str], prompts: int) -> None:
    recipe = {
        "run": str(folder),
        "languages": languages,
        "models": {"policy": "p", "reference": "r"},
        "prompts": {"path": "{language}.jsonl"},
        "pair": {"language_filter": "none"},
    }
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(parse(recipe, where="benchmark").model_dump(mode="json")))
    draw = random.Random(0)
    for t in (1, 2):
        here = RunDir(folder).iteration(t)
        score = here.stage("score")
        manifest.begin(score, {}, {})
        counts = {}
        for language in languages:
            for index in range(0, prompts, SHARD):
                path = score.shard(language, index // SHARD)
                tables.write_scored(path, groups(draw, language, range(index, min(prompts, index + SHARD))))
            counts[language] = scored_counts(every(score, language), n_sampled=prompts * 10)
        files = [path for _, _, path in score.shards()]
        manifest.finish(score, {}, {}, counts={"languages": counts}, files=files, seconds=1.0)
        stages.pair(
            here.stage("pair"),
            score,
            rules=PairingRules(length_unit="characters"),
            open_identifier=lambda: None,
            settings={},
            inputs={},
            progress=Silent(),
        )


def every(score: "manifest.StageDir", language: str) -> Iterator[ScoredPrompt]:
    return (group for code, _, path in score.shards() if code == language for group in tables.stream_scored(path))


def groups(draw: random.Random, language: str, indices: range) -> Iterator[ScoredPrompt]:
    for k in indices:
        prompt = Prompt(id=f"p{k}", language=language, instruction=f"{k}?", english_instruction=f"{k}?")
        texts = [" ".join(draw.choices(WORDS, k=draw.randint(30, 380))) for _ in range(10)]
        yield ScoredPrompt(
            prompt=prompt,
            view="crosslingual",
            judged_under=prompt.english_instruction,
            responses=tuple(
                ScoredResponse(
                    response=Response(text=text),
                    policy_logprob=draw.gauss(-100, 9),
                    reference_logprob=draw.gauss(-100, 9),
                    n_tokens=len(text) // 3,
                )
                for text in texts
            ),
        )


if __name__ == "__main__":
    main()
