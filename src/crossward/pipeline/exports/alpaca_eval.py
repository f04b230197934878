"""alpaca_eval 0.6.6: answers, baseline and verdicts, so that its own leaderboard runs on them and asks no judge.

The verdicts stand in the file in which alpaca_eval keeps what a judge has said, so it finds every one already there.
"""

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import yaml

from crossward.core.judging import PairTemplate
from crossward.pipeline.exports.exported_run import ExportedRun
from crossward.pipeline.exports.pairs_source import Tally, require_file_names
from crossward.pipeline.exports.rows import Written, shown_path
from crossward.pipeline.judges import read_template
from crossward.store.annotation_file import Annotation, read_annotation_rows
from crossward.store.files import write_text
from crossward.store.run_dir import RunDir, safe_name
from crossward.store.verdict_file import write_annotations

ANNOTATOR = "annotator"
CACHE = "annotations_seed0_configs.json"  # as alpaca_eval names it, beside configs.yaml
NO_VERDICT = -1  # alpaca_eval's mark for a question that was asked and not answered


def write_alpaca_eval(
    folder: Path, source: Path, *, languages: Sequence[str], output: Path
) -> tuple[Written, dict[str, Tally]]:
    """<language>/outputs/<model>.json and reference.json, annotator/; returns counts by language too."""
    run = ExportedRun.at(source) if (source / "config.yaml").exists() else None
    rows = [row for path in _annotation_files(source, run) for row in read_annotation_rows(path)]
    rows = [row for row in rows if not languages or row.language in languages]
    if not rows:
        raise ValueError(f"{source} has no verdicts in {', '.join(languages)}: name languages that were judged")
    judges = sorted({row.annotator for row in rows})
    if len(judges) > 1:
        raise ValueError(f"{source} holds verdicts of {len(judges)} judges ({', '.join(judges)}): export one judge's")
    found = list(dict.fromkeys(row.language for row in rows))
    require_file_names(found)
    _require_own_files(rows)
    tallies = {language: Tally() for language in found}
    for language in found:
        _write_language(folder / language, [row for row in rows if row.language == language], tallies[language])
    _write_annotator(folder / ANNOTATOR, rows, judges[0], _template(run))
    models = dict.fromkeys((row.language, _file_name(row.generator_2)) for row in rows)
    commands = tuple(_command(output, language, name) for language, name in models)
    return Written(commands=commands, notes=_notes(found, rows)), tallies


def _annotation_files(source: Path, run: ExportedRun | None) -> list[Path]:
    """Every file of annotations of a run or of a folder of `crossward evaluate`."""
    if run is None:
        folders = [source / "annotations"]
    else:
        directory: RunDir = run.directory
        policies = [directory.reference, *(directory.iteration(t) for t in directory.iterations())]
        folders = [here.stage("judge").annotations for here in policies]
    files = [path for folder in folders for path in sorted(folder.glob("*.json")) if not path.name.startswith(".")]
    if not files:
        raise ValueError(
            f"{source} holds no judge's verdicts: name evaluate.judge in the recipe and run it again, or name "
            "the folder that crossward evaluate made"
        )
    return files


def _write_language(folder: Path, rows: Sequence[Annotation], tally: Tally) -> None:
    """All models' answers, and the baseline's once an instruction, in the order in which they were judged."""
    baselines = {row.generator_1 for row in rows}
    if len(baselines) > 1:
        raise ValueError(
            f"the verdicts in {rows[0].language!r} are against {len(baselines)} baselines "
            f"({', '.join(sorted(baselines))}): a leaderboard has one"
        )
    reference: dict[str, Annotation] = {}
    for row in rows:
        known = reference.setdefault(row.instruction, row)
        if (known.id, known.output_1) != (row.id, row.output_1):
            raise ValueError(
                f"the instruction of ids {known.id!r} and {row.id!r} ({row.language}) is the same text: alpaca_eval "
                "knows an instruction by its text alone, so leave one of them out of the evaluation"
            )
        tally.n_pairs += 1
        tally.skipped.update(["null"] if row.preference is None else [])
    _write_answers(
        folder / "reference.json", [_answer(row, row.output_1, row.generator_1) for row in reference.values()]
    )
    for model in dict.fromkeys(row.generator_2 for row in rows):
        answers = [_answer(row, row.output_2, model) for row in rows if row.generator_2 == model]
        _write_answers(folder / "outputs" / _file_name(model), answers)


