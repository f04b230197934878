"""Crossward: one English-aligned model in, a model aligned in many languages out."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crossward.pipeline.implicit_reward import ImplicitReward

__all__ = ["ImplicitReward", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """ImplicitReward, imported when it is asked for: it brings torch with it."""
    if name == "ImplicitReward":
        from crossward.pipeline.implicit_reward import ImplicitReward

        return ImplicitReward
    raise AttributeError(f"module 'crossward' has no attribute {name!r}")
