"""Averages over languages: by hand, against simulation of what they claim, and the map's own sense."""

from math import sqrt

import numpy as np
import pytest

from crossward.core.tasks import (
    BENCHMARKS,
    METRICS,
    Absent,
    Score,
    TaskResult,
    alternatives,
    covered,
    covered_languages,
    pooled,
    question_ids,
)


def result(items: list[float], questions: list[str] | None = None) -> TaskResult:
    """A result whose value and standard error are those of its items."""
    values = np.array(items)
    score = Score(value=float(values.mean()), standard_error=float(values.std(ddof=1) / sqrt(len(items))))
    return TaskResult(
        task="t",
        version="1",
        n=len(items),
        shots=0,
        truncated=0,
        scores={"acc": score},
        questions=tuple(questions or ()),
        items={"acc": tuple(items)} if questions else {},
    )


def bare(value: float, error: float | None, n: int) -> TaskResult:
    scores = {"acc": Score(value=value, standard_error=error)}
    return TaskResult(task="t", version="1", n=n, shots=0, truncated=0, scores=scores, items={})


def test_the_pooled_standard_errors_by_hand():
    found = pooled({"es": bare(0.3, 0.03, 100), "sw": bare(0.5, 0.04, 300)}, "acc")
    assert found.languages == ("es", "sw")
    assert found.n == 400
    assert found.by_language.value == pytest.approx(0.4)
    assert found.by_language.standard_error == pytest.approx(0.025)  # sqrt(0.0009 + 0.0016)/2
    assert found.by_item.value == pytest.approx(0.45)  # (30 + 150)/400
    assert found.by_item.standard_error == pytest.approx(sqrt(0.0075**2 + 0.03**2))  # weights 1/4 and 3/4
    assert found.mean_of_errors == pytest.approx(0.035)
    assert found.by_language.clustered is None


def test_an_unknown_standard_error_leaves_none_for_the_average():
    found = pooled({"es": bare(0.3, 0.03, 100), "sw": bare(1.0, None, 1)}, "acc")
    assert found.by_language.value == pytest.approx(0.65)
    assert found.by_language.standard_error is None
    assert found.by_item.standard_error is None
    assert found.mean_of_errors is None


def test_the_clustered_standard_error_by_hand():
    # Two questions in both languages: deviations +½ and −½ in each, so that they add within a question:
    # weight 1/2, n = 2: step = 1/4·√2, question 1: 2·(√2/4)·½ = √2/4, question 2 the same: √(1/8 + 1/8) = ½.
    # The question means are 1 and 0: their mean is ½ ± √(½/2) = ½. Independent languages: √(2·¼)/2 = 0.354.
    found = pooled({"es": result([1, 0], ["1", "2"]), "sw": result([1, 0], ["1", "2"])}, "acc")
    assert found.by_language.value == pytest.approx(0.5)
    assert found.by_language.clustered == pytest.approx(0.5)
    assert found.by_language.standard_error == pytest.approx(sqrt(0.5) / 2)
    assert found.shared_questions == 2
    # Opposite answers cancel: the average is ½ whatever the question.
    opposite = pooled({"es": result([1, 0], ["1", "2"]), "sw": result([0, 1], ["1", "2"])}, "acc")
    assert opposite.by_language.clustered == pytest.approx(0.0)


def test_with_every_question_in_every_language_it_is_the_standard_error_of_the_question_means():
    generator = np.random.default_rng(0)
    answers = generator.integers(0, 2, size=(3, 40)).astype(float)
    ids = [f"q{k}" for k in range(40)]
    found = pooled({f"l{k}": result(list(row), ids) for k, row in enumerate(answers)}, "acc")
    means = answers.mean(axis=0)
    assert found.by_language.clustered == pytest.approx(means.std(ddof=1) / sqrt(40))
    assert found.by_item.clustered == pytest.approx(found.by_language.clustered)


