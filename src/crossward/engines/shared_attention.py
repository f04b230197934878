"""Attention over a pack: each response sees its own prompt and itself, computed once per token, without padding.

Registered with transformers under one name (`NAME`) and told the pack's layout through the model's keyword arguments,
so that any model whose attention goes through transformers' attention interface can use it. Three ways of computing
the same thing:

- on a CPU without gradients, in blocks of matrix products with scores and weights in float32 (torch's own fused CPU
  kernel reaches half of that speed on these shapes);
- with gradients on a CPU, response by response through torch's scaled_dot_product_attention;
- on CUDA by FlexAttention (compiled), and response by response where it cannot be compiled.

What is not known here (sinks, position biases, chunked attention) raises Unsupported; the caller then pads instead.
"""

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention.bias import causal_lower_right
from transformers import AttentionInterface

from crossward.engines.packs import RUN_TOKENS, GroupSpans, Layout, Span

NAME = "crossward_shared"
BLOCK = 64  # queries at once; 64 to 128 are equally quick on the processors seen
LOG2E = 1.0 / math.log(2.0)


class Unsupported(Exception):
    """This model's attention does something that packs do not do."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """query [1, heads, tokens, size], key and value [1, key heads, tokens, size] -> [1, tokens, heads, value size]."""
    odd = [name for name in ("s_aux", "sinks", "position_bias", "head_mask") if kwargs.get(name) is not None]
    if layout is None or odd or attention_mask is not None:
        raise Unsupported(", ".join(odd) or "the pack's layout does not reach its attention")
    window = _window(module, layout, kwargs)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.device.type == "cuda" and dropout == 0.0 and _flex_works():
        return _flex(query, key, value, layout, scale, softcap, window), None
    if torch.is_grad_enabled() or query.device.type == "cuda":
        return _by_response(query, key, value, layout, scale, softcap, window, dropout), None
    prompts = _prompts(module, key, value, layout)
    return _in_blocks(query, key, value, prompts, layout, scale, softcap, window), None


AttentionInterface.register(NAME, attend)  # without a mask function of its name, models make no mask for it


def _window(module: nn.Module, layout: Layout, kwargs: dict[str, Any]) -> int | None:
    """The sliding window of this layer where it cuts anything of this pack."""
    config = getattr(module, "config", None)
    if "sliding_window" not in kwargs and getattr(config, "sliding_window", None) is not None:
        raise Unsupported("its sliding window does not reach its attention")
    window = kwargs.get("sliding_window")
    longest = max(spans.prompt[1] - spans.prompt[0] + _longest(spans) for spans in layout.groups)
    return window if window is not None and window < longest else None


def _longest(spans: GroupSpans) -> int:
    return max((b - a for run in spans.runs for a, b in run), default=0)


def _prompts(module: nn.Module, key: Tensor, value: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Where the prompts' keys and values stand: in the pack itself, or in the memory of an earlier one."""
    if layout.memory is None:
        return key, value
    layer = getattr(module, "layer_idx", None)
    if not isinstance(layer, int):
        raise Unsupported("its layers do not know their number")
    if layout.holds_prompts:
        layout.memory.layers[layer] = key, value
    return layout.memory.layers[layer]


