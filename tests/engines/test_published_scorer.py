"""The published scoring, re-implemented here from its description as plain padded batches, against PublishedScorer;
then whole pairs against the whole published procedure."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.families import make_family
from transformers import AutoModelForCausalLM

from crossward.core.pairing import pair_groups, published_rules
from crossward.core.records import Prompt, Response, SampledPrompt
from crossward.engines.protocols import Judged, ModelSpec
from crossward.engines.published_scorer import PublishedScorer
from crossward.engines.tokens import ChatTokens, load_tokens
from crossward.pipeline.streams import score_groups

WORDS = ["Manzana", "la", "Hola", "the", "sing", "one", "sea", "a"]


def groups(seed: int, *, prompts: int, candidates: int) -> list[SampledPrompt]:
    lot = np.random.default_rng(seed)
    return [
        SampledPrompt(
            prompt=Prompt(
                id=str(i), language="en", instruction=f"Say {WORDS[i % 8]} {i}", english_instruction=f"Say {i}"
            ),
            responses=tuple(
                Response(
                    text=" ".join(lot.choice(WORDS, size=lot.integers(1, 9))),
                    finish_reason=lot.choice(["stop", "length"]),
                )
                for _ in range(candidates)
            ),
        )
        for i in range(prompts)
    ]


def published_log_probs(model: torch.nn.Module, tokens: ChatTokens, judged: list[Judged]) -> list[list[float]]:
    """Batches of three prompts per candidate: full logits, mask of token t on the log-probability of token t+1."""
    found: list[list[float]] = [[] for _ in judged]
    for k in range(len(judged[0].responses)):
        for start in range(0, len(judged), 3):
            batch = judged[start : start + 3]
            prompts = [tokens.prompt_ids(group.instruction) for group in batch]
            texts = [Response(text=group.responses[k].text, finish_reason="stop") for group in batch]
            rows = [[*p, *tokens.response_ids(text)] for p, text in zip(prompts, texts, strict=True)]
            width = max(map(len, rows))
            ids = torch.tensor([row + [tokens.pad_id] * (width - len(row)) for row in rows])
            attention = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
            mask = (ids != tokens.pad_id).float()  # masks pads and, where pad is the end of turn, the end of turn too
            for i, prompt in enumerate(prompts):
                mask[i, : len(prompt)] = 0.0
            with torch.no_grad():
                logits = model(input_ids=ids, attention_mask=attention).logits.float()
            log_probs = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
            sums = (log_probs * mask[:, :-1]).sum(-1)
            for i, value in enumerate(sums.tolist()):
                found[start + i].append(round(value, 4))
    return found


@pytest.mark.parametrize("family", ["chatml", "llama3", "mistral", "gemma"])
def test_equals_the_published_batches(family: str, tmp_path: Path):
    spec = ModelSpec(path=str(make_family(family, tmp_path / "model")), dtype="float32", device="cpu")
    tokens = load_tokens(spec)
    judged = [
        Judged(instruction=g.prompt.instruction, responses=g.responses) for g in groups(3, prompts=7, candidates=4)
    ]
    model = AutoModelForCausalLM.from_pretrained(spec.path, attn_implementation="eager").eval()
    ours = PublishedScorer(spec, tokens).score(judged)
    theirs = published_log_probs(model, tokens, judged)
    np.testing.assert_allclose([[r.logprob for r in group] for group in ours], theirs, atol=2.5e-4)


def test_pairs_equal_the_published_procedure(tmp_path: Path):
    """Scores rounded, grid α over characters, argmax under the bound and argmin, ties and cut responses kept."""
    specs = [
        ModelSpec(path=str(make_family("llama3", tmp_path / name, seed=seed)), dtype="float32", device="cpu")
        for name, seed in (("policy", 0), ("reference", 1))
    ]
    tokens = load_tokens(specs[0])
    sampled = groups(5, prompts=12, candidates=5)
    scored = score_groups(sampled, "multilingual", *(PublishedScorer(spec, tokens) for spec in specs))
    pairs = pair_groups(scored, published_rules(upper_bound=4.0)).pairs

    judged = [Judged(instruction=g.prompt.instruction, responses=g.responses) for g in sampled]
    models = [AutoModelForCausalLM.from_pretrained(spec.path, attn_implementation="eager").eval() for spec in specs]
    policy, reference = (np.array(published_log_probs(model, tokens, judged)) for model in models)
    scores = policy - reference
    lengths = np.array([[len(response.text) for response in group.responses] for group in sampled])
    best_alpha, smallest = 0.0, float("inf")
    rows = np.arange(len(scores))
    for alpha in np.arange(0.0, 1.0, 0.001):
        adjusted = scores - alpha * lengths
        gap = (lengths[rows, adjusted.argmax(1)] - lengths[rows, adjusted.argmin(1)]).mean()
        if abs(gap) < abs(smallest):
            best_alpha, smallest = alpha, gap
    adjusted = scores - best_alpha * lengths
    chosen = np.where(adjusted < 4.0, adjusted, -np.inf).argmax(1)
    rejected = adjusted.argmin(1)

    assert [pair.chosen.response for pair in pairs] == [sampled[i].responses[k] for i, k in enumerate(chosen)]
    assert [pair.rejected.response for pair in pairs] == [sampled[i].responses[k] for i, k in enumerate(rejected)]
    assert pairs[0].alpha == pytest.approx(best_alpha)
