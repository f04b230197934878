"""A Hugging Face dataset folder: Parquet by language, a configuration each and one of all, and a card."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from crossward.core.exported import ExportedPair
from crossward.core.plain_markdown import code
from crossward.pipeline.exports import cards
from crossward.pipeline.exports.exported_run import ExportedRun
from crossward.pipeline.exports.method import method_section, preference_limit
from crossward.pipeline.exports.pairs_source import PairSource, require_file_names
from crossward.pipeline.exports.rows import Written, conversational, shown_path
from crossward.store import manifest
from crossward.store.files import write_text
from crossward.store.parquet_files import write_rows

SHARD_ROWS = 50_000
ALL = "default"  # the configuration that load_dataset takes where none is named
_MESSAGES = pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())]))
_TYPES = {
    "prompt": _MESSAGES,
    "chosen": _MESSAGES,
    "rejected": _MESSAGES,
    "id": pa.string(),
    "language": pa.string(),
    "iteration": pa.int32(),
    "english_instruction": pa.string(),
    "chosen_score": pa.float64(),
    "rejected_score": pa.float64(),
    "alpha": pa.float64(),
    "score_margin": pa.float64(),
    "chosen_characters": pa.int32(),
    "rejected_characters": pa.int32(),
    "chosen_finish_reason": pa.string(),
    "rejected_finish_reason": pa.string(),
}
_MEANING = {
    "prompt": "one user message: the instruction in this language",
    "chosen": "one assistant message: the response that was preferred",
    "rejected": "one assistant message: the response it was preferred to",
    "id": "the prompt's id, the same in every language",
    "language": "code of the language",
    "iteration": "the iteration that made the pair",
    "english_instruction": "the English twin of the instruction, under which responses were judged",
    "chosen_score": "log-ratio (or rating) less α times the length",
    "rejected_score": "the same of the rejected response",
    "alpha": "the length penalty of this language",
    "score_margin": "chosen_score − rejected_score",
    "chosen_characters": "length of the chosen response",
    "rejected_characters": "length of the rejected response",
    "chosen_finish_reason": "stop: it ended by itself; length: it was cut",
    "rejected_finish_reason": "the same of the rejected response",
}
_LIMITS = """\
## Limits