def _in_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prompts: tuple[Tensor, Tensor],
    layout: Layout,
    scale: float,
    softcap: float | None,
    window: int | None,
) -> Tensor:
    """Every run of responses by itself, a block of its queries at a time, over its prompt's keys and its own.

    Key heads are the batch of every product; the query heads that share one stand below one another.
    """
    tasks = [
        (spans.prompt, at, run)
        for spans in layout.groups
        for at, run in _runs(spans, single=window is not None, prompt=layout.holds_prompts)
    ]
    heads, key_heads = query.shape[1], key.shape[1]
    output = query.new_empty(1, query.shape[2], heads, value.shape[-1])
    into = output[0].transpose(0, 1)  # [heads, tokens, value size]
    longest = max(at + run[-1][1] - run[0][0] for _, at, run in tasks)
    # The keys and values of one prompt, and behind them those of one run of responses.
    keys = torch.empty(key_heads, longest, key.shape[-1])
    values = value.new_empty(key_heads, longest, value.shape[-1])
    scratch = torch.empty(heads * max(BLOCK, RUN_TOKENS) * longest)
    rows_scratch = torch.empty(heads * max(BLOCK, RUN_TOKENS) * query.shape[-1])
    factor = scale * LOG2E if softcap is None else scale / softcap
    held: Span | None = None  # the prompt whose keys are in place
    for prompt, at, run in tasks:
        first, last = run[0][0], run[-1][1]
        if at and prompt != held:
            for kept, tensor in zip((keys, values), prompts, strict=True):
                kept[:, :at] = tensor[0, :, prompt[0] : prompt[1]]
        held = prompt  # where the run is the prompt itself, the next lines put it there
        keys[:, at : at + last - first] = key[0, :, first:last]
        values[:, at : at + last - first] = value[0, :, first:last]
        size = BLOCK if len(run) == 1 else last - first
        for a in range(first, last, size):
            b = min(a + size, last)
            end = at + b - first
            begin = 0 if window is None else max(0, end - (b - a) - window + 1)
            rows = rows_scratch[: heads * (b - a) * query.shape[-1]].view(heads, b - a, -1)
            rows.copy_(query[0, :, a:b]).mul_(factor)  # in float32 before it is scaled
            hidden = _hidden(b - a, window, end - begin) if len(run) == 1 else _hidden_in_run(_relative(run))
            scores = scratch[: heads * (b - a) * (end - begin)].view(key_heads, -1, end - begin)
            sums = _exponentials(scores, rows.view(key_heads, -1, rows.shape[-1]), keys[:, begin:end], hidden, softcap)
            seen = values[:, begin:end]
            if values.dtype == torch.float32:
                summed = torch.bmm(scores, seen).view(heads, b - a, -1)
                torch.div(summed, sums.view(heads, b - a, 1), out=into[:, a:b])
            else:  # weights are rounded once, as they are everywhere else
                into[:, a:b] = torch.bmm(scores.div_(sums).to(values.dtype), seen).view(heads, b - a, -1)
    return output


def _exponentials(scores: Tensor, rows: Tensor, keys: Tensor, hidden: Tensor, softcap: float | None) -> Tensor:
    """Fill scores [key heads, rows, keys] with 2^(row · key), 0 where `hidden`; the sum of each row [.., .., 1].

    With a cap the exponent is cap · log2(e) · tanh(row · key). A softmax is the same whatever its weights are scaled
    by, so the largest score is looked for and taken off only where the sums would leave what float32 holds with room
    on both sides. Powers of 2 take a third of the time of powers of e.
    """

    def fill() -> None:
        torch.bmm(rows, keys.transpose(1, 2), out=scores)
        if softcap is not None:
            scores.tanh_().mul_(softcap * LOG2E)
        scores.view(len(keys), -1, len(hidden), keys.shape[1])[..., -hidden.shape[1] :].add_(hidden)

    fill()
    sums = scores.exp2_().sum(-1, keepdim=True)
    least, most = sums.aminmax()
    if not (float(least) > 2.0**-64 and float(most) < 2.0**64):
        fill()
        sums = scores.sub_(scores.amax(-1, keepdim=True)).exp2_().sum(-1, keepdim=True)
    return sums


def _runs(spans: GroupSpans, *, single: bool, prompt: bool = True) -> list[tuple[int, tuple[Span, ...]]]:
    """The prompt (where the pack holds it), then its runs of responses, each with how many of its tokens it follows."""
    behind = spans.prompt[1] - spans.prompt[0]
    runs = [(span,) for run in spans.runs for span in run] if single else spans.runs
    return [*([(0, (spans.prompt,))] if prompt else []), *((behind, run) for run in runs)]


@lru_cache(maxsize=256)
def _hidden(n: int, window: int | None, width: int) -> Tensor:
    """What is added to the scores of the last n of `width` positions: −∞ where a key is later, or out of the window.

    Without a window only the last n columns are given: all keys before them are seen.
    """
    columns = n if window is None else width
    distance = torch.arange(columns - n, columns).unsqueeze(1) - torch.arange(columns)
    unseen = distance < 0 if window is None else (distance < 0) | (distance >= window)
    return torch.zeros(n, columns).masked_fill(unseen, -math.inf)


