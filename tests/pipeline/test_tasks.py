"""`crossward tasks`: what is run, what is kept, how it is averaged, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from tests.support.command import call
from tests.support.families import make_family
from tests.support.quiz import QUESTIONS, write_quiz

from crossward.engines.lm_eval_tasks import Prompting, TaskFolder
from crossward.engines.protocols import ModelSpec
from crossward.pipeline import tasks as pipeline
from crossward.pipeline.progress import Silent
from crossward.pipeline.tasks import Asked, plan, tasks_file
from crossward.store.task_results import TaskResults

SPANISH = [question | {"question": f"¿{question['question']}?"} for question in QUESTIONS]
SWAHILI = [question | {"question": f"{question['question']} ni"} for question in QUESTIONS[:6]]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Data sets made of local files go to a folder of the test, not to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    return ModelSpec(path=str(make_family("llama3", tmp_path / "model", seed=3)), dtype="float32", device="cpu")


@pytest.fixture
def quizzes(tmp_path: Path) -> Path:
    write_quiz(tmp_path / "tasks", "quiz_es", SPANISH)
    write_quiz(tmp_path / "tasks", "quiz_sw", SWAHILI)
    return tmp_path / "tasks"


def run(tmp_path: Path, spec: ModelSpec, *, progress: Any = None, **changes: Any) -> dict[str, Any]:
    asked = {"languages": ("es", "sw"), "tasks": ("quiz_{language}",)} | changes.pop("asked", {})
    return tasks_file(
        tmp_path / "results.json",
        model=spec,
        asked=Asked(**asked),
        prompting=Prompting(**changes),
        include=tmp_path / "tasks",
        batch_size=4,
        progress=progress or Silent(),
    )


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the tasks that a model was run on."""
    names: list[str] = []
    really = TaskFolder.run

    def counted(self: TaskFolder, name: str, *arguments: Any, **named: Any) -> Any:
        result = really(self, name, *arguments, **named)
        names.append(name)
        return result

    monkeypatch.setattr(TaskFolder, "run", counted)
    return names


def test_scores_by_language_and_their_average(tmp_path: Path, spec: ModelSpec, quizzes: Path):
    found = run(tmp_path, spec)
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8")) == found
    assert [(row["measure"], row["language"], row["task"], row["n"]) for row in found["results"]] == [
        ("quiz_{language}", "es", "quiz_es", len(SPANISH)),
        ("quiz_{language}", "sw", "quiz_sw", len(SWAHILI)),
    ]
    es, sw = (row["scores"]["acc"] for row in found["results"])
    pooled = {row["metric"]: row for row in found["pooled"]}
    assert set(pooled) == {"acc", "acc_norm"}
    by_language, by_item = pooled["acc"]["by_language"], pooled["acc"]["by_item"]
    assert by_language["value"] == pytest.approx((es["value"] + sw["value"]) / 2)
    errors = (es["standard_error"], sw["standard_error"])
    assert by_language["standard_error"] == pytest.approx(sqrt(errors[0] ** 2 + errors[1] ** 2) / 2)
    n = (len(SPANISH), len(SWAHILI))
    assert by_item["value"] == pytest.approx((n[0] * es["value"] + n[1] * sw["value"]) / sum(n))
    assert pooled["acc"]["shared_questions"] == len(SWAHILI)

    # Clustered, from the single items that are kept beside the output.
    kept = [json.loads(line) for line in (tmp_path / "results.json.tasks").read_text().splitlines()]
    parts: dict[str, float] = {}
    for row in kept:
        items = np.array(row["items"]["acc"])
        scaled = (items - items.mean()) / (2 * len(items)) * sqrt(len(items) / (len(items) - 1))
        for question, part in zip(row["questions"], scaled, strict=True):
            parts[question] = parts.get(question, 0.0) + part
    assert by_language["clustered"] == pytest.approx(sqrt(sum(part**2 for part in parts.values())))
    assert by_language["clustered"] != pytest.approx(by_language["standard_error"])


def test_a_finished_task_is_not_scored_again(tmp_path: Path, spec: ModelSpec, quizzes: Path, scored: list[str]):
    first = run(tmp_path, spec, asked={"languages": ("es",)})
    assert scored == ["quiz_es"]
    both = run(tmp_path, spec)
    assert scored == ["quiz_es", "quiz_sw"]
    assert both["results"][0] == first["results"][0]
    before = (tmp_path / "results.json").read_bytes()
    assert run(tmp_path, spec) == both
    assert scored == ["quiz_es", "quiz_sw"]
    assert (tmp_path / "results.json").read_bytes() == before


