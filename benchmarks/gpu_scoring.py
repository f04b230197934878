"""Scoring on a GPU, with nothing to download: a Llama of 1.2 billion random parameters and 128,256 tokens.

    python benchmarks/gpu_scoring.py [--groups 512] [--compared 48] [--folder runs/gpu-bench]

Prints the share of the bfloat16 matrix-product rate that scoring reaches (2 x parameters x unique tokens / seconds,
over the rate of a plain product measured in the same run), and on the first `--compared` groups the ratio to the
published procedure (batches of 3 prompts, right padding, full-vocabulary log-softmax). Makes its model in `--folder`
once (2.5 GB). Bars: 45 %, and 2x. `--tiny` runs the same script on a small model on any machine, to see that it works.
"""

import argparse
import time
from pathlib import Path

import torch
from random_model import LLAMA_1B, TINY, make_groups, make_model
from scoring import matrix_rate, published

from crossward.engines import shared_attention
from crossward.engines.hf_scorer import HfScorer
from crossward.engines.models import load_model, settle
from crossward.engines.protocols import Judged, ModelSpec, Work
from crossward.engines.tokens import load_tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=512)
    parser.add_argument("--compared", type=int, default=48)
    parser.add_argument("--folder", type=Path, default=Path("runs/gpu-bench"))
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    settle()
    vocabulary = 2_000 if arguments.tiny else 128_256
    folder = arguments.folder.with_name(arguments.folder.name + ("-tiny" if arguments.tiny else ""))
    if not (folder / "model.safetensors").exists():
        make_model(folder, vocabulary, TINY if arguments.tiny else LLAMA_1B)
    spec = ModelSpec(path=str(folder), dtype="bfloat16")
    tokens = load_tokens(spec)
    groups = make_groups(arguments.groups, vocabulary)
    scorer = HfScorer(spec, tokens)
    device = scorer._model.device
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    way = "FlexAttention" if device.type == "cuda" and shared_attention._flex_works() else "response by response"
    print(f"{name}, torch {torch.__version__}, attention {way if device.type == 'cuda' else 'in blocks'}")
    parameters = sum(parameter.numel() for parameter in scorer._model.parameters())
    rate = matrix_rate(torch.bfloat16, device, size=8192 if device.type == "cuda" else 1024)
    scorer.score(groups[:16])  # compiles and warms up
    scorer.work = work = Work()
    started = time.perf_counter()
    scorer.score(groups)
    seconds, unique = time.perf_counter() - started, work.unique_tokens
    share = 2 * parameters * unique / seconds / rate
    print(f"{parameters / 1e9:.2f} B parameters, {len(groups)} groups x 10, {unique} unique tokens")
    print(f"crossward  {seconds:8.2f} s  {unique / seconds:10.0f} tokens/s  {share:.1%} of {rate / 1e12:.0f} TFLOP/s")
    print(f"           {work.seconds:8.2f} s by the device's own clock, padding and repeats {work.waste:.2%}")
    if device.type == "cuda":
        print(f"           peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    compare(spec, scorer, groups[: arguments.compared])


def compare(spec: ModelSpec, scorer: HfScorer, groups: list[Judged]) -> None:
    """Both sides on the same groups, one after the other."""
    tokens = load_tokens(spec)
    model = load_model(spec)
    published(model, tokens, groups[:3])
    started = time.perf_counter()
    theirs = published(model, tokens, groups)
    other = time.perf_counter() - started
    started = time.perf_counter()
    ours = scorer.score(groups)
    seconds = time.perf_counter() - started
    gaps = [abs(a.logprob - b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True) if a]
    print(
        f"published  {other:8.2f} s  crossward {seconds:.2f} s on the same {len(groups)} groups: "
        f"ratio {other / seconds:.2f}x, largest difference {max(gaps):.2g} nats (bfloat16)"
    )


if __name__ == "__main__":
    main()
