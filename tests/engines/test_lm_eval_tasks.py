"""Benchmark tasks: against plain transformers, item by item; offline; what is refused; the map against lm-eval."""

import json
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tests.support.families import MAX_POSITIONS, make_family
from tests.support.quiz import QUESTIONS, Question, write_quiz
from transformers import AutoModelForCausalLM, AutoTokenizer

from crossward.core.tasks import TaskResult
from crossward.engines import lm_eval_tasks
from crossward.engines.lm_eval_tasks import Prompting, TaskFolder, open_model
from crossward.engines.models import settle
from crossward.engines.protocols import ModelSpec

settle()
PLAIN = Prompting()


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Data sets made of local files go to a folder of the test, not to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="module", params=["chatml", "llama3"])
def spec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    folder = make_family(request.param, tmp_path_factory.mktemp(request.param), seed=3)
    return ModelSpec(path=str(folder), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def llama3(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    folder = make_family("llama3", tmp_path_factory.mktemp("llama3"), seed=3)
    return ModelSpec(path=str(folder), dtype="float32", device="cpu")


def run(
    folder: Path, name: str, spec: ModelSpec, prompting: Prompting = PLAIN, *, batch_size: int = 4, **watch: Any
) -> TaskResult:
    model = open_model(spec, batch_size=batch_size, chat_template=prompting.chat_template)
    return TaskFolder(folder).run(name, model, prompting, **watch)


def logprob(model: Any, context: list[int], option: list[int]) -> float:
    """log π(option | context) by transformers alone, one sequence, in float64."""
    ids = torch.tensor([context + option])
    with torch.no_grad():
        logprobs = model(input_ids=ids).logits[0].double().log_softmax(-1)
    return sum(float(logprobs[len(context) + k - 1, token]) for k, token in enumerate(option))


def expected(
    model: Any, tokenizer: Any, questions: Sequence[Question], *, prefix: str = "", space: str = " "
) -> dict[str, list[float]]:
    """acc and acc_norm of every question: the option of most log-probability, and of most per character.

    White space at the end of the context belongs to the option, as lm-eval has it.
    """
    found: dict[str, list[float]] = {"acc": [], "acc_norm": []}
    for question in questions:
        context = tokenizer((prefix + question["question"]).rstrip()).input_ids
        whole = [tokenizer(prefix + question["question"] + space + option).input_ids for option in question["options"]]
        sums = [logprob(model, context, ids[len(context) :]) for ids in whole]
        lengths = [len(option) for option in question["options"]]
        found["acc"].append(float(int(np.argmax(sums)) == question["answer"]))
        found["acc_norm"].append(float(int(np.argmax(np.array(sums) / lengths)) == question["answer"]))
    return found


def plain(spec: ModelSpec) -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(spec.path), AutoTokenizer.from_pretrained(spec.path)


def test_scores_are_those_of_plain_transformers_item_by_item(spec: ModelSpec, tmp_path: Path):
    write_quiz(tmp_path, "quiz")
    result = run(tmp_path, "quiz", spec)
    wanted = expected(*plain(spec), QUESTIONS)
    assert wanted["acc"] != wanted["acc_norm"], "the two metrics must be told apart"
    for metric in ("acc", "acc_norm"):
        items = wanted[metric]
        assert 0 < sum(items) < len(items)
        assert list(result.items[metric]) == items
        mean = sum(items) / len(items)
        assert result.scores[metric].value == pytest.approx(mean)
        # of 0s and 1s: sqrt(p(1 − p)/(n − 1))
        assert result.scores[metric].standard_error == pytest.approx(sqrt(mean * (1 - mean) / (len(items) - 1)))
    assert result.questions == tuple(question["id"] for question in QUESTIONS)
    assert (result.n, result.shots, result.truncated, result.version) == (len(QUESTIONS), 0, 0, "1.0")


def test_batches_do_not_change_scores(spec: ModelSpec, tmp_path: Path):
    write_quiz(tmp_path, "quiz")
    assert run(tmp_path, "quiz", spec, batch_size=1) == run(tmp_path, "quiz", spec, batch_size=64)


def test_in_the_chat_template_with_one_bos(spec: ModelSpec, tmp_path: Path):
    write_quiz(tmp_path, "quiz")
    model, tokenizer = plain(spec)
    rendered = [
        question
        | {
            "question": tokenizer.apply_chat_template(
                [{"role": "user", "content": question["question"]}], tokenize=False, add_generation_prompt=True
            )
        }
        for question in QUESTIONS
    ]
    bos = tokenizer.bos_token or ""
    bare = [question | {"question": question["question"].removeprefix(bos)} for question in rendered]
    wanted = expected(model, tokenizer, bare, space="")
    result = run(tmp_path, "quiz", spec, Prompting(chat_template=True))
    assert {metric: list(items) for metric, items in result.items.items()} == wanted
    assert wanted != expected(model, tokenizer, QUESTIONS)


def test_examples_stand_before_every_question(spec: ModelSpec, tmp_path: Path):
    example = {"id": "e", "question": "A man is", "options": ["the house", "a man in the inn"], "answer": 1}
    train = tmp_path / "train.jsonl"
    train.write_text(json.dumps(example) + "\n")
    data = write_quiz(tmp_path, "quiz")
    files = {"data_files": {"test": str(data), "train": str(train)}}
    write_quiz(tmp_path, "quiz", dataset_kwargs=files, training_split="train", fewshot_split="train")
    result = run(tmp_path, "quiz", spec, Prompting(shots=1))
    wanted = expected(*plain(spec), QUESTIONS, prefix="A man is a man in the inn\n\n")
    assert {metric: list(items) for metric, items in result.items.items()} == wanted
    assert result.shots == 1
    write_quiz(tmp_path, "quiz", dataset_kwargs=files, training_split="train", num_fewshot=0)
    assert run(tmp_path, "quiz", spec, Prompting(shots=1)).shots == 0, "a task that says 0 takes none, and it shows"
    write_quiz(tmp_path, "quiz", dataset_kwargs=files, training_split="train", fewshot_split="train")
    with pytest.raises(ValueError, match="task quiz with 2 shots"):
        run(tmp_path, "quiz", spec, Prompting(shots=2))


def test_a_limit_takes_the_first_questions(llama3: ModelSpec, tmp_path: Path):
    write_quiz(tmp_path, "quiz")
    result = run(tmp_path, "quiz", llama3, Prompting(limit=3))
    assert result.n == 3
    assert result.questions == ("q0", "q1", "q2")


def test_every_option_is_told_of(llama3: ModelSpec, tmp_path: Path):
    write_quiz(tmp_path, "quiz")
    told: list[Any] = []

    class Task:
        def __enter__(self) -> Any:
            return told.append

        def __exit__(self, *error: object) -> None:
            told.append("end")

    def watch(title: str, total: int) -> Any:
        told.append((title, total))
        return Task()

    run(tmp_path, "quiz", llama3, watch=watch)
    options = sum(len(question["options"]) for question in QUESTIONS)
    assert told[0] == ("quiz", options)
    assert sum(told[1:-1]) == options
    assert told[-1] == "end"


def test_a_lora_folder_is_scored_as_its_merged_model(llama3: ModelSpec, tmp_path: Path):
    write_quiz(tmp_path / "tasks", "quiz")
    torch.manual_seed(0)
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(llama3.path), LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")
    )
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=2.0)
    adapted.save_pretrained(str(tmp_path / "adapter"))
    result = run(tmp_path / "tasks", "quiz", replace(llama3, path=str(tmp_path / "adapter")))
    merged: Any = adapted.merge_and_unload()
    tokenizer = AutoTokenizer.from_pretrained(llama3.path)
    assert {metric: list(items) for metric, items in result.items.items()} == expected(merged, tokenizer, QUESTIONS)
    assert result.items != run(tmp_path / "tasks", "quiz", llama3).items


