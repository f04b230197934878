"""Every place where a file of a stranger is read: what comes in, valid examples of it, and the reader.

The table is TARGETS at the end; what servers and checkpoints send is in fuzz_answers.py.
"""

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from tests.support.mutations import Kind

from crossward import config, experiment_cells, experiment_config, plan_tables
from crossward.core.judging import parse_template as parse_pair_template
from crossward.core.rating import rating_template
from crossward.core.records import (
    PreferencePair,
    Prompt,
    RatedPrompt,
    RatedResponse,
    Response,
    SampledPrompt,
    ScoredPrompt,
    ScoredResponse,
    Skipped,
)
from crossward.core.translation import parse_template as parse_translation_template
from crossward.engines.state_files import WHOLE, Whole, names_in, read_whole, sums_of, write_whole
from crossward.store import (
    align_manifest,
    annotation_file,
    answer_file,
    answers,
    difficulty_file,
    edges,
    journal,
    judge_templates,
    keyed_lines,
    labelled,
    large_prompts,
    manifest,
    measures_file,
    metrics_file,
    model_outputs,
    mt_bench_files,
    noise_file,
    pair_numbers,
    pair_rows,
    preference_file,
    rates_file,
    reference_answers,
    reward_accuracy_file,
    shard_reasons,
    sources,
    tables,
    task_results,
    token_file,
    tracking_file,
    verdict_file,
)
from crossward.store.rows import Source
from crossward.store.run_dir import StageDir


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One reader. `read(content, folder)` reads the content, from a file in `folder` where it is one.

    An error must hold one of `names`. `prefix`: bytes at the beginning that are not of its kind.
    """

    name: str
    entry: str
    kind: Kind
    seeds: Callable[[], Sequence[bytes]]
    read: Callable[[bytes, Path], object]
    names: tuple[str, ...]
    prefix: int = 0


def of_file(
    name: str, entry: str, seeds: Callable[[], Sequence[bytes]], read: Callable[[Path], object], *, kind: Kind
) -> Target:
    """A reader of a file, which is called as its kind is."""
    suffix = {"text": "txt"}.get(kind, kind)

    def written(content: bytes, folder: Path) -> object:
        path = folder / f"stranger.{suffix}"
        path.write_bytes(content)
        return read(path)

    return Target(name=name, entry=entry, kind=kind, seeds=seeds, read=written, names=(f"stranger.{suffix}",))


# Valid content

ROWS = [
    {"id": "a", "language": "es", "instruction": "Nombra tres animales.", "english_instruction": "Name three animals."},
    {"id": "b", "language": "es", "instruction": "¿Qué es 你?", "english_instruction": "What is 你?"},
]
GROUPS = [row | {"responses": ["uno", "dos"], "finish_reasons": ["stop", "length"]} for row in ROWS]
SCORES = {"view": "crosslingual", "judged_under": "Name.", "policy_logprob": [-1.5, -2], "reference_logprob": [-1, -3]}
SCORED = [group | SCORES | {"n_tokens": [3, 4], "penalty": [0.0, 0.5], "judged": ["one", None]} for group in GROUPS]
MESSAGES = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
PREFERENCES: list[list[Any]] = [
    [{"prompt": "q", "chosen": "good", "rejected": "bad", "id": "1", "language": "en"}],
    [{"prompt": MESSAGES[:1], "chosen": MESSAGES[1:], "rejected": [{"role": "assistant", "content": "b"}]}],
    [{"chosen": MESSAGES, "rejected": [MESSAGES[0], {"role": "assistant", "content": "b"}], "score_chosen": 1}],
    [{"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}],
    [{"input": "q", "chosen": "a", "rejected": "b"}],
    [
        {
            "conversations": [{"from": "human", "value": "q"}],
            "chosen": {"from": "gpt", "value": "a"},
            "rejected": {"from": "gpt", "value": "b"},
            "system": "s",
        }
    ],
    [{"instruction": "q", "input": "more", "output": ["a", "b"], "history": [["q0", "a0"]]}],
    [{"prompt": "q", "completion": "a", "label": True}, {"prompt": "q2", "completion": "b", "label": 0}],
    [{"instruction": "q", "output": "a", "kto_tag": "true"}, {"messages": MESSAGES, "kto_tag": False}],
]
LABELLED: list[list[Any]] = [
    [group | {"gold": [1, 0.5]} for group in GROUPS],
    [{"prompt": "q", "chosen": "a", "rejected": "b", "id": 1, "subset": "alpacaeval-easy", "language": "zho_Hans"}],
]
VERDICT = {
    "id": "a",
    "language": "es",
    "model": "m",
    "baseline": "b",
    "preference": 0.5,
    "model_length": 10,
    "baseline_length": 12,
}
ANNOTATION = {
    "instruction": "q",
    "output_1": "x",
    "generator_1": "b",
    "output_2": "y",
    "generator_2": "m",
    "annotator": "judge",
    "preference": 1.5,
    "language": "es",
    "id": "a",
}
OUTPUTS = [{"id": "a", "instruction": "q", "output": "o", "generator": "m", "dataset": "d"}]
RECIPE = {
    "run": "runs/fuzz",
    "languages": ["en", "es"],
    "models": {"policy": "p", "reference": "r"},
    "prompts": {"path": "{language}.jsonl"},
    "sample": {"n": 4, "temperature": 0.9},
    "evaluate": {"languages": ["es"], "prompts": {"path": "{language}.jsonl"}},
}
EXPERIMENT = {
    "experiment": "runs/e",
    "recipe": RECIPE,
    "seeds": [1, 2],
    "grid": {"sample.n": [2, 4]},
    "cells": {"hot": {"sample": {"temperature": 1.0}}},
    "baseline": "hot",
    "measure": {"metric": ["fidelity"]},
    "tables": ["cells", {"shape": "policies", "name": "t"}],
    "figures": [{"shape": "languages"}],
}
QUESTION = {"question_id": 81, "category": "writing", "turns": ["one", "two"], "reference": ["r1", "r2"]}
MT_ANSWER = {"question_id": 81, "answer_id": "x", "model_id": "m", "choices": [{"index": 0, "turns": ["a1", "a2"]}]}
TERMS = {"id": "a", "place": 0, "pieces": ["u", "no"], "log_ratios": [0.5, -0.25]}
TOLD = {"key": {"id": "r", "logged": 1, "stages": {"iteration-1/pair": "ab"}, "steps": {"iteration-1/train": 5}}}
RATE = {
    "language": "es",
    "model": "m",
    "baseline": "b",
    "n_judged": 2,
    "n_null": 0,
    "win_rate": 50.0,
    "win_rate_se": 1.5,
    "lc_win_rate": None,
    "lc_variant": "none",
    "lc_interval": None,
}
RATES = {"judge": "j", "rates": [RATE], "averages": [], "differences": []}
ACCURACY = {
    "iteration": 1,
    "view": "crosslingual",
    "language": "es",
    "by": "gold",
    "accuracy": 0.5,
    "low": 0.25,
    "high": 0.75,
    "n_pairs": 9,
}
MEASURES_ROW = {
    "prompt_id": "a",
    "language": "es",
    "answer": 0,
    "n_chars": 9,
    "empty": False,
    "truncated": None,
    "repetition": 0.0,
    "looping": False,
    "identified": "es",
    "code_switching": 0.0,
    "chrf": None,
}


def json_of(*values: Any) -> Callable[[], list[bytes]]:
    return lambda: [json.dumps(value, ensure_ascii=False, indent=1).encode() for value in values]


def lines_of(*files: Sequence[Any]) -> Callable[[], list[bytes]]:
    return lambda: ["".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode() for rows in files]


def yaml_of(*values: Any) -> Callable[[], list[bytes]]:
    return lambda: [yaml.safe_dump(value, allow_unicode=True).encode() for value in values]


def csv_of(*texts: str) -> Callable[[], list[bytes]]:
    return lambda: [text.encode() for text in texts]


def parquet_of(*files: Sequence[Any]) -> Callable[[], list[bytes]]:
    return lambda: [_parquet(pa.Table.from_pylist(list(rows))) for rows in files]


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def _written(write: Callable[..., None], records: Sequence[Any]) -> Callable[[], list[bytes]]:
    """What one of our own writers makes of records."""

    def made() -> list[bytes]:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "valid"
            write(path, records)
            return [path.read_bytes()]

    return made


_PROMPT = Prompt(id="a", language="es", instruction="Nombra.", english_instruction="Name.")
_RESPONSES = (Response(text="uno", token_ids=(1, 2)), Response(text="dos", finish_reason="length"))
_LIKELY = tuple(
    ScoredResponse(response=r, policy_logprob=-1.0, reference_logprob=-2.0, n_tokens=2, judged=r) for r in _RESPONSES
)
_RATED = tuple(RatedResponse(response=r, rating=1.0, n_tokens=2, parts=(1.0,)) for r in _RESPONSES)
_PAIR = PreferencePair(
    prompt=_PROMPT, chosen=_LIKELY[0], rejected=_LIKELY[1], alpha=0.1, chosen_score=1.0, rejected_score=0.5
)


# Readers that need more than a path


def _probe() -> list[bytes]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.json"
        plan_tables.write_probe(path, next(iter(plan_tables.hardware_table().values())), 12.5)
        return [path.read_bytes()]


def _prompts(path: Path) -> object:
    """The English twins and another language from the same kind of file."""
    return sources.load_counted({"es": Source(path=str(path))}, english=Source(path=str(path)), allow_missing=True)


def _recipe_with(content: bytes, folder: Path) -> object:
    """An override as a shell hands it over: bytes that are not UTF-8 become halves of surrogate pairs."""
    path = folder / "recipe.yaml"
    path.write_bytes(yaml_of(RECIPE)()[0])
    return config.load(path, [content.replace(b"\x00", b"").decode("utf-8", "surrogateescape")])


def _experiment(path: Path) -> object:
    return experiment_cells.cell_runs(experiment_config.read_experiment(path), root=Path("runs"))


def _preferences(path: Path) -> object:
    return preference_file.read_preferences(str(path))


def _first_prompts(path: Path) -> object:
    """As of files that are too large to be read whole."""
    with patch.object(large_prompts, "LARGE_BYTES", 0):
        return large_prompts.count_if_large({"es": Source(path=str(path))}, Source(path=str(path)), limit=None)


def _stage(path: Path) -> object:
    """stage.json and inputs.json of a run that was sent."""
    stage = StageDir(path.parent / "iteration-1" / "pair")
    stage.path.mkdir(parents=True, exist_ok=True)
    for place in (stage.manifest, stage.inputs):
        place.write_bytes(path.read_bytes())
    try:
        manifest.read_origin(stage)
        found = manifest.read(stage)
        assert found is not None
        return found.digest, found.by_language
    except ValueError as error:
        raise ValueError(str(error).replace("stage.json", path.name).replace("inputs.json", path.name)) from error


def _metrics(path: Path) -> object:
    stage = StageDir(path.parent / "train")
    stage.path.mkdir(parents=True, exist_ok=True)
    stage.metrics.write_bytes(path.read_bytes())
    return metrics_file.read_metrics(path), manifest.last_metrics(stage)


def _kept(path: Path) -> object:
    """What a server said before: each kept answer is read."""
    found = answers.Answers(path)
    try:
        return [found.get(key) for key in ("k", "a", "")]
    finally:
        found.close()


def _keyed(path: Path) -> object:
    with keyed_lines.KeyedLines(path) as found:
        return [found.get(key) for key in found]


def _journal(path: Path) -> object:
    path.with_name("out.partial").write_bytes(path.read_bytes())
    with journal.Journal(path.with_name("out"), {"a": 1}, window=2, total=9) as found:
        return list(found.rows()), found.changed


def _tasks(path: Path) -> object:
    path.with_name("out.tasks").write_bytes(path.read_bytes())
    with task_results.TaskResults(path.with_name("out")) as found:
        return found.get({"a": 1})


def _told(path: Path) -> object:
    told = tracking_file.read_told(path, "key")
    tracking_file.write_told(path, "other", tracking_file.Told(id="x"))
    return told


def _noise(path: Path) -> object:
    scored = path.with_name("scored")
    noise_file.noise_file(scored).write_bytes(path.read_bytes())
    try:
        return noise_file.read_margins(scored), noise_file.known_margins(scored, view="v", dtype="d")
    except ValueError as error:
        raise ValueError(str(error).replace("scored.noise.json", path.name)) from error


def _aligned(path: Path) -> object:
    output = path.with_name("aligned")
    align_manifest.manifest_file(output).write_bytes(path.read_bytes())
    try:
        return align_manifest.begun(output, {"model": "m"}, {"seed": 1})
    except ValueError as error:
        raise ValueError(str(error).replace("aligned.align.json", path.name)) from error


def _templates(path: Path) -> object:
    folder = path.parent / "templates"
    folder.mkdir(exist_ok=True)
    (folder / "turn-1.txt").write_bytes(path.read_bytes())
    try:
        return judge_templates.read_templates(folder)
    except ValueError as error:
        raise ValueError(str(error).replace("turn-1.txt", path.name)) from error


def _published(path: Path) -> object:
    return difficulty_file.read_published(path, path)


def _sealed_state(path: Path) -> object:
    """What was changed with a checksum that fits: what else is asked of whole.json."""
    try:
        content = json.loads(path.read_bytes())
        content.pop("checksum", None)
        plain = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, AttributeError, TypeError, RecursionError):
        return read_whole(path)
    path.write_text(json.dumps(content | {"checksum": hashlib.sha256(plain).hexdigest()}))
    return read_whole(path)


def _state() -> list[bytes]:
    """A small state, marked as whole."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        for name in ("model.safetensors", "optimizer_0/__0_0.distcp"):
            (state / name).parent.mkdir(exist_ok=True)
            (state / name).write_bytes(name.encode())
        write_whole(state, Whole(sharding="fsdp2", processes=2, files=sums_of(state, names_in(state))))
        return [(state / WHOLE).read_bytes()]


