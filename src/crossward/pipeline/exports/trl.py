"""TRL: conversational pairs, one file of JSON Lines. DPOTrainer takes them as they are."""

from pathlib import Path

from crossward.pipeline.exports.pairs_source import PairSource
from crossward.pipeline.exports.rows import TRAIN, Written, all_pairs, conversational, shown_path
from crossward.store.json_lines import write_json_lines


def write_trl(folder: Path, source: PairSource, *, output: Path) -> Written:
    """train.jsonl"""
    known = source.known
    write_json_lines(folder / TRAIN, (conversational(pair, known) for pair in all_pairs(source)))
    path = shown_path(output, TRAIN)
    return Written(commands=(f"datasets.load_dataset('json', data_files={path!r}, split='train')",))
