"""The implicit reward as an object: a reward model made of two checkpoints, for a program or for a TRL trainer.

The same view, ids and sums as `crossward score`. Both models stay loaded until `close`, which a trainer's loop needs;
a run's score stage opens and closes its own. Learns nothing and keeps no state between calls.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from crossward.core.instructions import judged_under
from crossward.core.records import Prompt, Response, SampledPrompt, View
from crossward.engines.hf_scorer import HfScorer
from crossward.engines.models import DTYPES
from crossward.engines.protocols import Dtype, Judged, ModelSpec
from crossward.pipeline.comparable import comparable_tokens
from crossward.pipeline.trl_rows import columns_of, completion_of, prompt_of
from crossward.store.edges import group_of

Rewards = list[float | None]


class ImplicitReward:
    """r(x, y) = β·(log π(y|x) − log π_ref(y|x)), in nats times β.

    `policy` and `reference` are folders, hub names or ModelSpecs (whose dtype and device then count). `view` is the
    instruction that responses are judged under: `crosslingual` (the English twin, with a line that asks for the
    prompt's language) or `multilingual` (the prompt as it is). `batch_tokens` go through a model at once; None: as many
    as the memory takes.

        with ImplicitReward("my-policy", "my-reference", beta=0.1) as reward:
            rewards = reward.score(groups)                                # one list per group
            trainer = GRPOTrainer(..., reward_funcs=reward)               # or as TRL's reward function
    """

    def __init__(
        self,
        policy: str | Path | ModelSpec,
        reference: str | Path | ModelSpec,
        *,
        beta: float = 0.1,
        view: View = "crosslingual",
        dtype: Dtype = "bfloat16",
        device: str = "auto",
        batch_tokens: int | None = None,
    ) -> None:
        if view not in ("crosslingual", "multilingual"):
            raise ValueError(f"view must be 'crosslingual' or 'multilingual', got {view!r}")
        if isinstance(beta, bool) or not isinstance(beta, int | float) or not 0 < beta < float("inf"):
            raise ValueError(f"beta must be a number above 0 (usually 0.01 to 0.5), got {beta!r}")
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be 'float32' or 'bfloat16', got {dtype!r}")
        if batch_tokens is not None and (type(batch_tokens) is not int or batch_tokens < 1):
            raise ValueError(
                f"batch_tokens must be a whole number from 1 on, or None for as many as fit, got {batch_tokens!r}"
            )
        ours, base = (_spec(model, dtype, device) for model in (policy, reference))
        self._tokens = comparable_tokens(ours, base)
        self.beta = beta
        self.view: View = view
        self.__name__ = f"implicit_reward_{view}"  # what TRL calls it in its logs
        self._scorers = [HfScorer(spec, self._tokens, batch_tokens=batch_tokens) for spec in (ours, base)]

    def score(self, groups: Sequence[SampledPrompt | Mapping[str, Any]]) -> list[Rewards]:
        """The reward of every response of every group; None where one is longer than the models take.

        A group is a SampledPrompt or a row of `crossward score`'s input: "language", "instruction",
        "english_instruction" (not for English, nor in the multilingual view) and "responses", a list of texts;
        "finish_reasons" and "token_ids" where they are known, "id" to name it in errors.
        """
        if not isinstance(groups, Sequence) or isinstance(groups, str):
            raise ValueError(f"expected a list of groups, got {type(groups).__name__}")
        read = [self._group(group, f"group {index}") for index, group in enumerate(groups)]
        return self._rewards(
            [
                Judged(instruction=self._instruction(group.prompt, where), responses=group.responses, name=where)
                for where, group in read
            ]
        )

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> Rewards:
        """TRL's reward function: one reward per completion, None where one is longer than the models take.

        Prompts and completions are texts or lists of messages. A prompt that is a plain text counts as the user's
        words and is put into the chat template here. `columns` are the dataset's: the crosslingual view reads
        "language" and, for other languages than English, "english_instruction". Where the trainer gives its ids,
        these are scored, up to the first that ends a turn; a completion without one was cut.
        """
        twin_needed = self.view == "crosslingual"
        languages, twins = columns_of(columns, len(prompts), needed=twin_needed)
        ids = [None] * len(prompts) if completion_ids is None else completion_ids
        judged: dict[str, list[tuple[int, Response]]] = {}  # one prompt's completions share its computation
        if not len(prompts) == len(completions) == len(ids):
            raise ValueError(
                f"got {len(prompts)} prompts, {len(completions)} completions and {len(ids)} lists of ids: expected one "
                "completion for each prompt"
            )
        rows = zip(prompts, completions, ids, languages, twins, strict=True)
        for index, (prompt, completion, own_ids, language, twin) in enumerate(rows):
            where = f"prompt {index} of the batch"
            asked = self._instruction(prompt_of(prompt, language, twin, where, twin_needed=twin_needed), where)
            response = completion_of(completion, own_ids, self._tokens, where)
            judged.setdefault(asked, []).append((index, response))
        groups = [
            Judged(instruction=asked, responses=tuple(response for _, response in rows), name=f"prompt {rows[0][0]}")
            for asked, rows in judged.items()
        ]
        places = [index for rows in judged.values() for index, _ in rows]
        rewards = [value for group in self._rewards(groups) for value in group]
        return [value for _, value in sorted(zip(places, rewards, strict=True), key=lambda pair: pair[0])]

    def close(self) -> None:
        """Give the models' memory back; it cannot be used again."""
        while self._scorers:
            self._scorers.pop().close()

    def __enter__(self) -> "ImplicitReward":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _rewards(self, groups: Sequence[Judged]) -> list[Rewards]:
        if not self._scorers:
            raise ValueError("this ImplicitReward is closed: make another one")
        by_policy, by_reference = (scorer.score(groups) for scorer in self._scorers)
        return [
            [
                None if own is None or base is None else self.beta * (own.logprob - base.logprob)
                for own, base in zip(ours, theirs, strict=True)
            ]
            for ours, theirs in zip(by_policy, by_reference, strict=True)
        ]

    def _group(self, group: SampledPrompt | Mapping[str, Any], where: str) -> tuple[str, SampledPrompt]:
        if isinstance(group, SampledPrompt):
            return f"prompt {group.prompt.id!r} in {group.prompt.language!r}", group
        if not isinstance(group, Mapping):
            raise ValueError(
                f"{where}: expected a SampledPrompt or a dictionary with 'language', 'instruction', "
                f"'english_instruction' and 'responses', got {type(group).__name__}"
            )
        multilingual = self.view == "multilingual"
        row = {"id": where, **({"language": "und"} if multilingual else {}), **group}
        return where, group_of(row, where, twin_needed=not multilingual)

    def _instruction(self, prompt: Prompt, where: str) -> str:
        try:
            return judged_under(prompt, self.view)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None


def _spec(model: str | Path | ModelSpec, dtype: Dtype, device: str) -> ModelSpec:
    match model:
        case ModelSpec():
            return model
        case str() | Path():
            return ModelSpec(path=str(model), dtype=dtype, device=device)
        case _:
            raise ValueError(
                f"a model must be a folder, a hub name or a ModelSpec, got {type(cast(object, model)).__name__}: save "
                "it with save_pretrained and give its folder"
            )