def _all_of(stream: Callable[[Path], Any]) -> Callable[[Path], object]:
    return lambda path: list(stream(path))


_STAGE_JSON = {
    "stage": "pair",
    "inputs": {"score": "ab"},
    "settings": {"n": 1},
    "counts": {
        "languages": {
            "es": {
                "n_groups": 2,
                "n_pairs": 1,
                "alpha": 0.5,
                "length_gap_before": 1.0,
                "length_gap_after": None,
                "mean_margin": 0.5,
                "skipped": {"tie": 1},
                "removed_responses": {"empty": 1},
                "curve": [[0.5, 1.0]],
            }
        }
    },
    "seconds": 1.5,
    "shards": {"es.parquet": {"rows": 1, "sha256": "ab"}},
}
_ALIGNED = {"inputs": {"model": "m"}, "settings": {"seed": 1}, "counts": {}, "crossward": "0", "training": None}
_KEPT = GROUPS[0] | {"key": "k"}
_CSV_PROMPTS = 'id,instruction,language\r\na,Name three.,es\r\nb,"two\nlines, and more",es\r\n'
_CSV_RATES = "id,preference,std_delta_len,instruction_difficulty\na,0.5,0.1,1.5\nb,1,-2,0\n"

PROMPT_ROWS = [{"id": row["id"], "instruction": row["instruction"]} for row in ROWS]