def test_a_model_is_loaded_once_and_not_at_all_where_everything_is_kept(
    tmp_path: Path, spec: ModelSpec, quizzes: Path, monkeypatch: pytest.MonkeyPatch
):
    really = pipeline.open_model
    loaded: list[ModelSpec] = []

    def counted(spec: ModelSpec, **named: Any) -> Any:
        loaded.append(spec)
        return really(spec, **named)

    monkeypatch.setattr(pipeline, "open_model", counted)
    found = run(tmp_path, spec)
    assert len(found["results"]) == 2
    assert loaded == [spec]
    assert run(tmp_path, spec) == found
    assert loaded == [spec]


def test_whatever_decides_a_score_is_scored_anew(tmp_path: Path, spec: ModelSpec, quizzes: Path, scored: list[str]):
    asked = {"asked": {"languages": ("sw",)}}
    run(tmp_path, spec, **asked)
    run(tmp_path, spec, **asked, limit=3)
    run(tmp_path, spec, **asked, chat_template=True)
    run(tmp_path, spec, **asked, shots=1)
    run(tmp_path, replace(spec, dtype="bfloat16"), **asked)
    assert len(scored) == 5
    make_family("llama3", Path(spec.path), seed=4)  # other weights under the same path
    changed = run(tmp_path, spec, **asked)
    assert len(scored) == 6
    write_quiz(quizzes, "quiz_sw", SWAHILI[:4])
    assert run(tmp_path, spec, **asked)["results"][0]["n"] == 4
    assert len(scored) == 7
    write_quiz(quizzes, "quiz_sw", SWAHILI)
    assert run(tmp_path, spec, **asked) == changed
    assert len(scored) == 7


def test_a_cut_run_goes_on_where_it_stopped(
    tmp_path: Path, spec: ModelSpec, quizzes: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = run(tmp_path, spec)
    (tmp_path / "results.json").unlink()
    (tmp_path / "results.json.tasks").unlink()
    really = TaskFolder.run
    names: list[str] = []

    def cut(self: TaskFolder, name: str, *arguments: Any, **named: Any) -> Any:
        names.append(name)
        if len(names) == 2:
            raise KeyboardInterrupt
        return really(self, name, *arguments, **named)

    monkeypatch.setattr(TaskFolder, "run", cut)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, spec)
    assert not (tmp_path / "results.json").exists()
    assert run(tmp_path, spec) == whole
    assert names == ["quiz_es", "quiz_sw", "quiz_sw"]


@pytest.mark.parametrize(
    ("damage", "scored_again", "left"),
    [
        (lambda line: line[:-10], True, b""),
        (lambda line: line[:-1], False, b""),  # whole but for its newline: nothing is lost
        (lambda line: b"x" * 2 * len(line) + b"\n", True, b"x"),  # a damaged line is passed over, not cut off
    ],
    ids=["torn", "without its end", "longer than what was there"],
)
def test_a_damaged_line_is_scored_again_and_the_others_are_not(
    tmp_path: Path,
    spec: ModelSpec,
    quizzes: Path,
    scored: list[str],
    damage: Callable[[bytes], bytes],
    scored_again: bool,
    left: bytes,
):
    whole = run(tmp_path, spec)
    kept = tmp_path / "results.json.tasks"
    first, second = kept.read_bytes().splitlines(keepends=True)
    kept.write_bytes(first + damage(second))
    assert run(tmp_path, spec) == whole
    assert scored == ["quiz_es", "quiz_sw", *(["quiz_sw"] if scored_again else [])]
    passed_over = damage(second) if left else b""
    assert kept.read_bytes() == first + passed_over + second


def test_two_processes_do_not_write_one_output(tmp_path: Path, spec: ModelSpec, quizzes: Path):
    with (
        TaskResults(tmp_path / "results.json"),
        pytest.raises(ValueError, match="is in use already: wait until that process ends"),
    ):
        run(tmp_path, spec)
    assert not (tmp_path / "results.json.tasks").exists(), "nothing was kept"