- {preferences}
- Responses may be wrong, unsafe or in the wrong language; nothing was filtered but what the table says.
- Scores are comparable within a prompt, not between languages: the same text has more tokens in some."""


def write_dataset(
    folder: Path, source: PairSource, *, run: ExportedRun | None, iterations: Sequence[int], license: str, output: Path
) -> Written:
    """data/<language>/train-00000-of-0000N.parquet and README.md"""
    cards.require_license(license)
    languages, known = source.languages, source.known
    require_file_names(languages)
    if ALL in languages:
        raise ValueError(f"a language cannot be called {ALL!r}, the configuration of all languages: rename it")
    names: list[str] = []
    for language in languages:
        names = _write_shards(folder / "data" / language, source.of(language), known) or names
    n_pairs = sum(source.tallies[language].n_pairs for language in languages)
    written = [language for language in languages if source.tallies[language].n_pairs]
    if not written:
        raise ValueError("no pairs are left to export: lower --min-margin, or name other languages or iterations")
    title = run.name if run is not None else output.resolve().name
    front = front_of(written, n_pairs, license=license, title=title)
    text = cards.card(front, _parts(source, run, iterations, license=license, title=title, columns=names))
    write_text(folder / "README.md", text)
    return Written(commands=(f"datasets.load_dataset({shown_path(output)!r}, {written[0]!r})",))


def front_of(languages: Sequence[str], n_pairs: int, *, license: str, title: str) -> dict[str, Any]:
    """The front matter of the card."""
    configurations: list[dict[str, Any]] = [
        {"config_name": ALL, "default": True, "data_files": [_files(f"data/{language}" for language in languages)]}
    ]
    configurations += [
        {"config_name": language, "data_files": [_files([f"data/{language}"])]} for language in languages
    ]
    return {
        "language": cards.hub_languages(languages),
        "license": license,
        "pretty_name": f"{title}: preference pairs",
        "task_categories": ["text-generation"],
        "size_categories": [_size(n_pairs)],
        "tags": ["preference", "dpo", "trl", "multilingual", "synthetic", "crossward"],
        "configs": configurations,
    }


def _files(folders: Any) -> dict[str, Any]:
    return {"split": "train", "path": [f"{folder}/train-*.parquet" for folder in folders]}


def _write_shards(folder: Path, pairs: Iterator[ExportedPair], known: frozenset[str]) -> list[str]:
    """The pairs of one language, SHARD_ROWS a file; returns the columns, none where there is no pair."""
    rows = (conversational(pair, known) for pair in pairs)
    shards: list[Path] = []
    names: list[str] = []
    while (first := next(rows, None)) is not None:
        names = list(first)
        path = folder / f"{len(shards):05d}.parquet"
        schema = pa.schema([(name, _TYPES[name]) for name in names])
        write_rows(path, schema, chain([first], islice(rows, SHARD_ROWS - 1)))
        shards.append(path)
    for index, path in enumerate(shards):
        path.rename(folder / f"train-{index:05d}-of-{len(shards):05d}.parquet")
    return names


def _parts(
    source: PairSource,
    run: ExportedRun | None,
    iterations: Sequence[int],
    *,
    license: str,
    title: str,
    columns: Sequence[str],
) -> list[str]:
    languages = source.languages
    what = (
        f"# {code(title)}: preference pairs\n\nPairs of a preferred and a less preferred response to the same "
        f"instruction, in {', '.join(map(code, languages))}, one configuration a language. They are TRL's "
        "conversational form (`prompt`, `chosen`, `rejected`)."
    )
    loading = (
        "```python\nfrom datasets import load_dataset\n\n"
        f'pairs = load_dataset("NAME_OR_FOLDER", "{languages[0]}", split="train")  # "{ALL}": all languages\n```'
    )
    meaning = cards.table(["column", "what it is"], [[code(name), _MEANING[name]] for name in columns])
    made = method_section(run, iterations) if run else "## How it was made\n\nFrom a file of preference pairs."
    provenance = (
        cards.provenance_section(run, [f"iteration-{t}/{stage}" for t in iterations for stage in ("sample", "pair")])
        if run
        else ""
    )
    return [
        what,
        loading,
        made,
        "## Counts\n\n" + _counts(source, run, iterations),
        f"## Columns\n\n{meaning}",
        provenance,
        _LIMITS.format(preferences=preference_limit(run)),
        cards.license_section(license),
        f"## Citation\n\n{cards.CITATION}" if run else "",
    ]


def _counts(source: PairSource, run: ExportedRun | None, iterations: Sequence[int]) -> str:
    tallies = [[code(language), source.tallies[language]] for language in source.languages]
    rows = [[name, tally.n_pairs, tally.n_cut, cards.skipped_words(dict(tally.skipped))] for name, tally in tallies]
    parts = [cards.table(["language", "pairs", "with a cut response", "prompts or pairs left out, by reason"], rows)]
    for t in iterations if run else ():
        made = manifest.read(run.pair_stage(t)) if run else None
        if made is None:
            continue
        head = ["language", "prompts", "pairs", "α", "length gap before", "after (characters)"]
        found = [
            [
                code(language),
                counts.get("n_groups"),
                counts.get("n_pairs"),
                *(cards.number(counts.get(key)) for key in ("alpha", "length_gap_before", "length_gap_after")),
            ]
            for language, counts in made.by_language
        ]
        parts.append(f"Iteration {t} as it was paired:\n\n{cards.table(head, found)}")
    return "\n\n".join(parts)


def _size(n: int) -> str:
    """The hub's size categories."""
    bounds = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]
    return next((name for bound, name in bounds if n < bound), "1M<n<10M" if n < 10**7 else "10M<n<100M")