def test_a_bfloat16_model_has_its_log_softmax_in_float32(llama3: ModelSpec):
    from lm_eval.api.instance import Instance

    model = open_model(replace(llama3, dtype="bfloat16"), batch_size=1)
    texts = ("The sea is", " a house by the sea")
    request = Instance(request_type="loglikelihood", doc={}, arguments=texts, idx=0)
    ((found, _),) = model.loglikelihood([request])
    tokenizer = AutoTokenizer.from_pretrained(llama3.path)
    context, whole = (tokenizer(text).input_ids for text in (texts[0], "".join(texts)))
    bfloat16 = AutoModelForCausalLM.from_pretrained(llama3.path, dtype=torch.bfloat16)
    assert found == pytest.approx(logprob(bfloat16, context, whole[len(context) :]), abs=1e-4)


def test_a_local_task_needs_no_network(llama3: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_quiz(tmp_path, "quiz")
    tried: list[object] = []

    def refuse(*arguments: object, **named: object) -> None:
        tried.append(arguments)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert run(tmp_path, "quiz", llama3).n == len(QUESTIONS)
    assert tried == []


def test_what_does_not_fit_the_context_is_counted(llama3: ModelSpec, tmp_path: Path):
    long = {"id": "long", "question": "x" * MAX_POSITIONS, "options": ["yes", "no", "maybe not"], "answer": 0}
    write_quiz(tmp_path, "quiz", [*QUESTIONS, long])
    assert run(tmp_path, "quiz", llama3).truncated == 3
    write_quiz(tmp_path, "quiz", [long | {"options": ["yes", "n" * (MAX_POSITIONS + 1)]}])
    with pytest.raises(ValueError, match=r"the option ' nnnn.* has 51[0-9] tokens: expected 1 to 512"):
        run(tmp_path, "quiz", llama3)


def test_weights_that_are_no_numbers_give_no_accuracy(llama3: ModelSpec, tmp_path: Path):
    write_quiz(tmp_path / "tasks", "quiz")
    folder = make_family("llama3", tmp_path / "model", seed=3)
    weights = load_file(folder / "model.safetensors")
    broken = {name: tensor * float("nan") if "norm" in name else tensor for name, tensor in weights.items()}
    save_file(broken, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="log-probabilities are no numbers"):
        run(tmp_path / "tasks", "quiz", replace(llama3, path=str(folder)))


def test_ids_that_repeat_are_no_ids(llama3: ModelSpec, tmp_path: Path):
    write_quiz(tmp_path, "quiz", [question | {"id": "same"} for question in QUESTIONS])
    result = run(tmp_path, "quiz", llama3)
    assert result.questions == ()
    assert result.items == {}


def test_a_local_group_has_the_score_of_all_its_questions(llama3: ModelSpec, tmp_path: Path):
    write_quiz(tmp_path, "first", QUESTIONS[:3])
    write_quiz(tmp_path, "second", QUESTIONS[3:])
    group = "group: both\ntask: [first, second]\n"
    (tmp_path / "both.yaml").write_text(group + "aggregate_metric_list: [{metric: acc, weight_by_size: true}]\n")
    result = run(tmp_path, "both", llama3)
    assert result.n == len(QUESTIONS)
    write_quiz(tmp_path / "whole", "quiz")
    whole = run(tmp_path / "whole", "quiz", llama3)
    assert result.scores["acc"].value == pytest.approx(whole.scores["acc"].value)
    assert result.questions == ()
    (tmp_path / "both.yaml").write_text(group)
    with pytest.raises(ValueError, match="both is a group of tasks without a score of its own"):
        TaskFolder(tmp_path).require(["both"])


def test_names_that_are_no_task_are_refused_with_near_ones(tmp_path: Path):
    write_quiz(tmp_path, "quiz")
    folder = TaskFolder(tmp_path)
    with pytest.raises(ValueError, match=r"no task 'arc_ess' in lm-eval .*: did you mean arc_es"):
        folder.require(["quiz", "arc_ess"])
    with pytest.raises(ValueError, match="did you mean quiz"):
        folder.require(["quizz"])
    with pytest.raises(ValueError, match=r"m_mmlu is a tag of \d+ tasks, not a task: name tasks, such as m_mmlu_ar"):
        folder.require(["m_mmlu"])
    with pytest.raises(ValueError, match=r"task folder .*nowhere does not exist"):
        TaskFolder(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"test_split": "tset"}, "task quiz cannot be loaded: KeyError: 'tset'"),
        ({"doc_to_text": "{{questoin}}"}, "task quiz cannot be loaded: UndefinedError: 'questoin' is undefined"),
        ({"doc_to_choice": None}, "its YAML has no doc_to_choice"),
        (
            {"output_type": "generate_until", "metric_list": [{"metric": "exact_match"}]},
            "task quiz is of the kind generate_until: only multiple_choice and loglikelihood are run here",
        ),
        ({"dataset_kwargs": {"data_files": {"test": "none.jsonl"}}}, "Unable to find"),
    ],
    ids=["split", "field", "no options", "generation", "no file"],
)
def test_tasks_that_cannot_be_run_say_why(llama3: ModelSpec, tmp_path: Path, changes: dict[str, Any], sentence: str):
    write_quiz(tmp_path, "quiz", **changes)
    with pytest.raises(ValueError, match="task quiz") as caught:
        run(tmp_path, "quiz", llama3)
    assert sentence in str(caught.value)


