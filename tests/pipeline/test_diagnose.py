"""`crossward diagnose` says of a file what its scores say, in numbers that can be worked out from the scores alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import pearsonr
from tests.support.command import call
from tests.support.families import make_family

from crossward.core.diagnostics import PARTS
from crossward.engines.protocols import ModelSpec
from crossward.pipeline.diagnose import diagnose_file
from crossward.pipeline.progress import Silent
from crossward.pipeline.resumable import score_file
from crossward.store import edges
from crossward.store.noise_file import write_noise

ANSWERS = ["Hola", "La casa del mar es azul.", "Manzana y pera", "Una puerta y una ventana, y otra más.", ""]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSpec]:
    folder = tmp_path_factory.mktemp("diagnose")
    return {
        name: ModelSpec(path=str(make_family("chatml", folder / name, seed=seed)), dtype="float32", device="cpu")
        for seed, name in enumerate(("policy", "reference"))
    }


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def groups(**extra: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": str(i),
            "language": "es",
            "instruction": f"Nombra {i} cosas.",
            "english_instruction": f"Name {i} things.",
            "responses": ANSWERS[i:] + ANSWERS[:i],
            "finish_reasons": ["stop", "length", "stop", "stop", "stop"],
        }
        | extra
        for i in range(4)
    ]


def diagnose(path: Path, models: dict[str, ModelSpec], *views: str) -> dict[str, Any]:
    return diagnose_file(path, **models, views=views or ("crosslingual",), batch_tokens=None, progress=Silent())[
        "languages"
    ]


def test_numbers_follow_from_the_scores(tmp_path: Path, models: dict[str, ModelSpec]):
    rows = groups()
    scored: dict[str, list] = {}
    for view in ("crosslingual", "multilingual"):
        score_file(
            write(tmp_path / "groups.jsonl", rows), tmp_path / f"{view}.jsonl", **models,
            view=view, compatibility="none", batch_tokens=4096, progress=Silent(),
        )  # fmt: skip
        scored[view] = edges.read_scored(tmp_path / f"{view}.jsonl")
    cross = [[r.log_ratio for r in group.responses] for group in scored["crosslingual"]]
    for row, ratios in zip(rows, cross, strict=True):
        row["gold"] = [round(ratio, 3) for ratio in ratios]
    found = diagnose(write(tmp_path / "gold.jsonl", rows), models, "crosslingual", "multilingual")["es"]

    own = [[r.log_ratio for r in group.responses] for group in scored["multilingual"]]
    assert found["n_responses"] == 20
    assert found["views"]["crosslingual"]["accuracy"]["interval"]["estimate"] == 1.0  # gold is the reward itself
    assert found["views"]["crosslingual"]["accuracy"]["n_pairs"] == 40
    assert 0 < found["views"]["multilingual"]["accuracy"]["interval"]["estimate"] < 1
    same = sum(a.index(max(a)) == b.index(max(b)) for a, b in zip(cross, own, strict=True))
    assert found["agreement"]["crosslingual/multilingual"]["same_best"] == same / 4

    seen = found["views"]["crosslingual"]
    spreads = sorted(max(ratios) - min(ratios) for ratios in cross)
    assert seen["margins"]["quantiles"]["p50"] == pytest.approx((spreads[1] + spreads[2]) / 2, abs=1e-3)
    lengths = [[r.n_chars for r in group.responses] for group in scored["crosslingual"]]
    centred = [[v - sum(g) / len(g) for g in values for v in g] for values in (cross, lengths)]
    assert seen["length_correlation"]["characters"]["pearson"] == pytest.approx(pearsonr(*centred).statistic, abs=1e-4)
    profile = seen["profile"]
    assert tuple(profile) == PARTS
    assert sum(part["mean"] for part in profile.values()) == pytest.approx(sum(map(sum, cross)) / 20, abs=1e-3)
    assert sum(part["share_of_choice"] for part in profile.values()) == pytest.approx(1.0)
    assert profile["end_of_turn"]["n_tokens"] == 16  # four of twenty were cut
    assert sum(part["n_tokens"] for part in profile.values()) == sum(
        r.n_tokens for group in scored["crosslingual"] for r in group.responses
    )


def test_a_file_of_pairs_is_judged_by_its_own_choice(tmp_path: Path, models: dict[str, ModelSpec]):
    """Whatever the reward prefers, the pairs turned around are ranked the other way: accuracies add up to 1."""
    rows = [
        {"prompt": "Say hello.", "language": "en", "chosen": a, "rejected": b, "id": str(i)}
        for i, (a, b) in enumerate([("Hello you", "I am"), ("Hola", "No"), ("the thing", "the sea is blue")])
    ]
    turned = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    rates = [
        diagnose(write(tmp_path / "pairs.jsonl", these), models)["en"]["views"]["crosslingual"]["accuracy"]
        for these in (rows, turned)
    ]
    assert [rate["n_pairs"] for rate in rates] == [3, 3]
    assert sum(rate["interval"]["estimate"] for rate in rates) == pytest.approx(1.0)


def test_equal_models_have_nothing_to_say(tmp_path: Path, models: dict[str, ModelSpec]):
    same = {"policy": models["policy"], "reference": models["policy"]}
    seen = diagnose(write(tmp_path / "groups.jsonl", groups()), same)["es"]["views"]["crosslingual"]
    assert seen["accuracy"] is None
    assert seen["length_correlation"]["tokens"] == {"pearson": None, "spearman": None}
    assert set(seen["margins"]["quantiles"].values()) == {0.0}
    assert all(part["share_of_size"] is None and part["share_of_choice"] is None for part in seen["profile"].values())


def test_too_long_responses_are_counted_and_left_out(tmp_path: Path, models: dict[str, ModelSpec]):
    (row, *_) = groups(gold=[1, 2, 3, 4, 5])
    row["responses"] = [*ANSWERS[:4], "x" * 600]
    seen = diagnose(write(tmp_path / "groups.jsonl", [row]), models)["es"]["views"]["crosslingual"]
    assert seen["n_too_long"] == 1
    assert seen["accuracy"]["n_pairs"] == 6


def preference_set(tmp_path: Path, models: dict[str, ModelSpec], plan: list[tuple[str, str, bool]]) -> list[dict]:
    """M-RewardBench rows of (language, subset, whether the crosslingual reward is to rank the pair rightly)."""
    asked = groups()[0] | {"responses": ANSWERS[:2], "finish_reasons": ["stop"] * 2}
    prompts = [
        asked | {"id": str(i), "language": code[:2], "instruction": f"Di {i}.", "english_instruction": f"Say {i}."}
        for i, (code, _, _) in enumerate(plan)
    ]
    score_file(
        write(tmp_path / "plan.jsonl", prompts), tmp_path / "scored.jsonl", **models,
        view="crosslingual", compatibility="none", batch_tokens=4096, progress=Silent(),
    )  # fmt: skip
    rows = []
    for group, (_, subset, right) in zip(edges.read_scored(tmp_path / "scored.jsonl"), plan, strict=True):
        best, worst = sorted(group.responses, key=lambda response: -response.log_ratio)
        chosen, rejected = (best, worst) if right else (worst, best)
        spelt = {"es": "spa_Latn", "de": "deu_Latn"}[group.prompt.language]
        rows.append(
            {"id": int(group.prompt.id), "language": spelt, "prompt": group.prompt.instruction, "source": subset,
             "chosen": chosen.response.text, "rejected": rejected.response.text}
        )  # fmt: skip
    return rows


def test_a_preference_set_gives_subsets_and_sections(tmp_path: Path, models: dict[str, ModelSpec]):
    """Spanish: math 1 of 2, go 3 of 3, js 0 of 1: Reasoning (1/2 + 3/4)/2. Chat 1 of 1. German: Chat 0 of 1."""
    plan = [
        ("es", "math-prm", True), ("es", "math-prm", False), ("es", "hep-go", True), ("es", "hep-go", True),
        ("es", "hep-go", True), ("es", "hep-js", False), ("es", "mt-bench-easy", True), ("de", "mt-bench-med", False),
    ]  # fmt: skip
    rows = preference_set(tmp_path, models, plan)
    twins = [{"id": i, "prompt": f"Say {i}.", "chosen": "", "rejected": ""} for i in range(len(plan))]
    found = diagnose_file(
        write(tmp_path / "set.jsonl", rows[::-1]), **models, views=("crosslingual", "multilingual"),
        english=write(tmp_path / "en.jsonl", twins), batch_tokens=None, progress=Silent(),
    )["languages"]  # fmt: skip
    assert list(found) == ["deu_Latn", "spa_Latn"]
    seen = found["spa_Latn"]["views"]["crosslingual"]
    estimates = {name: accuracy["interval"]["estimate"] for name, accuracy in seen["subsets"].items()}
    assert estimates == {"hep-go": 1.0, "hep-js": 0.0, "math-prm": 0.5, "mt-bench-easy": 1.0}
    assert seen["sections"]["Reasoning"]["interval"]["estimate"] == pytest.approx((1 / 2 + 3 / 4) / 2)
    assert (seen["sections"]["Reasoning"]["n_pairs"], seen["sections"]["Chat"]["n_pairs"]) == (6, 1)
    assert seen["accuracy"]["interval"]["estimate"] == pytest.approx(5 / 7)  # every pair alike
    german = found["deu_Latn"]["views"]
    assert german["crosslingual"]["sections"]["Chat"]["interval"]["estimate"] == 0.0
    assert german["multilingual"]["sections"]["Chat"]["n_pairs"] == 1
    assert (
        "sections"
        not in diagnose(write(tmp_path / "plain.jsonl", groups(gold=[1, 2, 3, 4, 5])), models)["es"]["views"][
            "crosslingual"
        ]
    )


def test_a_noise_floor_beside_the_file_is_used(tmp_path: Path, models: dict[str, ModelSpec]):
    path = write(tmp_path / "groups.jsonl", groups())
    write_noise(path, {"view": "crosslingual", "dtype": "float32", "languages": {"es": {"margin": 1e6}}})
    found = diagnose(path, models, "multilingual", "crosslingual")["es"]["views"]
    assert list(found) == ["crosslingual", "multilingual"]
    assert found["crosslingual"]["margins"]["under_noise"] == 1.0
    assert found["multilingual"]["margins"]["under_noise"] is None


def test_the_verb_prints_tables_or_json(
    tmp_path: Path, models: dict[str, ModelSpec], capsys: pytest.CaptureFixture[str]
):
    path = write(tmp_path / "groups.jsonl", groups(gold=[1, 2, 3, 4, 5]))
    command = (
        "diagnose", "--policy", models["policy"].path, "--reference", models["reference"].path,
        "--input", path, "--dtype", "float32", "--device", "cpu",
    )  # fmt: skip
    called = call(capsys, *command)
    assert called.code == 0, called.err
    for words in ("the reward on", "share of choice", "end_of_turn", "crosslingual/multilingual"):
        assert words in called.out
    rows = [{"id": 1, "prompt": "Di.", "chosen": "a", "rejected": "b", "language": "spa_Latn", "source": "hep-go"}]
    twins = [{"id": 1, "prompt": "Say.", "chosen": "a", "rejected": "b", "subset": "hep-go"}]
    files = ("--input", write(tmp_path / "set.jsonl", rows), "--english", write(tmp_path / "en.jsonl", twins))
    called = call(capsys, *command, *files)
    assert called.code == 0, called.err
    assert "accuracy in a preference set" in called.out
    assert "Reasoning" in called.out
    called = call(capsys, *command, "--view", "multilingual", "--json")
    assert list(json.loads(called.out)["languages"]["es"]["views"]) == ["multilingual"]


@pytest.mark.parametrize(
    ("rows", "arguments", "sentence"),
    [
        (groups(), ("--view", "own"), "--view must be one of crosslingual, multilingual, got 'own'"),
        (groups(gold=[1, 2]), (), "line 1: field 'gold' has 2 items for 5 responses"),
        (groups(gold=[1, 2, 3, 4, "good"]), (), "field 'gold' must hold finite numbers, got 'good'"),
        (groups(english_instruction=None), (), "english_instruction"),
        (groups(language="xq"), (), "id '0': unknown language code 'xq'"),
        ([{"prompt": "Di.", "chosen": "a", "rejected": "b"}], (), "'english_instruction' is missing"),
        ([{"prompt": "Di.", "chosen": "a"}], ("--view", "multilingual"), "field 'rejected' is missing"),
        (groups(english_instruction=None), ("--english", "none.json"), "file none.json does not exist"),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path,
    models: dict[str, ModelSpec],
    capsys: pytest.CaptureFixture[str],
    rows: list,
    arguments: tuple[str, ...],
    sentence: str,
):
    path = write(tmp_path / "input.jsonl", rows)
    called = call(
        capsys, "diagnose", "--policy", models["policy"].path, "--reference", models["reference"].path,
        "--input", path, "--dtype", "float32", *arguments,
    )  # fmt: skip
    assert called.code == 2
    assert len(called.err.splitlines()) == 1
    assert sentence in called.sentence
