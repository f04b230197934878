"""What judging costs: tokens and money spent, what is on its way, and a limit that is not passed. Knows no server."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Prices (money per million tokens, 0 where unknown) and limits (None: none)."""

    prompt_price: float = 0.0
    completion_price: float = 0.0
    max_cost: float | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.max_cost is not None and not self.prompt_price and not self.completion_price:
            raise ValueError("a limit in money needs prices: name the prompt's and the completion's per million tokens")

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Money for so many tokens.

        >>> Budget(prompt_price=10.0, completion_price=30.0).cost(200_000, 1_000)
        2.03
        """
        return (prompt_tokens * self.prompt_price + completion_tokens * self.completion_price) / 1e6


@dataclass(slots=True, kw_only=True)
class Spending:
    """Tokens of every answer that came, usable or not, and those reserved for requests that are on their way."""

    budget: Budget
    prompt_tokens: int = 0
    completion_tokens: int = 0
    n_answers: int = 0
    _reserved: int = 0

    def reserve(self, tokens: int) -> bool:
        """Whether a request of about so many tokens fits under the limits; counts it as on its way if so."""
        budget, ahead = self.budget, self.prompt_tokens + self._reserved + tokens
        total = ahead + self.completion_tokens
        if budget.max_tokens is not None and total > budget.max_tokens:
            return False
        if budget.max_cost is not None and budget.cost(ahead, self.completion_tokens) > budget.max_cost:
            return False
        self._reserved += tokens
        return True

    def release(self, tokens: int) -> None:
        """A request ended: what it took is added by `add`, or it took nothing."""
        self._reserved -= tokens

    def add(self, prompt_tokens: int, completion_tokens: int) -> None:
        """An answer came."""
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self.n_answers += 1

    @property
    def cost(self) -> float:
        """Money spent."""
        return self.budget.cost(self.prompt_tokens, self.completion_tokens)
