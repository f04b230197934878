"""An engine of one's own: a sampler whose answers were made elsewhere and lie in a file of groups.

python docs/examples/answers_from_a_file.py recipes/demo.yaml runs/groups.jsonl run=runs/from-a-file
"""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from crossward.config import load
from crossward.console import Terminal
from crossward.core.records import Prompt, SampledPrompt
from crossward.engines.protocols import Advance, Sampling, no_progress
from crossward.pipeline.given import Given
from crossward.pipeline.iterate import run
from crossward.pipeline.report.write import write_report
from crossward.store import edges


class AnswersFromAFile:
    """protocols.Sampler: what it needs is these two methods."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._groups = {(group.prompt.language, group.prompt.id): group for group in edges.read_groups(path)}

    def sample(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, advance: Advance = no_progress
    ) -> list[SampledPrompt]:
        """`sampling.n` responses to each prompt, in the prompts' order."""
        groups = [self._answers(prompt, sampling.n) for prompt in prompts]
        advance(len(prompts) * sampling.n)
        return groups

    def close(self) -> None:
        """There is no model whose memory is to be given back."""

    def _answers(self, prompt: Prompt, n: int) -> SampledPrompt:
        found = self._groups.get((prompt.language, prompt.id))
        if found is None or len(found.responses) < n:
            got = "none" if found is None else str(len(found.responses))
            raise ValueError(f"{self._path}: prompt {prompt.id!r} ({prompt.language}) needs {n} answers, got {got}")
        return SampledPrompt(prompt=prompt, responses=found.responses[:n])


def main(recipe: str, answers: str, *overrides: str) -> None:
    """One iteration of the recipe with these answers in the place of the policy's own."""
    path = Path(answers)
    identity = hashlib.sha256(path.read_bytes()).hexdigest()  # other answers are another run
    config = load(Path(recipe), ["sample.engine=given", "iterations=1", *overrides])
    given = Given(open_sampler=lambda: AnswersFromAFile(path), sampler_identity=identity)
    directory = run(config, progress=Terminal(), given=given)
    write_report(directory, config)
    print(directory.report)


if __name__ == "__main__":
    main(*sys.argv[1:])
