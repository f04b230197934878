"""ImplicitReward gives the rewards of `crossward score`, to programs and to TRL's trainers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.families import make_family

import crossward
from crossward import ImplicitReward
from crossward.core.records import Prompt, Response, SampledPrompt
from crossward.engines.protocols import ModelSpec
from crossward.engines.tokens import ChatTokens, load_tokens
from crossward.pipeline.progress import Silent
from crossward.pipeline.resumable import score_file
from crossward.store import edges

TEXTS = ("Hola", "La casa es azul.", "Manzana y pera")
PROMPTS = [("es", "Nombra una fruta.", "Name a fruit."), ("en", "Say hello.", "Say hello.")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reward")
    for seed, name in enumerate(("policy", "reference")):
        make_family("chatml", folder / name, seed=seed)
    return folder


@pytest.fixture(scope="module")
def tokens(folder: Path) -> ChatTokens:
    return load_tokens(ModelSpec(path=str(folder / "policy"), dtype="float32"))


def reward_of(folder: Path, **settings: Any) -> ImplicitReward:
    return ImplicitReward(
        folder / "policy", folder / "reference", **({"beta": 0.5, "dtype": "float32", "device": "cpu"} | settings)
    )


def sampled() -> list[SampledPrompt]:
    return [
        SampledPrompt(
            prompt=Prompt(id=str(i), language=language, instruction=own, english_instruction=english),
            responses=tuple(Response(text=text) for text in TEXTS[: 3 - i]),
        )
        for i, (language, own, english) in enumerate(PROMPTS)
    ]


def scored_ratios(folder: Path, groups: list[SampledPrompt], view: str, tmp_path: Path) -> list[list[float]]:
    """What `crossward score` says of the groups."""
    edges.write_groups(tmp_path / "groups.jsonl", groups)
    policy, reference = (
        ModelSpec(path=str(folder / name), dtype="float32", device="cpu") for name in ("policy", "reference")
    )
    score_file(
        tmp_path / "groups.jsonl", tmp_path / "scored.jsonl", policy=policy, reference=reference,
        view=view, compatibility="none", batch_tokens=4096, progress=Silent(),  # pyright: ignore
    )  # fmt: skip
    return [[r.log_ratio for r in group.responses] for group in edges.read_scored(tmp_path / "scored.jsonl")]


@pytest.mark.parametrize("view", ["crosslingual", "multilingual"])
def test_rewards_are_beta_times_the_scores_of_the_command(folder: Path, tmp_path: Path, view: str):
    expected = scored_ratios(folder, sampled(), view, tmp_path)
    with reward_of(folder, view=view) as reward:
        found = reward.score(sampled())
        assert [len(rewards) for rewards in found] == [3, 2]
        for rewards, ratios in zip(found, expected, strict=True):
            assert rewards == pytest.approx([0.5 * ratio for ratio in ratios], abs=1e-4)
        rows = [json.loads(line) for line in (tmp_path / "groups.jsonl").read_text(encoding="utf-8").splitlines()]
        if view == "multilingual":
            rows = [{"instruction": row["instruction"], "responses": row["responses"]} for row in rows]
        else:
            del rows[1]["english_instruction"]  # an English prompt is its own twin
        for rewards, ratios in zip(reward.score(rows), expected, strict=True):
            assert rewards == pytest.approx([0.5 * ratio for ratio in ratios], abs=1e-4)


def test_it_is_trls_reward_function_with_ids_messages_and_columns(folder: Path, tmp_path: Path, tokens: ChatTokens):
    """Completions of two prompts mixed; one was cut, one is padded behind its end as online DPO pads."""
    ids = [tokens.response_ids(Response(text=text)) for text in (*TEXTS, TEXTS[0])]
    ids[1] = ids[1][:-1]
    pad = tokens.pad_id
    groups = [
        SampledPrompt(
            prompt=sampled()[p].prompt,
            responses=tuple(
                Response(text=tokens.decode(ids[k]), token_ids=ids[k], finish_reason="length" if k == 1 else "stop")
                for k in ks
            ),
        )
        for p, ks in ((0, (0, 2)), (1, (1, 3)))
    ]
    (first, third), (second, fourth) = scored_ratios(folder, groups, "crosslingual", tmp_path)
    order = [0, 1, 0, 1]  # the prompt of each completion
    with reward_of(folder) as reward:
        assert reward.__name__ == "implicit_reward_crosslingual"
        call: dict[str, Any] = {
            "language": [PROMPTS[p][0] for p in order],
            "english_instruction": [PROMPTS[p][2] for p in order],
            "completion_ids": [[*ids[0], pad, pad], list(ids[1]), list(ids[2]), list(ids[3])],
            "trainer_state": object(),
            "log_metric": print,
        }
        texts = [tokens.decode(row) for row in ids]
        expected = pytest.approx([0.5 * ratio for ratio in (first, second, third, fourth)], abs=1e-4)
        conversational = reward(
            [[{"role": "user", "content": PROMPTS[p][1]}] for p in order],
            [[{"role": "assistant", "content": text}] for text in texts],
            **call,
        )
        assert conversational == expected
        plain = reward(prompts=[PROMPTS[p][1] for p in order], completions=texts, **call)
        assert plain == expected
        del call["completion_ids"]  # as text, every completion ended by itself
        as_text = reward([PROMPTS[p][1] for p in order], texts, **call)
        assert as_text[0] == pytest.approx(0.5 * first, abs=1e-4)
        assert as_text[1] != pytest.approx(0.5 * second, abs=1e-4)


def test_beta_scales_and_equal_models_give_exactly_zero(folder: Path):
    with reward_of(folder, beta=1.0) as one, reward_of(folder, beta=0.1) as tenth:
        for ours, theirs in zip(one.score(sampled()), tenth.score(sampled()), strict=True):
            assert theirs == pytest.approx([0.1 * (value or 0.0) for value in ours], rel=1e-6)
    same = ModelSpec(path=str(folder / "policy"), dtype="float32", device="cpu")
    with ImplicitReward(same, same) as reward:
        assert reward.score(sampled()) == [[0.0] * 3, [0.0] * 2]


def test_too_long_is_none_in_its_place(folder: Path):
    long = Response(text="x" * 600)
    group = SampledPrompt(prompt=sampled()[0].prompt, responses=(Response(text="Hola"), long, Response(text="No")))
    with reward_of(folder) as reward:
        (rewards,) = reward.score([group])
        assert [value is None for value in rewards] == [False, True, False]
        found = reward(["Di.", "Di."], ["Hola", "x" * 600], language=["es", "es"], english_instruction=["Say.", "Say."])
        assert [value is None for value in found] == [False, True]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"view": "own"}, "view must be 'crosslingual' or 'multilingual', got 'own'"),
        ({"beta": 0.0}, "beta must be a number above 0"),
        ({"beta": float("nan")}, "beta must be a number above 0"),
        ({"beta": "0.1"}, "beta must be a number above 0"),
        ({"beta": True}, "beta must be a number above 0"),
        ({"dtype": "float16"}, "dtype must be 'float32' or 'bfloat16', got 'float16'"),
        ({"batch_tokens": 0}, "batch_tokens must be a whole number from 1 on"),
        ({"batch_tokens": "5"}, "batch_tokens must be a whole number from 1 on.*got '5'"),
        ({"batch_tokens": True}, "batch_tokens must be a whole number from 1 on"),
    ],
)
def test_settings_that_make_no_reward(folder: Path, settings: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        reward_of(folder, **settings)


def test_models_that_cannot_be_compared_are_refused(folder: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"is in float32 and reference .* is in bfloat16|needs the same rounding"):
        ImplicitReward(
            ModelSpec(path=str(folder / "policy"), dtype="float32"),
            ModelSpec(path=str(folder / "reference"), dtype="bfloat16"),
        )
    other = make_family("llama3", tmp_path / "llama")
    with pytest.raises(ValueError, match=r"differ: The vocabularies differ.*so use the checkpoint"):
        ImplicitReward(folder / "policy", other, dtype="float32")
    with pytest.raises(ValueError, match="does not exist"):
        ImplicitReward(folder / "policy", folder / "nowhere")
    with pytest.raises(ValueError, match="must be a folder, a hub name or a ModelSpec, got int"):
        ImplicitReward(folder / "policy", 3)  # pyright: ignore


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({}, r"'language' and 'english_instruction' did not come \(columns that came: none\)"),
        ({"language": ["es"], "id": ["1"]}, r"'english_instruction' did not come \(columns that came: language, id\)"),
        ({"english_instruction": ["Say."]}, "'language' did not come"),
        ({"language": ["es"], "english_instruction": [None]}, "prompt 0 of the batch has no english_instruction"),
        ({"language": [None], "english_instruction": ["Say."]}, "prompt 0 of the batch has no language"),
        ({"language": ["xq"], "english_instruction": ["Say."]}, "prompt 0 of the batch: unknown language code 'xq'"),
        ({"language": ["es", "es"], "english_instruction": ["a", "b"]}, "has 2 items for 1 prompts"),
        ({"language": [7], "english_instruction": ["a"]}, "column 'language' must hold a text, got 7"),
    ],
)
def test_columns_that_the_crosslingual_reward_misses(folder: Path, columns: dict[str, Any], sentence: str):
    with reward_of(folder) as reward, pytest.raises(ValueError, match=sentence):
        reward(["Di."], ["Hola"], **columns)


def test_english_needs_no_twin_and_the_multilingual_view_no_column(folder: Path):
    with reward_of(folder) as cross, reward_of(folder, view="multilingual") as own:
        assert cross(["Say."], ["Hola"], language=["en"]) == pytest.approx(own(["Say."], ["Hola"]))


@pytest.mark.parametrize(
    ("prompt", "completion", "ids", "sentence"),
    [
        ([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}], "x", None, "got roles system, user"),
        ("Di.", [{"role": "user", "content": "b"}], None, "one assistant message with a text, got roles user"),
        (7, "x", None, "expected a text or one user message with a text, got int"),
        ("Di.", "Hola", [300, 301], "completion_ids do not spell the completion 'Hola'"),
    ],
)
def test_rows_that_a_trainer_should_not_hand_over(folder: Path, prompt: Any, completion: Any, ids: Any, sentence: str):
    with reward_of(folder, view="multilingual") as reward, pytest.raises(ValueError, match=sentence):
        reward([prompt], [completion], completion_ids=None if ids is None else [ids])


@pytest.mark.parametrize(
    ("group", "sentence"),
    [
        (
            {"language": "es", "instruction": "Di.", "responses": ["a"]},
            "group 0: field 'english_instruction' is missing",
        ),
        ({"language": "en", "instruction": "Say.", "responses": "a"}, "group 0: field 'responses' must be a list"),
        ({"instruction": "Say.", "responses": ["a"]}, "group 0: field 'language' is missing"),
        (["Say.", "a"], "group 0: expected a SampledPrompt or a dictionary"),
    ],
)
def test_groups_that_are_none(folder: Path, group: Any, sentence: str):
    with reward_of(folder) as reward, pytest.raises(ValueError, match=sentence):
        reward.score([group])


@pytest.mark.parametrize("groups", [None, "Say.", {"language": "en", "instruction": "Say.", "responses": ["a"]}])
def test_what_is_no_list_of_groups(folder: Path, groups: Any):
    with reward_of(folder) as reward, pytest.raises(ValueError, match="expected a list of groups, got "):
        reward.score(groups)


def test_every_prompt_needs_one_completion(folder: Path):
    columns = {"language": ["es", "es"], "english_instruction": ["Say", "Say"]}
    with (
        reward_of(folder) as reward,
        pytest.raises(ValueError, match="got 2 prompts, 1 completions and 2 lists of ids"),
    ):
        reward(["Di", "Di"], ["Hola"], **columns)


def test_the_example_of_the_docs_runs(folder: Path, capsys: pytest.CaptureFixture[str]):
    page = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")
    example = page.split("```python\n")[1].split("```")[0]
    exec(example.replace("runs/demo", str(folder)))
    (rewards,) = json.loads(capsys.readouterr().out)
    assert len(rewards) == 2


def test_closed_is_closed(folder: Path):
    with reward_of(folder) as reward:
        pass
    with pytest.raises(ValueError, match="this ImplicitReward is closed: make another one"):
        reward.score(sampled())
    reward.close()


def test_the_public_face_is_light_and_knows_what_it_has():
    code = "import sys, crossward; print('torch' in sys.modules, crossward.__all__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False ['ImplicitReward', '__version__']"
    with pytest.raises(AttributeError, match="module 'crossward' has no attribute 'Reward'"):
        _ = crossward.Reward  # pyright: ignore
