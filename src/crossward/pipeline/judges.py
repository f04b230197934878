"""From plain settings to a judge: behind an endpoint or in this process, with its template, journal and budget."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from crossward.core.judging import Order, PairTemplate, parse_template
from crossward.core.spending import Budget, Spending
from crossward.engines.endpoint import Endpoint, require_endpoint
from crossward.engines.protocols import Judge, ModelSpec, VllmOptions
from crossward.engines.workers import IN_PROCESS, Workers
from crossward.pipeline.progress import Progress
from crossward.store.keyed_lines import KeyedLines

DEFAULT_TEMPLATE = "pairwise/default.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSettings:
    """Who judges and how: an `endpoint`, or a `checkpoint` behind vLLM, asked by `workers`.

    `deadline_s`: no question is asked after it.
    """

    endpoint: Endpoint | None = None
    checkpoint: ModelSpec | None = None
    template: Path | None = None
    order: Order = "seeded"
    seed: int = 0
    budget: Budget = field(default_factory=Budget)
    deadline_s: float | None = None
    vllm: VllmOptions = field(default_factory=VllmOptions)
    workers: Workers = IN_PROCESS

    def __post_init__(self) -> None:
        if (self.endpoint is None) == (self.checkpoint is None):
            raise ValueError(
                "name one judge: a server (its address and model), or a checkpoint to be judged with in this process"
            )
        if self.endpoint is not None:  # what would fail later
            require_endpoint(self.endpoint)
        if self.checkpoint is not None:
            from crossward.engines.vllm_engine import vllm_problem

            if problem := vllm_problem(self.checkpoint.device):
                raise ValueError(problem)

    @property
    def name(self) -> str:
        """The judge's model."""
        if self.endpoint is not None:
            return self.endpoint.model
        assert self.checkpoint is not None
        return self.checkpoint.path


def read_template(path: Path | None) -> PairTemplate:
    """The template of a file, or the package's own. ValueError where it cannot be read or lacks a placeholder."""
    if path is None:
        text = (resources.files("crossward") / "templates" / DEFAULT_TEMPLATE).read_text(encoding="utf-8")
        return parse_template(text, DEFAULT_TEMPLATE)
    try:
        return parse_template(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"template {path} cannot be read as a UTF-8 text file ({error})") from None


@contextmanager
def opened_judge(settings: JudgeSettings, journal: Path, progress: Progress) -> Iterator[Judge]:
    """The judge, with its answers kept in `journal`; both are closed at the end. ValueError where it is in use."""
    spending = Spending(budget=settings.budget)
    with KeyedLines(journal) as kept:
        if kept.told is not None:
            progress.say(kept.told)
        judge = _judge(settings, kept, spending, progress)
        try:
            yield judge
        finally:
            judge.close()


def _judge(settings: JudgeSettings, kept: KeyedLines, spending: Spending, progress: Progress) -> Judge:
    if settings.endpoint is not None:
        from crossward.engines.openai_judge import OpenAiJudge

        return OpenAiJudge(
            settings.endpoint, kept=kept, spending=spending, deadline_s=settings.deadline_s, say=progress.say
        )
    from crossward.engines.vllm_judge import VllmJudge

    assert settings.checkpoint is not None
    return VllmJudge(
        settings.checkpoint,
        kept=kept,
        spending=spending,
        options=settings.vllm,
        deadline_s=settings.deadline_s,
        workers=settings.workers,
    )
