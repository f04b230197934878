"""What the method starts from, as files a user would bring: two checkpoints and parallel prompts.

folder/reference  folder/policy                 π_I and π_0, ordinary Hugging Face checkpoints
folder/prompts/<language>.jsonl                 requests that the method trains on
folder/held-out/<language>.jsonl                requests that claims are measured on
folder/tuning/<language>.jsonl                  requests that settings are tuned on
folder/world.json                               what made it, written last (begun.json until then)
"""

import copy
import json
import math
import random
import shutil
from pathlib import Path

from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from crossward.core.records import Prompt
from crossward.core.seeds import derive_seed
from crossward.engines.hf_sampler import HfSampler
from crossward.engines.models import load_model
from crossward.engines.protocols import ModelSpec, Sampling
from crossward.engines.tokens import ChatTokens, load_tokens
from crossward.pipeline.progress import Progress
from crossward.store.files import write_text
from crossward.tinyworld.corpus import Preference, corrupted_preferences, preference, template_preferences
from crossward.tinyworld.mixing import Mixing, Mode, mixing_of
from crossward.tinyworld.presets import PRESETS, PresetName
from crossward.tinyworld.pretrain import DPO_BATCH, Encoder, align_in_english, imitate, new_model
from crossward.tinyworld.tokenizer import build_tokenizer
from crossward.tinyworld.vocabulary import LANGUAGES
from crossward.tinyworld.world import MAX_NEW_TOKENS, Split, prompts, request_of, requests

FORMAT = 1  # rises when the same preset and seed would give other files
SAMPLES_PER_PAIR = 2.5  # a good third of sampled pairs is too close in gold, and no sample is used twice
ROWS = 600  # responses sampled at once


def prepare(folder: Path, *, preset: PresetName, seed: int, mode: Mode = "plain", progress: Progress) -> None:
    """Train π_I and π_0 and write the prompts, or keep what is there and was made the same way.

    In hard mode answers mix languages (see mixing). Raises ValueError where the folder holds another world.
    """
    hard = {} if mode == "plain" else {"mode": mode}  # a plain folder says what it said before there were modes
    made = json.dumps({"format": FORMAT, "preset": preset, "seed": seed, **hard}) + "\n"
    world, begun = folder / "world.json", folder / "begun.json"
    for known in (world, begun):
        if known.exists() and known.read_text(encoding="utf-8") != made:
            raise ValueError(
                f"{folder} holds another tiny world ({known.read_text(encoding='utf-8').strip()}, asked for "
                f"{made.strip()}): choose another folder or delete this one"
            )
    if world.exists():
        return
    write_text(begun, made)
    _write_prompts(folder, PRESETS[preset].repeats)
    reference, policy, mixing = folder / "reference", folder / "policy", mixing_of(mode)
    if not reference.exists():
        _train_reference(reference, preset, seed, mixing, progress)
    if not policy.exists():
        _train_policy(policy, reference, preset, seed, mixing, progress)
    write_text(world, made)
    begun.unlink()


def _train_reference(folder: Path, preset: PresetName, seed: int, mixing: Mixing | None, progress: Progress) -> None:
    tokenizer = build_tokenizer()
    tokens = ChatTokens(tokenizer)
    model = new_model(tokens, seed)
    with progress.task("π_I: imitation steps", PRESETS[preset].sft_steps) as advance:
        imitate(model, Encoder(tokens), PRESETS[preset], seed, advance, mixing)
    save_checkpoint(model, tokenizer, folder)


def _train_policy(
    folder: Path, reference: Path, preset: PresetName, seed: int, mixing: Mixing | None, progress: Progress
) -> None:
    spec = ModelSpec(path=str(reference), dtype="float32", device="cpu")
    tokens = load_tokens(spec)
    base = load_model(spec)
    assert isinstance(base, LlamaForCausalLM)
    model = copy.deepcopy(base).requires_grad_(True)
    pairs = english_preferences(spec, tokens, preset, seed, mixing, progress)
    with progress.task("π_0: English DPO steps", math.ceil(len(pairs) / DPO_BATCH)) as advance:
        align_in_english(model, base, Encoder(tokens), pairs, advance)
    save_checkpoint(model, build_tokenizer(), folder)


def english_preferences(
    spec: ModelSpec, tokens: ChatTokens, preset: PresetName, seed: int, mixing: Mixing | None, progress: Progress
) -> list[Preference]:
    """English preferences in random order: sampled from π_I, written afresh, and against corrupted text."""
    amounts, allowed = PRESETS[preset], requests("english-preferences")
    rng = random.Random(derive_seed(seed, "english preferences"))
    pairs = _sampled_preferences(spec, tokens, amounts.on_policy_pairs, seed, progress)
    pairs += template_preferences(amounts.template_pairs, allowed, rng, mixing)
    pairs += corrupted_preferences(amounts.corrupted_pairs, allowed, rng, mixing)
    rng.shuffle(pairs)
    return pairs


def _sampled_preferences(
    spec: ModelSpec, tokens: ChatTokens, most: int, seed: int, progress: Progress
) -> list[Preference]:
    """Pairs of π_I's own answers, each answer in one pair at most."""
    asked = prompts("english-preferences", "en")
    n = 2 * round(most * SAMPLES_PER_PAIR / 2 / len(asked) + 1)
    decoding = Sampling(
        n=n, temperature=1.0, top_p=1.0, max_new_tokens=MAX_NEW_TOKENS, seed=derive_seed(seed, "english samples")
    )
    with progress.task("π_0: English samples", n * len(asked)) as advance:
        groups = HfSampler(spec, tokens, batch_rows=ROWS).sample(asked, decoding, advance=advance)
    pairs = []
    for first, second in ((i, i + 1) for i in range(0, n, 2)):
        for group in groups:
            texts = group.responses[first].text, group.responses[second].text
            pairs.append(preference(request_of(group.prompt), *texts))
    return [pair for pair in pairs if pair is not None][:most]


def save_checkpoint(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """The checkpoint under its final name in one step."""
    whole = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(whole, ignore_errors=True)
    model.save_pretrained(whole)
    tokenizer.save_pretrained(whole)
    whole.replace(folder)


def _write_prompts(folder: Path, repeats: int) -> None:
    splits: dict[str, tuple[Split, int]] = {
        "prompts": ("icr", repeats),
        "held-out": ("evaluation", 1),
        "tuning": ("tuning", 1),
    }
    for name, (split, times) in splits.items():
        for language in LANGUAGES:
            lines = [json.dumps(_row(prompt), ensure_ascii=False) for prompt in prompts(split, language, repeats=times)]
            write_text(folder / name / f"{language}.jsonl", "\n".join(lines) + "\n")


def _row(prompt: Prompt) -> dict[str, str]:
    return {"id": prompt.id, "instruction": prompt.instruction}
