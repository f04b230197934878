"""How far a piece of work is: counts, rate, what is left; and the same by language while sampling.

Knows no display. The clock is an argument.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

Clock = Callable[[], float]


class Meter:
    """Counts units of work. The rate leaves out what comes before the first units: there a model is loaded.

    >>> now = 0.0
    >>> meter = Meter(100, clock=lambda: now)
    >>> now = 60.0; meter.advance(10)
    >>> now = 70.0; meter.advance(40)
    >>> meter.rate, meter.seconds_left, meter.told()
    (4.0, 12.5, '50/100, 4.0/s, about 12 s left')
    """

    def __init__(self, total: int | None, *, clock: Clock = time.monotonic) -> None:
        self.total, self.done = total, 0
        self._clock, self._started = clock, clock()
        self._first: tuple[float, int] | None = None  # when the first units were done, and how many these were

    def advance(self, n: int) -> None:
        """Count `n` units more."""
        self.done += n
        if self._first is None and n:
            self._first = self._clock(), self.done

    @property
    def seconds(self) -> float:
        return self._clock() - self._started

    @property
    def rate(self) -> float | None:
        """Units a second; None before anything was done."""
        if self._first is None:
            return None
        since, at_first = self._clock() - self._first[0], self.done - self._first[1]
        if at_first and since > 0:
            return at_first / since
        return self.done / self.seconds if self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """None where the total or the rate is not known."""
        if self.total is None or not self.rate:
            return None
        return max(0, self.total - self.done) / self.rate

    def told(self) -> str:
        """In words."""
        parts = [f"{self.done}" if self.total is None else f"{self.done}/{self.total}"]
        if self.rate is not None:
            parts.append(f"{self.rate:.1f}/s")
        if self.seconds_left is not None:
            parts.append(f"about {self.seconds_left:.0f} s left")
        return ", ".join(parts)


class LanguageMeter:
    """The sampling of one language: `n` responses a prompt, `before` of the prompts answered by an earlier run."""

    def __init__(self, *, prompts: int, before: int, n: int, clock: Clock = time.monotonic) -> None:
        self.prompts, self.before = prompts, before
        self.responses = self.truncated = self.tokens = 0
        self._n, self._clock = n, clock
        self._noted_prompts = self._noted = 0
        self._chars = 0.0
        self._begun: float | None = None
        self._seconds = 0.0

    def begin(self) -> None:
        """The language's turn has come."""
        self._begun = self._begun or self._clock()

    def advance(self, n: int) -> None:
        """Count responses."""
        self.responses += n

    def note(self, counts: Mapping[str, Any]) -> None:
        """Prompts that are finished; keys as in counts.SampledTally."""
        self._noted_prompts += counts["prompts"]
        self._noted += counts["responses"]
        self.truncated += counts["truncated"]
        self.tokens += counts["tokens"]
        self._chars += counts["mean_chars"] * counts["responses"]
        self._seconds = self._clock() - (self._clock() if self._begun is None else self._begun)

    @property
    def prompts_done(self) -> int:
        return self.before + max(self._noted_prompts, self.responses // self._n)

    @property
    def mean_chars(self) -> float | None:
        """Of the responses of finished prompts; None before the first are finished, as with the two below."""
        return self._chars / self._noted if self._noted else None

    @property
    def truncated_share(self) -> float | None:
        return self.truncated / self._noted if self._noted else None

    @property
    def tokens_per_second(self) -> float | None:
        """None too where the sampler gives no token ids."""
        return self.tokens / self._seconds if self.tokens and self._seconds > 0 else None

    def cells(self) -> list[str]:
        """Prompts, responses, mean length, truncated share and tokens/s, as a table shows them."""
        mean, share, rate = self.mean_chars, self.truncated_share, self.tokens_per_second
        return [
            f"{self.prompts_done}/{self.prompts}",
            f"{self.responses}",
            "–" if mean is None else f"{mean:.0f}",
            "–" if share is None else f"{share:.1%}",
            "–" if rate is None else f"{rate:.0f}",
        ]


def clock_time(seconds: float | None) -> str:
    """Seconds as hours, minutes, seconds.

    >>> clock_time(3725.4), clock_time(None)
    ('1:02:05', '-:--:--')
    """
    if seconds is None:
        return "-:--:--"
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
