"""Argilla 2: records to be reviewed by people, and the settings of the data set that takes them.

The two responses stand in an order drawn from the pair's name, so that their place tells nothing; which was chosen is a
suggestion and a piece of metadata that annotators do not see. Nothing of Argilla is imported.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from crossward.core.exported import ExportedPair
from crossward.pipeline.exports.exported_run import ExportedRun
from crossward.pipeline.exports.pairs_source import PairSource
from crossward.pipeline.exports.rows import Row, Written, all_pairs, shown_path
from crossward.store.files import write_text
from crossward.store.json_lines import write_json_lines

RECORDS, SETTINGS = "records.jsonl", "settings.json"
QUESTION, FIRST, SECOND = "preference", "response_1", "response_2"
_GUIDELINES = (
    "Which response would the person who wrote the instruction prefer? It should be in the language of the instruction "
    "unless that asks for another. The order of the two tells nothing."
)


def write_argilla(folder: Path, source: PairSource, *, run: ExportedRun | None, output: Path) -> Written:
    """records.jsonl and settings.json"""
    known = source.known
    beta = None if run is None else run.config.train.beta
    agent = "crossward" if run is None else f"crossward {run.name}"
    rows = (record(pair, known, beta=beta, agent=agent) for pair in all_pairs(source))
    write_json_lines(folder / RECORDS, rows)
    write_text(folder / SETTINGS, json.dumps(settings(known), indent=1) + "\n")
    path = shown_path(output, SETTINGS)
    return Written(commands=(f"argilla.Settings.from_json({path!r})",))


def record(pair: ExportedPair, known: frozenset[str], *, beta: float | None, agent: str) -> Row:
    """One pair as `argilla.Record.from_dict` takes it.

    The suggestion's score is σ(β·(chosen_score − rejected_score)), the probability that the reward gives the chosen
    response; left out where the scores are not log-ratios or not known.
    """
    # Pairs by direction give a prompt several pairs; Argilla overwrites records of one name.
    texts = hashlib.sha256(f"{pair.chosen}\0{pair.rejected}".encode("utf-8", "surrogatepass")).hexdigest()[:8]
    name = f"{pair.iteration or 0}/{pair.language}/{pair.id}/{texts}"
    chosen_first = hashlib.sha256(name.encode()).digest()[0] % 2 == 0
    place = FIRST if chosen_first else SECOND
    first, second = (pair.chosen, pair.rejected) if chosen_first else (pair.rejected, pair.chosen)
    fields = {"instruction": pair.instruction, FIRST: first, SECOND: second}
    if "english_instruction" in known:
        fields["english_instruction"] = pair.english_instruction
    suggestion: Row = {"value": place, "agent": agent}
    margin = pair.score_margin
    if margin is not None and beta is not None and not pair.rated:
        suggestion["score"] = _sigmoid(beta * margin)
    metadata: Row = {"language": pair.language, "prompt_id": pair.id, "chosen_is": place}
    metadata |= {} if pair.iteration is None else {"iteration": pair.iteration}
    metadata |= {} if margin is None else {"score_margin": margin}
    return {
        "id": name,
        "fields": fields,
        "metadata": metadata,
        "suggestions": {QUESTION: suggestion},
        "responses": {},
        "vectors": {},
    }


def settings(known: frozenset[str]) -> dict[str, Any]:
    """The data set as `argilla.Settings.from_json` takes it. Texts are shown as they are: no field renders Markdown."""
    fields = [_field("instruction", "Instruction", required=True)]
    if "english_instruction" in known:
        fields.append(_field("english_instruction", "The same instruction in English", required=False))
    fields += [_field(FIRST, "Response 1", required=True), _field(SECOND, "Response 2", required=True)]
    labels = {FIRST: "Response 1", SECOND: "Response 2", "tie": "Equally good", "neither": "Neither is usable"}
    metadata = [_metadata("language", "terms"), _metadata("prompt_id", "terms")]
    metadata += [_metadata("iteration", "integer")] if "iteration" in known else []
    metadata += [_metadata("score_margin", "float", seen=False)] if "chosen_score" in known else []
    metadata.append(_metadata("chosen_is", "terms", seen=False))
    question = {
        "name": QUESTION,
        "title": "Which response is better?",
        "description": None,
        "required": True,
        "type": "label_selection",
        "settings": {
            "type": "label_selection",
            "options": [{"value": value, "text": text} for value, text in labels.items()],
            "visible_options": len(labels),
        },
    }
    return {
        "guidelines": _GUIDELINES,
        "questions": [question],
        "fields": fields,
        "vectors": [],
        "metadata": metadata,
        "allow_extra_metadata": False,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
        "mapping": None,
    }


def _field(name: str, title: str, *, required: bool) -> dict[str, Any]:
    text = {"type": "text", "use_markdown": False}
    return {"name": name, "title": title, "required": required, "description": None, "type": "text", "settings": text}


def _metadata(name: str, kind: str, *, seen: bool = True) -> dict[str, Any]:
    bounds: dict[str, Any] = {"values": None} if kind == "terms" else {"min": None, "max": None}
    settings = {"type": kind, "visible_for_annotators": seen, **bounds}
    return {"name": name, "title": name, "visible_for_annotators": seen, "settings": settings}


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