TARGETS: tuple[Target, ...] = (
    of_file("recipe", "crossward run RECIPE", yaml_of(RECIPE), config.load, kind="yaml"),
    Target(
        name="override",
        entry="crossward run RECIPE KEY=VALUE",
        kind="text",
        seeds=lambda: [b"sample.n=4", b"models.policy=x", b"pair={min_margin: auto}", b"languages=[en, es]"],
        read=_recipe_with,
        names=("override", "recipe.yaml"),
    ),
    replace(
        of_file("experiment", "crossward experiment FILE", yaml_of(EXPERIMENT), _experiment, kind="yaml"),
        names=("stranger.yaml", "cell", "metric", "experiment", "recipe", "shows", "figure", "grid"),
    ),
    of_file(
        "hardware",
        "check --hardware-file",
        lambda: [plan_tables.HARDWARE.read_bytes()[:3000], b"hardware: {mine: {like: l40s, devices: 2}}\n"],
        plan_tables.hardware_table,
        kind="yaml",
    ),
    of_file(
        "prices",
        "check --price-file",
        yaml_of({"as_of": "2026", "currency": "EUR", "models": {"m": {"prompt": 1, "completion": 2.5}}}),
        plan_tables.price_table,
        kind="yaml",
    ),
    of_file("probe", "check --probe-input", _probe, plan_tables.read_probe, kind="json"),
    of_file("rates", "report, show", json_of(RATES), rates_file.read_rates, kind="json"),
    of_file(
        "reward-accuracy", "report, show", json_of([ACCURACY]), reward_accuracy_file.read_reward_accuracy, kind="json"
    ),
    of_file("measures", "report, show", lines_of([MEASURES_ROW]), measures_file.read_measures, kind="jsonl"),
    of_file(
        "translation-template",
        "translator.template",
        lambda: [b"{text} into {target}", b"<translated> {text} {target} {source}"],
        lambda path: parse_translation_template(path.read_text(encoding="utf-8", errors="replace"), str(path)),
        kind="text",
    ),
    of_file(
        "rating-template",
        "reward.template",
        lambda: [b"{instruction} {response}"],
        lambda path: rating_template(path.read_text(encoding="utf-8", errors="replace"), str(path)),
        kind="text",
    ),
    of_file("prompts-jsonl", "prompts.path", lines_of(PROMPT_ROWS), _prompts, kind="jsonl"),
    of_file("prompts-json", "prompts.path", json_of(PROMPT_ROWS), _prompts, kind="json"),
    of_file("prompts-csv", "prompts.path", csv_of(_CSV_PROMPTS), _prompts, kind="csv"),
    of_file("prompts-parquet", "prompts.path", parquet_of(PROMPT_ROWS), _prompts, kind="parquet"),
    of_file("prompts-large", "prompts.path of many bytes", lines_of(PROMPT_ROWS), _first_prompts, kind="jsonl"),
    of_file("groups", "score --input", lines_of(GROUPS), edges.read_groups, kind="jsonl"),
    of_file("scored", "pair --input", lines_of(SCORED), edges.read_scored, kind="jsonl"),
    of_file("pairs", "train --input", lines_of(*PREFERENCES[:2]), pair_rows.read_pairs, kind="jsonl"),
    of_file(
        "preferences-jsonl",
        "align --preferences",
        lines_of(*PREFERENCES),
        _preferences,
        kind="jsonl",
    ),
    of_file(
        "preferences-json",
        "align --preferences",
        json_of(*PREFERENCES),
        _preferences,
        kind="json",
    ),
    of_file(
        "preferences-csv",
        "align --preferences",
        csv_of('prompt,chosen,rejected\r\nq,"[{""role"": ""assistant"", ""content"": ""a""}]",b\r\nq2,a,b\r\n'),
        _preferences,
        kind="csv",
    ),
    of_file(
        "preferences-parquet",
        "align --preferences",
        parquet_of(*PREFERENCES[:6]),
        _preferences,
        kind="parquet",
    ),
    of_file(
        "labelled",
        "diagnose --input, with --english",
        lines_of(*LABELLED),
        lambda path: labelled.read_labelled(path, twin_needed=True, english=path),
        kind="jsonl",
    ),
    of_file(
        "verdicts", "winrate FILE", lines_of([VERDICT, VERDICT | {"id": 2}]), verdict_file.read_verdicts, kind="jsonl"
    ),
    of_file("annotations", "winrate FILE", json_of([ANNOTATION]), verdict_file.read_verdicts, kind="json"),
    of_file(
        "annotation-rows",
        "export --to alpaca-eval of a run",
        json_of([ANNOTATION]),
        annotation_file.read_annotation_rows,
        kind="json",
    ),
    of_file("difficulties", "winrate --difficulty, --gamed", csv_of(_CSV_RATES), _published, kind="csv"),
    of_file("model-outputs", "evaluate --baseline", json_of(OUTPUTS), model_outputs.read_model_outputs, kind="json"),
    of_file(
        "reference-answers",
        "measure --references",
        json_of(OUTPUTS),
        reference_answers.read_reference_answers,
        kind="json",
    ),
    of_file(
        "measured-answers",
        "measure FILE",
        json_of(OUTPUTS, GROUPS),
        lambda path: answer_file.read_answers(path, language="es"),
        kind="json",
    ),
    of_file(
        "mt-bench-questions",
        "mt-bench --questions",
        lines_of([QUESTION]),
        lambda path: mt_bench_files.read_questions(path, "es"),
        kind="jsonl",
    ),
    of_file(
        "mt-bench-answers",
        "mt-bench --answers, --references",
        lines_of([MT_ANSWER]),
        lambda path: (mt_bench_files.read_answers(path), mt_bench_files.read_references(path)),
        kind="jsonl",
    ),
    of_file(
        "noise",
        "pair --min-margin auto",
        json_of({"view": "v", "dtype": "d", "languages": {"es": {"margin": 0.5}}}),
        _noise,
        kind="json",
    ),
    of_file("stage-json", "every verb over a run", json_of(_STAGE_JSON), _stage, kind="json"),
    of_file(
        "training-metrics", "report, show", lines_of([{"step": 1, "loss": 0.5}, {"step": 2}]), _metrics, kind="jsonl"
    ),
    of_file("training-state", "run, align, train, again", _state, read_whole, kind="json"),
    of_file("training-state-sealed", "run, align, train, again", _state, _sealed_state, kind="json"),
    of_file("token-terms", "report, show", lines_of([TERMS]), token_file.read_token_terms, kind="jsonl"),
    of_file("tracking", "run with a tracker", json_of(TOLD), _told, kind="json"),
    of_file(
        "reasons",
        "run, report",
        json_of({"failures": {"cut": 2}}),
        lambda path: shard_reasons.read_reasons([path], "failures"),
        kind="json",
    ),
    of_file("align-json", "align, again", json_of(_ALIGNED), _aligned, kind="json"),
    of_file("kept-answers", "sample, again", lines_of([_KEPT, _KEPT | {"key": "a"}]), _kept, kind="jsonl"),
    of_file("kept-rows", "judge, again", lines_of([{"key": "k", "x": 1}, {"key": "j"}]), _keyed, kind="jsonl"),
    of_file("journal", "score, again", lines_of([{"origin": {"a": 1}}, {"r": 1}, {"r": 2}]), _journal, kind="jsonl"),
    of_file(
        "task-results", "tasks, again", lines_of([{"key": '{"a": 1}', "task": "t", "scores": {}}]), _tasks, kind="jsonl"
    ),
    of_file(
        "judge-templates",
        "mt-bench --templates",
        lambda: [b"{question_1} {answer_1} {language}"],
        _templates,
        kind="text",
    ),
    of_file(
        "pair-template",
        "evaluate.judge.template",
        lambda: [
            b"<|im_start|>user\n{instruction} {output_1} {output_2}<|im_end|>",
            b"{instruction} {output_1} {output_2}",
        ],
        lambda path: parse_pair_template(path.read_text(encoding="utf-8", errors="replace"), str(path)),
        kind="text",
    ),
    of_file(
        "shard-sampled",
        "a run's shards",
        _written(tables.write_sampled, [SampledPrompt(prompt=_PROMPT, responses=_RESPONSES)]),
        _all_of(tables.stream_sampled),
        kind="parquet",
    ),
    of_file(
        "shard-scored",
        "a run's shards",
        _written(
            tables.write_scored,
            [ScoredPrompt(prompt=_PROMPT, view="crosslingual", judged_under="x", responses=_LIKELY)],
        ),
        _all_of(tables.stream_scored),
        kind="parquet",
    ),
    of_file(
        "shard-rated",
        "a run's shards",
        _written(
            tables.write_rated, [RatedPrompt(prompt=_PROMPT, rated_by="judge", judged_under="x", responses=_RATED)]
        ),
        _all_of(tables.stream_rated),
        kind="parquet",
    ),
    of_file(
        "shard-pairs",
        "a run's shards",
        _written(tables.write_outcomes, [_PAIR, Skipped(prompt=_PROMPT, reason="tie")]),
        lambda path: (list(tables.stream_outcomes(path)), pair_numbers.read_pair_numbers(path)),
        kind="parquet",
    ),
)
