"""What computes: a device's rates, the share of them that each kind of work reaches, what a fixed part takes.

Facts (a vendor's or a measurement's) and efficiencies apart, so that a measured probe replaces the latter alone. The
rows that come with the package are in templates/planning/hardware.yaml. Knows no recipe.
"""

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["cpu", "gpu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """Shares of the device's rates (0 to 1) and seconds that no rate explains.

    `read_share`: of the matrix rate, reading prompts while sampling; `draw_share`: of the matrix rate, drawing a batch
    of tokens; `bandwidth_share`: of the memory's rate, while drawing; `score_share`, `train_share`: of the matrix rate.
    `step_s` and `layer_s`: a step of drawing, or a pass of a model, takes step_s + layers × layer_s however small it
    is; `vllm_step_s` is the whole of that for vLLM. `row_s`: a response to draw, tokenise and write; `group_s`: a
    group and layer to score (attention goes group by group). `pair_s`: a response to survey for pairing. `start_s`,
    `vllm_start_s`, `train_start_s`: opening an engine, its weights apart. `assumed` names what nobody measured.
    """

    read_share: float
    draw_share: float
    bandwidth_share: float
    score_share: float
    train_share: float
    step_s: float
    layer_s: float
    vllm_step_s: float
    row_s: float
    group_s: float
    pair_s: float
    start_s: float
    vllm_start_s: float
    train_start_s: float
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """Measured over estimated seconds of each kind of work, by a probe; 1 where nothing was measured."""

    sample: float = 1.0
    score: float = 1.0
    train: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """A machine or several alike: `devices` of `memory_gib` each. TFLOP/s are those of dense matrix products.

    `training_devices` is over how many devices one training is sharded; `spread_share` what is kept of the rate of all
    devices where prompts are spread over them. `host_gib`: memory of the machine beside its devices (for a CPU the
    same). `hour_price` is money an hour and device, None where it is not known.
    """

    name: str
    kind: Kind
    memory_gib: float
    float32_tflops: float
    bfloat16_tflops: float
    bandwidth_gb_s: float
    disk_gb_s: float
    host_gib: float
    efficiency: Efficiency
    devices: int = 1
    training_devices: int = 1
    spread_share: float = 1.0
    hour_price: float | None = None
    source: str = ""
    factors: Factors = field(default_factory=Factors)

    def flops(self, value_bytes: int) -> float:
        """FLOP/s of dense products, by the bytes of a value: 4 float32, 2 bfloat16."""
        return 1e12 * (self.float32_tflops if value_bytes == 4 else self.bfloat16_tflops)

    @property
    def memory_bytes(self) -> float:
        """Of one device."""
        return self.memory_gib * 2**30
