"""Two checkpoints given by hand whose log-probabilities are to be subtracted: refused where that means nothing."""

from crossward.engines.protocols import ModelSpec
from crossward.engines.tokens import ChatTokens, compare_tokens, load_tokens


def comparable_tokens(policy: ModelSpec, reference: ModelSpec) -> ChatTokens:
    """The tokenizer of both models. Raises ValueError where dtype, vocabulary, template or special ids differ."""
    if policy.dtype != reference.dtype:
        raise ValueError(
            f"policy {policy.path} is in {policy.dtype} and reference {reference.path} in {reference.dtype}: a "
            "log-ratio needs the same rounding under both, so give both the same dtype"
        )
    tokens = load_tokens(policy)
    if differences := compare_tokens(tokens, load_tokens(reference)):
        raise ValueError(
            f"policy {policy.path} and reference {reference.path} differ: {' '.join(differences)} A log-ratio needs "
            "the same ids under both, so use the checkpoint that the policy was aligned from"
        )
    return tokens