def test_broken_data_names_the_mistake(llama3: ModelSpec, tmp_path: Path):
    write_quiz(tmp_path, "quiz").write_text('{"id": 1, "question"\n')
    with pytest.raises(ValueError, match=r"task quiz cannot be loaded: .*JSON parse error"):
        run(tmp_path, "quiz", llama3)


def test_data_that_is_not_here_while_offline(llama3: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    write_quiz(tmp_path, "quiz")
    with pytest.raises(ValueError, match=r"the data of task arc_es is neither here nor reachable .*m_arc"):
        run(tmp_path, "arc_es", llama3)
    # A local group finds the tasks of lm-eval in it: it gets as far as their data.
    (tmp_path / "both.yaml").write_text("{group: both, task: [quiz, arc_es], aggregate_metric_list: [{metric: acc}]}")
    with pytest.raises(ValueError, match=r"the data of task both is neither here nor reachable .*m_arc"):
        run(tmp_path, "both", llama3)


def test_a_model_without_a_template_can_be_scored_without_one(llama3: ModelSpec, tmp_path: Path):
    write_quiz(tmp_path / "tasks", "quiz")
    folder = make_family("llama3", tmp_path / "model", seed=3)
    (folder / "chat_template.jinja").unlink()
    bare = replace(llama3, path=str(folder))
    assert run(tmp_path / "tasks", "quiz", bare) == run(tmp_path / "tasks", "quiz", llama3)
    with pytest.raises(ValueError, match="has no chat template: leave out --chat-template"):
        open_model(bare, batch_size=1, chat_template=True)


def test_the_content_of_a_local_task_is_its_yaml_code_and_data(tmp_path: Path):
    def contents(name: str) -> str:
        return TaskFolder(tmp_path).content(name)

    data = write_quiz(tmp_path, "quiz")
    write_quiz(tmp_path, "other")
    first, other = contents("quiz"), contents("other")
    assert first == contents("quiz") != other
    data.write_text(data.read_text().replace("blue", "red"))
    second = contents("quiz")
    write_quiz(tmp_path, "quiz", doc_to_text="Q: {{question}}")
    third = contents("quiz")
    assert contents("other") == other
    (tmp_path / "utils.py").write_text("x = 1\n")
    fourth = contents("quiz")
    assert len({first, second, third, fourth}) == 4
    assert contents("arc_es").startswith("lm-eval 0.4")


def test_without_the_extra_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    for use in (TaskFolder, lm_eval_tasks.harness_version):
        with pytest.raises(ValueError, match=r"pip install 'crossward\[eval\]'"):
            use()
