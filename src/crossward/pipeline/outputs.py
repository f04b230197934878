"""A policy's first answers as alpaca_eval's model_outputs.json, beside the answers themselves: for any other judge."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from crossward.core.records import SampledPrompt
from crossward.store.model_outputs import ModelOutput, write_model_outputs
from crossward.store.run_dir import StageDir


def write_outputs(stage: StageDir, answers: Mapping[str, Iterable[SampledPrompt]]) -> list[Path]:
    """One file a language; the generator is the policy's folder: the same bytes wherever the run lies."""
    name = stage.path.parent.name
    for language, groups in answers.items():
        write_model_outputs(stage.outputs_file(language), [first_answer(group, name) for group in groups])
    return [stage.outputs_file(language) for language in answers]


def first_answer(group: SampledPrompt, name: str) -> ModelOutput:
    """The first answer of a group, by the model that is named."""
    prompt = group.prompt
    return ModelOutput(id=prompt.id, instruction=prompt.instruction, output=group.responses[0].text, generator=name)