def test_the_plan_names_what_is_absent():
    planned, absent = plan(Asked(languages=("es", "sw", "zh", "es", "sw"), benchmarks=("hellaswag", "truthfulqa")))
    assert [task.task for task in planned] == [
        "hellaswag_es",
        "truthfulqa_es_mc1",
        "truthfulqa_es_mc2",
        "truthfulqa_zh_mc1",
        "truthfulqa_zh_mc2",
    ]
    gaps = [(gap.benchmark, gap.language) for gap in absent]
    assert gaps == [("hellaswag", "sw"), ("hellaswag", "zh"), ("truthfulqa", "sw")]
    planned, absent = plan(Asked(languages=("en",)))
    assert len(planned) == 5
    assert absent == ()
    planned, absent = plan(Asked(languages=("sw", "th"), tasks=("xcopa_{language}", "belebele_swh_Latn")))
    assert [(task.measure, task.language, task.task) for task in planned] == [
        ("xcopa_{language}", "sw", "xcopa_sw"),
        ("xcopa_{language}", "th", "xcopa_th"),
        ("belebele_swh_Latn", None, "belebele_swh_Latn"),
    ]


def test_the_command_scores_and_tells(
    tmp_path: Path, spec: ModelSpec, quizzes: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = (
        "tasks", "--model", spec.path, "--dtype", "float32", "--device", "cpu", "--include-path", quizzes,
        "--task", "quiz_{language}", "--language", "es", "--language", "sw", "--output", tmp_path / "out.json",
    )  # fmt: skip
    called = call(capsys, *arguments)
    assert called.code == 0, called.err
    assert "quiz_sw" in called.out
    assert "SE, clustered" in called.out
    assert "plain text, float32" in called.out
    called = call(capsys, *arguments, "--json")
    assert called.code == 0
    assert json.loads(called.out) == json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert "quiz_es: kept from before" in called.err


def test_the_coverage_map_needs_no_model(capsys: pytest.CaptureFixture[str]):
    called = call(capsys, "tasks", "--coverage", "--json")
    assert called.code == 0, called.err
    languages = json.loads(called.out)["languages"]
    assert languages["de"]["tasks"]["arc"] == ["arc_de"]
    assert languages["sw"]["tasks"] == {"arc": [], "hellaswag": [], "mmlu": [], "truthfulqa": []}
    assert "xcopa_th" in languages["th"]["alternatives"]
    called = call(capsys, "tasks", "--coverage", "--language", "zh", "--benchmark", "hellaswag")
    assert called.code == 0
    assert "belebele_zho_Hans" in called.out
    assert "arc_zh" not in called.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "name the model with --model and the file to write with --output, or ask for --coverage"),
        (("--coverage", "--language", "xq"), "unknown language code 'xq': expected an ISO 639-1 code"),
        (("MODEL", "--language", "xq"), "unknown language code 'xq': expected an ISO 639-1 code"),
        (
            ("MODEL", "--language", "es", "--benchmark", "arcc"),
            "unknown benchmark 'arcc': expected arc, hellaswag, mmlu",
        ),
        (("MODEL", "--task", "quiz_{language}", "--language", "xq"), "unknown language code 'xq'"),
        (("MODEL",), "name at least one --language"),
        (("MODEL", "--task", "quiz", "--language", "es"), "--language has nothing to choose: write {language} in the"),
        (
            ("MODEL", "--language", "th", "--benchmark", "mmlu"),
            "lm-eval has no mmlu in Thai (th): other benchmarks in it",
        ),
        (("MODEL", "--task", "quiz_es", "--include-path", "nowhere"), "task folder nowhere does not exist"),
        (("MODEL", "--task", "quiz_ess", "--include-path", "TASKS"), "did you mean quiz_es"),
        (("--model", "none", "--output", "x", "--task", "quiz_es", "--include-path", "TASKS"), "none"),
        (("--model", "./none", "--output", "x", "--task", "quiz_es", "--include-path", "TASKS"), "does not exist"),
        (("MODEL", "--output", "TASKS", "--task", "quiz_es", "--include-path", "TASKS"), "is a folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_is_one_sentence(
    tmp_path: Path,
    spec: ModelSpec,
    quizzes: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    sentence: str,
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    given: list[object] = []
    for argument in arguments:
        match argument:
            case "MODEL":
                given += ["--model", spec.path, "--output", "out.json"]
            case "TASKS":
                given.append(quizzes)
            case _:
                given.append(argument)
    called = call(capsys, "tasks", *given)
    assert called.code == 2, called.err
    assert sentence in called.sentence
    assert called.sentence.startswith("crossward: ")
    assert called.err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"model", "tasks"}