@lru_cache(maxsize=256)
def _hidden_in_run(run: tuple[Span, ...]) -> Tensor:
    """The same for several responses at once: a key is seen from later tokens of its own response."""
    owner = torch.cat([torch.full((b - a,), index) for index, (a, b) in enumerate(run)])
    seen = (owner.unsqueeze(1) == owner).tril()
    return torch.zeros(len(owner), len(owner)).masked_fill(~seen, -math.inf)


def _relative(run: tuple[Span, ...]) -> tuple[Span, ...]:
    return tuple((a - run[0][0], b - run[0][0]) for a, b in run)


def _by_response(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    scale: float,
    softcap: float | None,
    window: int | None,
    dropout: float,
) -> Tensor:
    """One call a prompt and one a response, over the prompt's keys and its own; differentiable."""
    pieces: list[Tensor] = []
    for spans in layout.groups:
        start = spans.prompt[0]
        for at, run in _runs(spans, single=True):
            ((a, b),) = run
            k, v = (torch.cat([tensor[:, :, start : start + at], tensor[:, :, a:b]], dim=2) for tensor in (key, value))
            pieces.append(_attention(query[:, :, a:b], k, v, scale, softcap, window, dropout))
    return torch.cat(pieces, dim=2).transpose(1, 2)


def _attention(
    query: Tensor, key: Tensor, value: Tensor, scale: float, softcap: float | None, window: int | None, dropout: float
) -> Tensor:
    """The queries are the last of the keys' positions."""
    n, width = query.shape[2], key.shape[2]
    grouped = query.shape[1] != key.shape[1]
    if softcap is None and window is None:
        bias: Any = causal_lower_right(n, width) if n < width else None
        return functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=bias,
            dropout_p=dropout,
            is_causal=bias is None,
            scale=scale,
            enable_gqa=grouped,
        )
    if grouped:
        key, value = (tensor.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for tensor in (key, value))
    scores = (query.float() @ key.float().transpose(-1, -2)) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    hidden = _hidden(n, window, width).to(scores.device)
    scores = scores + functional.pad(hidden, (width - hidden.shape[1], 0))
    weights = functional.dropout(scores.softmax(-1), dropout)
    return weights.to(value.dtype) @ value


def _flex(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float, softcap: float | None, window: int | None
) -> Tensor:
    """All groups in one kernel that skips blocks in which nobody sees anybody."""
    from torch.nn.attention.flex_attention import flex_attention

    def cap(score: Tensor, *_: Tensor) -> Tensor:
        assert softcap is not None
        return softcap * torch.tanh(score / softcap)

    compiled = _compiled(flex_attention) if query.is_cuda else flex_attention
    output = compiled(
        query,
        key,
        value,
        score_mod=None if softcap is None else cap,
        block_mask=_block_mask(layout, window, query.device),
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output.transpose(1, 2)


@lru_cache(maxsize=4)  # the layers of one pack share it
def _block_mask(layout: Layout, window: int | None, device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    group, response, position = (tensor.to(device) for tensor in layout.owners)

    def seen(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        own = (group[q] == group[k]) & ((response[k] == response[q]) | (response[k] == 0)) & (k <= q)
        return own if window is None else own & (position[q] - position[k] < window)

    create = _compiled(create_block_mask) if device.type == "cuda" else create_block_mask
    return create(seen, None, None, layout.n_tokens, layout.n_tokens, device=device)


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True)


@cache
def _flex_works() -> bool:
    """Whether FlexAttention compiles on this machine: tried once, on a small pack."""
    layout = Layout(groups=(GroupSpans(prompt=(0, 3), runs=(((3, 8),),)),), n_tokens=8)
    try:
        query, key, value = (torch.zeros(1, 2, 8, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3))
        _flex(query, key, value, layout, 1.0, None, None)
    except Exception:  # whatever a compiler may raise: the other way gives the same numbers
        return False
    return True
