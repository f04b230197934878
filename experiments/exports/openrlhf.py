"""OpenRLHF 0.11.2 reads our export with its own loader and its own reward dataset, as its DPO trainer does.

    python experiments/exports/openrlhf.py --run runs/demo/run

Checked: train.sh names only options that its command line has, and they hold what the run trained with; every row of
train.jsonl becomes a row of RewardDataset; its ids, decoded, are our instruction and our response.

OpenRLHF's package imports deepspeed, flash-attn and Ray at its start, which need a GPU's tools to build. The wheel is
installed without them; `openrlhf.datasets` needs none of them, and the trainer's command line is read from its source.
"""

import tempfile
from pathlib import Path

from environment import arguments, crossward, environment, inside

VERSION = "0.11.2"
INSTALLS = (["torch==2.13.0", "transformers==5.15.0", "datasets", "pillow"], ["--no-deps", f"openrlhf=={VERSION}"])
PROGRAM = r"""
import ast, importlib.util, json, shlex, sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace

from transformers import AutoTokenizer

export, model = Path(sys.argv[1]), sys.argv[2]
root = Path(importlib.util.find_spec("openrlhf").submodule_search_locations[0])
# openrlhf.utils' own __init__ imports what checks answers of mathematics; the datasets take two functions of a part.
package = ModuleType("openrlhf.utils")
package.__path__ = [str(root / "utils")]
sys.modules["openrlhf.utils"] = package
from openrlhf.datasets.reward_dataset import RewardDataset
from openrlhf.datasets.utils import blending_datasets

words = shlex.split((export / "train.sh").read_text(encoding="utf-8").replace("\\\n", " "), comments=True)[3:]
tree = ast.parse((root / "cli" / "train_dpo.py").read_text(encoding="utf-8"))
known = {
    call.args[0].value
    for call in ast.walk(tree)
    if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "add_argument"
}
asked = [word for word in words if word.startswith("--")]
assert set(asked) <= known, set(asked) - known
value = {word: words[index + 1] for index, word in enumerate(words) if word in asked and index + 1 < len(words)}
print(f"train.sh: {len(asked)} options, all known to openrlhf.cli.train_dpo; "
      f"--model.nll_loss_coef {value['--model.nll_loss_coef']}, --model.beta {value['--model.beta']}, "
      f"--data.max_len {value['--data.max_len']}")

data = SimpleNamespace(
    prompt_key=value["--data.prompt_key"], chosen_key=value["--data.chosen_key"],
    rejected_key=value["--data.rejected_key"], apply_chat_template="--data.apply_chat_template" in asked,
)
settings = SimpleNamespace(data=data, use_ms=False)
strategy = SimpleNamespace(args=settings, print=lambda *a: None, is_rank_0=lambda: False)
tokenizer = AutoTokenizer.from_pretrained(model)
loaded = blending_datasets(value["--data.dataset"], None, strategy)
limit = int(value["--data.max_len"])
rows = RewardDataset(loaded, tokenizer, limit, strategy, is_dpo=True, num_processors=1)
ours = [json.loads(line) for line in (export / "train.jsonl").read_text(encoding="utf-8").splitlines()]
assert len(rows) == len(ours), (len(rows), len(ours))
spelled = lambda text: tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"])
same = ended = spaced = 0
for index, pair in enumerate(ours):
    chosen, _, rejected, _, n_prompt = rows[index]
    for side, ids in (("chosen", chosen[0]), ("rejected", rejected[0])):
        prompt = tokenizer.decode(ids[:n_prompt], skip_special_tokens=True)
        answer = tokenizer.decode(ids[n_prompt:], skip_special_tokens=True)
        assert spelled(pair["prompt"][0]["content"]).strip() in prompt, (pair["id"], prompt)
        if len(ids) < limit:
            assert answer.strip() == spelled(pair[side][0]["content"]).strip(), (pair["id"], side, answer)
            same += 1
        ended += int(ids[-1] == tokenizer.eos_token_id)
        text = rows.prompts[index] + (rows.chosens if side == "chosen" else rows.rejects)[index]
        spaced += not text.rstrip("\n").endswith(tokenizer.eos_token)
print(f"{len(rows)} rows, as many as were exported; {same} responses decoded, all ours; {ended} end in eos")
print(f"a space was put before eos in {spaced} of {2 * len(rows)} responses")
print("versions: " + ", ".join(f"{name} {version(name)}" for name in ("openrlhf", "transformers", "torch", "datasets")))
"""


def main() -> None:
    given = arguments(__doc__ or "")
    with environment(given.environment, *INSTALLS) as python, tempfile.TemporaryDirectory() as work:
        export, checkpoint = Path(work) / "export", Path(work) / "checkpoint"
        crossward("export", given.run, "--to", "openrlhf", "--output", export)
        crossward("export", given.run, "--to", "model", "--link", "--output", checkpoint)
        print(inside(python, PROGRAM, export, checkpoint), end="")


if __name__ == "__main__":
    main()
