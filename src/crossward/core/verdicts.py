"""A verdict: which of two answers to an instruction a judge prefers, and how much. Knows no judge, no file."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The model's answer against the baseline's, to one instruction in one language.

    `preference` is 0 to 1 (1: the model's answer is better, 0.5: a draw), None where the judge gave no usable verdict.
    Lengths are in characters (Unicode code points).
    """

    id: str
    language: str
    model: str
    baseline: str
    preference: float | None
    model_length: int
    baseline_length: int
