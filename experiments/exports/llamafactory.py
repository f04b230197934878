"""LLaMA-Factory 0.9.5 reads our export with its own loader, parses our YAML with its own parser, and trains on it.

    python experiments/exports/llamafactory.py --run runs/demo/run

Checked: the number of rows by language; every row's chosen and rejected labels, decoded, are our texts, and what stands
before them ends in our instruction; every key of dpo.yaml has the value that the run trained with; `llamafactory-cli
train` takes an optimiser step of DPO + NLL on the CPU.

LLaMA-Factory learns a chat template by rendering it with a system message, which the tiny world's template refuses (as
Gemma 2's does): it gets a copy of the checkpoint whose template takes one. The environment has the versions that
LLaMA-Factory pins, without what its loader does not use (gradio, av, modelscope). It imports torchaudio at its start,
of which no build loads beside every torch; text needs none, so an empty module takes its place.
"""

import tempfile
from pathlib import Path

from environment import arguments, crossward, environment, inside

VERSION = "0.9.5"
PINS = ["torch==2.13.0", "transformers==5.6.0", "datasets==4.0.0", "accelerate==1.11.0", "peft==0.18.1", "trl==0.24.0"]
INSTALLS = ([*PINS, "omegaconf", "pillow"], ["--no-deps", f"llamafactory=={VERSION}"])
PROGRAM = r"""
import json, re, shutil, sys
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from types import ModuleType

audio = ModuleType("torchaudio")
audio.__spec__ = ModuleSpec("torchaudio", None)
sys.modules["torchaudio"] = audio

import yaml
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer
from llamafactory.train.tuner import run_exp

export, work = sys.argv[1], sys.argv[2]
settings = yaml.safe_load(open(f"{export}/dpo.yaml", encoding="utf-8"))
model = f"{work}-model"
shutil.copytree(settings["model_name_or_path"], model)
with open(f"{model}/chat_template.jinja", "r+", encoding="utf-8") as file:
    chat = re.sub(r"\{\{ raise_exception\([^}]*\) \}\}", "{{ message['content'] }}", file.read())
    file.seek(0), file.truncate(), file.write(chat)
on_cpu = settings | {"model_name_or_path": model, "output_dir": work, "use_cpu": True, "bf16": False}
on_cpu["overwrite_cache"] = True
model_args, data_args, training_args, finetuning_args, _ = get_train_args(dict(on_cpu))
parsed = {**vars(model_args), **vars(data_args), **vars(training_args), **vars(finetuning_args)}
for key, value in settings.items():
    if key in ("output_dir", "model_name_or_path", "bf16", "do_train", "dataset", "report_to", "lr_scheduler_type"):
        continue
    assert parsed[key] == value, (key, value, parsed[key])
print(f"dpo.yaml: {len(settings)} keys parsed; pref_beta {finetuning_args.pref_beta}, "
      f"pref_ftx {finetuning_args.pref_ftx}, cutoff_len {data_args.cutoff_len}, "
      f"learning_rate {training_args.learning_rate}")

tokenizer = load_tokenizer(model_args)["tokenizer"]
template = get_template_and_fix_tokenizer(tokenizer, data_args)
texts = cut = 0
info = json.load(open(f"{export}/dataset_info.json", encoding="utf-8"))
for name in info:
    one, *_ = [get_train_args(dict(on_cpu | {"dataset": name}))]
    rows = get_dataset(template, one[0], one[1], one[2], stage="rm", tokenizer=tokenizer)["train_dataset"]
    ours = [json.loads(line) for line in open(f"{export}/{info[name]['file_name']}", encoding="utf-8")]
    assert len(rows) == len(ours), (name, len(rows), len(ours))
    spelled = lambda text: tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"])
    for row, pair in zip(rows, ours):
        for side in ("chosen", "rejected"):
            label_ids = [token for token in row[f"{side}_labels"] if token != -100]
            prompt_ids = [t for t, label in zip(row[f"{side}_input_ids"], row[f"{side}_labels"]) if label == -100]
            label = tokenizer.decode(label_ids, skip_special_tokens=True)
            prompt = tokenizer.decode(prompt_ids, skip_special_tokens=True)
            wanted, asked = spelled(pair[side]["value"]), spelled(pair["conversations"][0]["value"])
            if len(row[f"{side}_input_ids"]) >= data_args.cutoff_len:
                cut += 1
                continue
            assert label.strip() == wanted.strip(), (name, pair["id"], side, label, wanted)
            assert asked.strip() in prompt, (name, pair["id"], prompt, asked)
            texts += 1
    print(f"{name}: {len(rows)} rows, as many as were exported")
print(f"{texts} chosen and rejected texts decoded from the labels: all ours ({cut} at the cutoff were not compared)")

run_exp(on_cpu | {"max_steps": 1, "save_strategy": "no", "per_device_train_batch_size": 2, "logging_steps": 1})
log = json.load(open(f"{work}/trainer_state.json", encoding="utf-8"))["log_history"]
first = log[0]
print(f"one optimiser step: loss {first['loss']:.4f}, rewards/accuracies {first['rewards/accuracies']:.2f}")
names = ("llamafactory", "transformers", "trl", "torch", "datasets")
print("versions: " + ", ".join(f"{name} {version(name)}" for name in names))
"""


def main() -> None:
    given = arguments(__doc__ or "")
    with environment(given.environment, *INSTALLS) as python, tempfile.TemporaryDirectory() as work:
        export = Path(work) / "export"
        crossward("export", given.run, "--to", "llamafactory", "--output", export)
        shown = inside(python, PROGRAM, export, Path(work) / "trained", LLAMAFACTORY_VERBOSITY="WARN")
        kept = ("dpo.yaml", "crossward_", "one optimiser", "versions")
        print("\n".join(line for line in shown.splitlines() if line.startswith(kept) or " texts decoded " in line))


if __name__ == "__main__":
    main()
