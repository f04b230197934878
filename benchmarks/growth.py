"""Time and memory while the work grows: 1 k to 1 M groups of 10 through pair, 256 to 4 k through score.

    python benchmarks/growth.py [--largest N]

Synthetic groups are made by one process and streamed to a file (3.4 kB a group; 1 M need 3.5 GB in the temporary
folder), then a fresh process reads them as `crossward pair` and `crossward score` do: its seconds (start-up and
imports left out; of CPU: all threads together), and its peak memory in all and above what the imports take.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAIR_SIZES = (1_000, 10_000, 100_000, 1_000_000)
SCORE_SIZES = (256, 1024, 4096)
RESPONSES = 10
LETTERS = "eeeeaaaaoooiinnnsssrrrlllddttuuccmmppbgvyqhfzjñáéíóú        ,."


def texts(seed: int, shortest: int, longest: int) -> Iterator[str]:
    """Endless texts of so many characters, all different: cut at random places out of one long random text."""
    lot = random.Random(seed)
    base = "".join(lot.choices(LETTERS, k=200_000))
    while True:
        start = lot.randrange(len(base) - longest)
        yield base[start : start + lot.randint(shortest, longest)]


def write_groups(path: Path, n: int, *, scored: bool) -> None:
    """A file of groups, as they come; the scores favour long responses, as real ones do."""
    lot, prompts = random.Random(1), texts(2, 30, 120)
    answers = texts(3, 60, 320) if scored else texts(3, 20, 60)
    with path.open("w", encoding="utf-8") as file:
        for i in range(n):
            instruction, responses = next(prompts), [next(answers) for _ in range(RESPONSES)]
            row: dict[str, Any] = {
                "id": f"p{i}",
                "language": ("de", "es", "sw")[i % 3],
                "instruction": instruction,
                "english_instruction": instruction,
                "responses": responses,
                "finish_reasons": ["stop"] * RESPONSES,
            }
            if scored:
                reference = [-0.8 * len(text) + lot.gauss(0, 10) for text in responses]
                policy = [
                    value + 0.01 * len(text) + lot.gauss(0, 3) for value, text in zip(reference, responses, strict=True)
                ]
                row |= {
                    "view": "crosslingual",
                    "judged_under": instruction,
                    "policy_logprob": policy,
                    "reference_logprob": reference,
                    "log_ratio": [a - b for a, b in zip(policy, reference, strict=True)],
                    "n_tokens": [len(text) // 4 for text in responses],
                    "n_chars": [len(text) for text in responses],
                }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def make_model(folder: Path, seed: int) -> None:
    """A tiny random Llama with a byte-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    specials = ["<|pad|>", "<|end|>"]
    vocabulary = {token: i for i, token in enumerate([*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=specials[1], pad_token=specials[0])
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=vocabulary[specials[1]],
        pad_token_id=vocabulary[specials[0]],
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def measured(verb: str, folder: Path, n: int) -> dict[str, float]:
    """One verb on a file of n groups, in a process of its own."""
    path = folder / "groups.jsonl"
    subprocess.run([sys.executable, __file__, "--make", verb, str(path), str(n)], check=True)
    done = subprocess.run(
        [sys.executable, __file__, "--child", verb, str(folder)], check=True, capture_output=True, text=True
    )
    path.unlink()
    return json.loads(done.stdout)


def child(verb: str, folder: Path) -> None:
    """The measured process: prints its numbers as JSON."""
    from crossward.core.pairing import PairingRules
    from crossward.engines.protocols import ModelSpec
    from crossward.pipeline.progress import Silent

    input, output = folder / "groups.jsonl", folder / "made.jsonl"
    if verb == "pair":
        from crossward.pipeline.standalone import pair_file

        rules = PairingRules(length_unit="characters")
        before, started, cpu = peak_mb(), time.perf_counter(), time.process_time()
        pair_file(input, output, rules=rules, identifier=None, progress=Silent())
    else:
        from crossward.pipeline.resumable import score_file

        before, started, cpu = peak_mb(), time.perf_counter(), time.process_time()
        policy, reference = (
            ModelSpec(path=str(folder / name), dtype="float32", device="cpu") for name in ("policy", "reference")
        )
        score_file(
            input,
            output,
            policy=policy,
            reference=reference,
            view="crosslingual",
            compatibility="none",
            batch_tokens=8192,
            progress=Silent(),
        )
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    with output.open("rb") as lines:
        rows = sum(1 for _ in lines)
    output.unlink()
    print(
        json.dumps({"seconds": seconds, "cpu": cpu_seconds, "peak_mb": peak_mb(), "imports_mb": before, "rows": rows})
    )


def peak_mb() -> float:
    """The largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table(verb: str, sizes: tuple[int, ...], folder: Path, largest: int) -> None:
    print(f"{verb}, groups of {RESPONSES}")
    print("   groups   seconds     of CPU  groups/s   peak MB  above imports   rows out   time / groups grown by")
    before: tuple[int, float] | None = None
    for n in sizes:
        if n > largest:
            break
        found = measured(verb, folder, n)
        grown = "" if before is None else f"{found['seconds'] / before[1]:.1f} / {n / before[0]:.0f}"
        print(
            f"{n:9,d} {found['seconds']:9.1f} {found['cpu']:10.1f} {n / found['seconds']:9,.0f} "
            f"{found['peak_mb']:9,.0f} {found['peak_mb'] - found['imports_mb']:14,.0f} {found['rows']:10,d}   {grown}",
            flush=True,
        )
        before = n, found["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=PAIR_SIZES[-1], help="stop at so many groups")
    parser.add_argument("--child", nargs=2, metavar=("VERB", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--make", nargs=3, metavar=("VERB", "FILE", "GROUPS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        verb, path, n = arguments.make
        write_groups(Path(path), int(n), scored=verb == "pair")
        return
    if arguments.child:
        child(arguments.child[0], Path(arguments.child[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table("pair", PAIR_SIZES, folder, arguments.largest)
        for seed, model in enumerate(("policy", "reference")):
            make_model(folder / model, seed)
        table("score", SCORE_SIZES, folder, arguments.largest)


if __name__ == "__main__":
    main()
