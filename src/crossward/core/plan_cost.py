"""What one stage costs, as a value: seconds that can be spread and seconds that cannot, tokens, FLOP, bytes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """`work` can be spread over devices, `fixed` is taken by each of them at the same time."""

    work: float
    fixed: float

    @property
    def total(self) -> float:
        """On one device."""
        return self.work + self.fixed

    def scaled(self, factor: float) -> "Seconds":
        return Seconds(work=self.work * factor, fixed=self.fixed)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """One stage, once; a run does it `times` times. Tokens by what is done with them; memory is of one device.

    `devices` is over how many the stage is spread: 1 where it cannot be. `split` of them hold one model together.
    """

    name: str
    times: int
    seconds: Seconds
    devices: int = 1
    split: int = 1
    spread_share: float = 1.0
    prompt_tokens: float = 0.0
    generated_tokens: float = 0.0
    scored_tokens: float = 0.0
    trained_tokens: float = 0.0
    flops: float = 0.0
    memory_bytes: float = 0.0
    disk_bytes: float = 0.0

    @property
    def tokens(self) -> float:
        """All tokens that go through a model, once."""
        return self.prompt_tokens + self.generated_tokens + self.scored_tokens + self.trained_tokens

    @property
    def wall_seconds(self) -> float:
        """Once: what can be spread over devices × the share that spreading keeps, and the fixed part."""
        copies = self.devices // self.split
        rate = copies * (self.spread_share if copies > 1 else 1.0)
        return self.seconds.work / rate + self.seconds.fixed

    @property
    def device_hours(self) -> float:
        """Of all times: devices × wall."""
        return self.times * self.devices * self.wall_seconds / 3600.0

    @property
    def wall_hours(self) -> float:
        """Of all times."""
        return self.times * self.wall_seconds / 3600.0
