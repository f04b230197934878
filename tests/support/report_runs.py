"""A finished run made without a model: texts of strangers, three scripts, scores by rule. For what looks at runs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from crossward.config import Config, parse
from crossward.core.language import Identification
from crossward.core.pairing import PairingRules
from crossward.core.records import Prompt, Response, SampledPrompt, ScoredPrompt, ScoredResponse
from crossward.core.rewards import RewardAccuracy
from crossward.core.verdicts import Verdict
from crossward.core.winrates import win_rates
from crossward.engines.protocols import Advance, Sampling, no_progress
from crossward.pipeline import stages
from crossward.pipeline.counts import sampled_counts, scored_counts
from crossward.pipeline.progress import Silent
from crossward.pipeline.winrates import as_summary
from crossward.store import manifest, tables
from crossward.store.reward_accuracy_file import write_reward_accuracy
from crossward.store.run_dir import RunDir
from crossward.store.token_file import TokenTerms, write_token_terms

HOSTILE = (
    "<script>window.pwned = 1</script>",
    '"><img src=x onerror="window.pwned = 1">',
    "</script><script>window.pwned = 1</script>",
    "[click](javascript:window.pwned=1) <a href='javascript:window.pwned=1'>here</a>",
    "abc\u202edef\u2066ghi",
    "{{ 7 * 7 }} {% raw %} ${7 * 7}",
    "\x1b[31mred\x00 \x9b2J half",
    "<!-- --><svg onload=window.pwned=1>",
    "]]>&lt;b&gt; &amp; \u2028 line",
)
WORDS = {"en": "The sea is wide", "ar": "البحر واسع جدا", "th": "ทะเลกว้างใหญ่"}


def make_run(folder: Path, *, prompts: int = 12, responses: int = 4, long_text: int = 0) -> tuple[RunDir, Config]:
    """Two iterations, complete. `long_text`: characters of one response that is a single line."""
    config = parse(
        {
            "run": str(folder),
            "languages": list(WORDS),
            "iterations": 2,
            "models": {"policy": "<b>policy</b>", "reference": "reference"},
            "prompts": {"path": "{language}.jsonl"},
        },
        where="test",
    )
    directory = RunDir(folder)
    folder.mkdir(parents=True, exist_ok=True)
    directory.config.write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
    directory.provenance.write_text(json.dumps({"note": HOSTILE[0]}), encoding="utf-8")
    for t in (1, 2):
        _iteration(directory, t, prompts, responses, long_text)
    for here in (directory.reference, directory.iteration(0), directory.iteration(1), directory.iteration(2)):
        stages.evaluate(
            here.stage("evaluate"),
            {language: [_prompt(language, k) for k in range(prompts)] for language in WORDS},
            open_sampler=lambda: Echo(),
            open_identifier=lambda: ByScript(),
            sampling=Sampling(n=1, temperature=0.6, top_p=0.9, max_new_tokens=8, seed=0),
            shard_size=1000,
            settings={},
            inputs={},
            progress=Silent(),
        )
    _rates(directory, prompts)
    return directory, config


def _iteration(directory: RunDir, t: int, prompts: int, responses: int, long_text: int) -> None:
    here = directory.iteration(t)
    sample, score = here.stage("sample"), here.stage("score")
    for stage in (sample, score):
        manifest.begin(stage, {}, {})
    counts: dict[str, dict[str, Any]] = {"sample": {}, "score": {}}
    for language in WORDS:
        groups = [_scored(language, k, t, responses, long_text) for k in range(prompts)]
        drawn = [SampledPrompt(prompt=g.prompt, responses=tuple(r.response for r in g.responses)) for g in groups]
        tables.write_sampled(sample.shard(language, 0), drawn)
        tables.write_scored(score.shard(language, 0), groups)
        first = groups[0]
        write_token_terms(
            score.tokens_file(language),
            [
                TokenTerms(id=first.prompt.id, place=place, pieces=(*r.response.text.split(" "), ""), log_ratios=terms)
                for place, r in enumerate(first.responses)
                if (terms := tuple(0.1 * (i - 1) for i in range(len(r.response.text.split(" ")) + 1)))
            ],
        )
        counts["sample"][language] = sampled_counts(drawn)
        noise = {"n_responses": 4, "n_groups": 1, "sd": 0.1, "largest": 0.2, "best_flips": 0, "worst_flips": 0}
        found = scored_counts(groups, n_sampled=prompts * responses)
        counts["score"][language] = found | {"noise": {"rebatched": noise, "float32": None, "margin": 0.2}}
    for stage, name in ((sample, "sample"), (score, "score")):
        files = [path for _, _, path in stage.shards()]
        manifest.finish(stage, {}, {}, counts={"languages": counts[name]}, files=files, seconds=1.5)
    stages.pair(
        here.stage("pair"),
        score,
        rules=PairingRules(length_unit="characters"),
        open_identifier=lambda: None,
        settings={},
        inputs={},
        progress=Silent(),
    )
    train = here.stage("train")
    manifest.begin(train, {}, {})
    steps = [
        {
            "step": k,
            "loss": 2 - k / 50,
            "dpo_loss": 0.69 - k / 200,
            "nll_loss": 1.3,
            "logps/chosen": -10.0 - k / 9,
            "logps/rejected": -11.0 - k / 5,
            "rewards/margins": k / 50,
        }
        for k in range(1, 101)
    ]
    train.metrics.write_text("".join(json.dumps(step) + "\n" for step in steps) + '{"step": 101, "lo', encoding="utf-8")
    manifest.finish(train, {}, {}, counts={"training": {"dropped_too_long": 1}}, files=[], seconds=9.0)


def _prompt(language: str, k: int) -> Prompt:
    odd = HOSTILE[k % len(HOSTILE)]
    return Prompt(
        id=f"p{k}" if k % 5 else f"p{k}<i>{odd[:12]}",
        language=language,
        instruction=f"{WORDS[language]} {k}? {odd}",
        english_instruction=f"{WORDS['en']} {k}? {odd}",
    )


def _scored(language: str, k: int, t: int, responses: int, long_text: int) -> ScoredPrompt:
    prompt = _prompt(language, k)
    texts = [f"{WORDS[language]} {'x' * (7 * i % 11)} {HOSTILE[(k + i) % len(HOSTILE)]}" for i in range(responses)]
    if k == 1:
        texts[1] = texts[0]  # two alike: one is left out
    if k == 2 and long_text:
        texts[0] = "y" * long_text
    return ScoredPrompt(
        prompt=prompt,
        view="crosslingual",
        judged_under=f"Please answer in {language}.\n\n{prompt.english_instruction}",
        responses=tuple(
            ScoredResponse(
                response=Response(text=text, finish_reason="length" if i == 3 else "stop"),
                policy_logprob=-10.0 - ((k * 7 + i * 3 + t) % 9),
                reference_logprob=-12.0 - ((k + i) % 4),
                n_tokens=len(text.split()),
            )
            for i, text in enumerate(texts)
        ),
    )


class Echo:
    """Answers with the prompt's own words."""

    def sample(self, prompts: Sequence[Prompt], sampling: Sampling, *, advance: Advance = no_progress):
        return [SampledPrompt(prompt=prompt, responses=(Response(text=prompt.instruction),)) for prompt in prompts]

    def close(self) -> None:
        return None


class ByScript:
    """Tells a language by its letters."""

    unsupported = ()

    def identify(self, texts: Sequence[str]) -> list[Identification]:
        found = [next((code for code, words in WORDS.items() if words[:5] in text), "en") for text in texts]
        return [Identification(language=code, confidence=1.0) for code in found]


def _rates(directory: RunDir, prompts: int) -> None:
    verdicts = [
        Verdict(
            id=f"p{k}",
            language=language,
            model=f"π_{t}",
            baseline="reference",
            preference=float((k * 5 + t * 3) % 7 < 2 + 2 * t),
            model_length=40 + k,
            baseline_length=40,
        )
        for language in WORDS
        for t in (0, 1, 2)
        for k in range(prompts)
    ]
    found = as_summary(win_rates(verdicts, variant="none", resamples=50))
    directory.evaluation.write_text(json.dumps(found), encoding="utf-8")
    write_reward_accuracy(
        directory.reward_accuracy,
        [
            RewardAccuracy(
                iteration=t, view="crosslingual", language=code, by="gold", accuracy=0.7, low=0.6, high=0.8, n_pairs=99
            )
            for t in (1, 2)
            for code in WORDS
        ],
    )