def _write_answers(path: Path, answers: Sequence[dict[str, str]]) -> None:
    write_text(path, json.dumps(answers, ensure_ascii=False, indent=1) + "\n")


def _require_own_files(rows: Sequence[Annotation]) -> None:
    """Raise ValueError where a model cannot name a file, or two would share one."""
    named: dict[str, str] = {}
    for model in dict.fromkeys(row.generator_2 for row in rows):
        other = named.setdefault(_file_name(model), model)
        if other != model:
            raise ValueError(
                f"the models {other!r} and {model!r} would both be written to {_file_name(model)}: rename one of them "
                "in the annotations"
            )


def _file_name(model: str) -> str:
    return safe_name(model.replace("/", "_")) + ".json"


def _answer(row: Annotation, output: str, generator: str) -> dict[str, str]:
    return {"instruction": row.instruction, "output": output, "generator": generator}


def _write_annotator(folder: Path, rows: Sequence[Annotation], judge: str, template: PairTemplate) -> None:
    """The judge as alpaca_eval names one, and all it has said."""
    said = [
        {
            "instruction": row.instruction,
            "output_1": row.output_1,
            "generator_1": row.generator_1,
            "output_2": row.output_2,
            "generator_2": row.generator_2,
            "annotator": judge,
            "preference": NO_VERDICT if row.preference is None else row.preference,
        }
        for row in rows
    ]
    write_annotations(folder / CACHE, said)
    text = "\n".join(f"<|im_start|>{role}\n{content}\n<|im_end|>" for role, content in template.messages)
    write_text(folder / "template.txt", text + "\n")
    config = {
        judge: {
            "prompt_template": f"{ANNOTATOR}/template.txt",
            "fn_completions": "openai_completions",
            "completions_kwargs": {
                "model_name": judge,
                "max_tokens": 1,
                "temperature": 1,
                "logprobs": True,
                "top_logprobs": 5,
                "requires_chatml": True,
            },
            "fn_completion_parser": "logprob_parser",
            "completion_parser_kwargs": {
                "numerator_token": "m",
                "denominator_tokens": ["m", "M"],
                "is_binarize": False,
            },
            "completion_key": "completions_all",
            "batch_size": 1,
        }
    }
    head = "# The judge; asked only for answers that are not in the file beside this one, at OPENAI_API_BASE.\n"
    write_text(folder / "configs.yaml", head + yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=10**6))


def _template(run: ExportedRun | None) -> PairTemplate:
    """The run's own template; the package's where none is named, or a folder does not say."""
    section = None if run is None else run.config.evaluate.judge
    return read_template(None if section is None or section.template is None else Path(section.template))


def _command(output: Path, language: str, name: str) -> str:
    """alpaca_eval's own command for one model; the leaderboard grows from model to model."""
    words = [
        *("alpaca_eval", "--model_outputs", shown_path(output, f"{language}/outputs/{name}")),
        *("--reference_outputs", shown_path(output, f"{language}/reference.json")),
        *("--annotators_config", (output.resolve() / ANNOTATOR).as_posix()),
        *("--precomputed_leaderboard", shown_path(output, f"{language}/leaderboard.csv"), "--output_path", "None"),
    ]
    return shlex.join(words)


def _notes(languages: Sequence[str], rows: Sequence[Annotation]) -> tuple[str, ...]:
    notes = []
    if others := [language for language in languages if language != "en"]:
        notes.append(
            f"{', '.join(others)}: alpaca_eval's length control takes the difficulties of English instructions by "
            "their place in the file; --fn_metric get_winrate --sort_by win_rate gives the raw win rate"
        )
    if len({row.generator_2 for row in rows}) == 1:
        notes.append("one model was judged: the leaderboard has one row")
    twice = [key for key, n in Counter((row.instruction, row.output_1, row.output_2) for row in rows).items() if n > 1]
    if twice:
        notes.append(f"{len(twice)} answers were given by several models: alpaca_eval keeps the last verdict on each")
    return tuple(notes)