def test_one_shared_question_changes_the_independent_error_by_its_covariance_alone():
    es = result([1, 0, 0, 1, 1], ["1", "2", "3", "4", "5"])
    sw = result([1, 0, 1], ["5", "7", "8"])
    found = pooled({"es": es, "sw": sw}, "acc")
    independent = found.by_language.standard_error
    assert independent is not None
    # Item "5": (1 − 0.6) in es with n = 5, (1 − 2/3) in sw with n = 3, weights 1/2 each.
    steps = (0.5 / 5 * sqrt(5 / 4) * 0.4, 0.5 / 3 * sqrt(3 / 2) * (1 / 3))
    assert found.shared_questions == 1
    assert found.by_language.clustered == pytest.approx(sqrt(independent**2 + 2 * steps[0] * steps[1]))


def test_clustering_covers_what_it_says_when_questions_are_shared():
    """Shared difficulty: over 400 drawn benchmarks the average spreads as the clustered error says, not the other."""
    generator = np.random.default_rng(1)
    averages, clustered, independent = [], [], []
    for _ in range(400):
        difficulty = generator.random(60)
        answers = (generator.random((4, 60)) < difficulty).astype(float)
        ids = [str(k) for k in range(60)]
        found = pooled({str(k): result(list(row), ids) for k, row in enumerate(answers)}, "acc").by_language
        averages.append(found.value)
        clustered.append(found.clustered)
        independent.append(found.standard_error)
    spread = np.std(averages)
    assert np.mean(clustered) == pytest.approx(spread, rel=0.08)
    assert np.mean(independent) < 0.8 * spread


@pytest.mark.parametrize(
    "other",
    [
        result([1, 0, 1]),
        result([1, 0, 1], ["7", "8", "9"]),
        TaskResult(
            task="t",
            version="1",
            n=2,
            shots=0,
            truncated=0,
            scores={"acc": Score(value=0.9, standard_error=0.1)},
            questions=("1", "2"),
            items={"acc": (1.0, 0.0)},
        ),
    ],
    ids=["no ids", "nothing shared", "a value that is not the mean of its items"],
)
def test_no_clustered_error_where_nothing_can_be_said(other: TaskResult):
    found = pooled({"es": result([1, 0], ["1", "2"]), "sw": other}, "acc")
    assert found.by_language.clustered is None
    assert found.by_language.standard_error is not None


def test_the_map_names_the_tasks_of_a_language():
    assert [(plan.measure, plan.task) for plan in covered("truthfulqa", "es")] == [  # pyright: ignore
        ("truthfulqa_mc1", "truthfulqa_es_mc1"),
        ("truthfulqa_mc2", "truthfulqa_es_mc2"),
    ]
    english = {plan.task for name in BENCHMARKS for plan in covered(name, "en")}  # pyright: ignore
    assert english == {"arc_challenge", "hellaswag", "m_mmlu_en", "truthfulqa_mc1", "truthfulqa_mc2"}


def test_what_is_absent_is_a_value_with_alternatives():
    chinese = {name for name in BENCHMARKS if isinstance(covered(name, "zh"), Absent)}
    assert chinese == {"hellaswag"}
    for language in ("sw", "th"):
        for name in BENCHMARKS:
            found = covered(name, language)
            assert isinstance(found, Absent)
            assert found.alternatives == alternatives(language)
    assert {"global_mmlu_full_sw", "mmmlu_sw_ke", "xcopa_sw", "xnli_sw", "belebele_swh_Latn"} <= set(alternatives("sw"))
    assert {"xcopa_th", "xnli_th", "belebele_tha_Thai"} <= set(alternatives("th"))
    with pytest.raises(ValueError, match="unknown language code 'xq'"):
        covered("arc", "xq")


def test_every_language_of_the_map_has_something_and_every_measure_its_metrics():
    measures = set()
    for language in covered_languages():
        found = [covered(name, language) for name in BENCHMARKS]
        assert any(isinstance(tasks, tuple) for tasks in found), language
        measures |= {plan.measure for tasks in found if isinstance(tasks, tuple) for plan in tasks}
    assert measures == set(METRICS)


def test_ids_of_questions_are_a_field_that_tells_all_of_them_apart():
    assert question_ids([{"id": "a", "ind": 1}, {"id": "b", "ind": 2}]) == ("a", "b")
    assert question_ids([{"id": "a", "ind": 1}, {"id": "a", "ind": 2}]) == ("1", "2")
    assert question_ids([{"id": "a"}, {"id": None}]) == ()
    assert question_ids([{"text": "a"}]) == ()
