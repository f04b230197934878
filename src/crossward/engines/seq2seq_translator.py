"""Translating with an encoder-decoder model (NLLB, M2M-100, MADLAD, Marian, T5), line by line.

Such models take sentences, so a text is cut at its lines and long lines at their sentences; code blocks pass
untouched. Greedy or with beams; attempts after the first draw every token by a seed of (attempt, piece). Also the
likelihood of a given translation, which some use as a reward (MAPO, arXiv 2401.06838). Opened when first asked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, GenerationConfig, LogitsProcessorList, PreTrainedModel

from crossward.core.seeds import derive_seed
from crossward.core.text_pieces import Piece, pieces_of, put_together
from crossward.core.translation import Translation
from crossward.engines.hf_sampler import InverseCdf
from crossward.engines.models import DTYPES, in_portions, max_positions, resolve_device
from crossward.engines.protocols import Advance, ModelSpec, no_progress
from crossward.engines.seq2seq_tokens import Seq2SeqTokens, load_seq2seq_tokens, seq2seq_config

PIECE_TOKENS = 128  # of a line, before it is cut at its sentences: these models are trained on sentences
MOST_NEW_TOKENS = 512  # of a piece
RETRY_TEMPERATURE, RETRY_TOP_P = 0.7, 0.95
LOGITS_BYTES = 2**29  # of a batch whose likelihood is computed

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A piece to translate, or a pair to score: the encoder's ids, what the decoder begins with, the labels, a seed."""

    source: Ids
    begin: Ids
    labels: Ids = ()
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    model: PreTrainedModel
    tokens: Seq2SeqTokens
    start: int
    positions: int | None  # None: as many as one likes (relative positions)


class Seq2SeqTranslator:
    """protocols.Translator over one model, `batch_rows` pieces at a time; `beams` 1 is greedy."""

    def __init__(
        self,
        spec: ModelSpec,
        *,
        name: str,
        identity: str,
        max_new_tokens: int = MOST_NEW_TOKENS,
        beams: int = 1,
        batch_rows: int = 64,
        seed: int = 42,
    ) -> None:
        self.name = name
        self.identity = identity
        self._spec = spec
        self._max_new_tokens = min(max_new_tokens, MOST_NEW_TOKENS)
        self._beams = beams
        self._batch_rows = batch_rows
        self._seed = seed
        self._loaded: _Loaded | None = None

    def translate(
        self, texts: Sequence[str], *, source: str, target: str, attempt: int = 0, advance: Advance = no_progress
    ) -> list[Translation]:
        """Each text in another language, or why not, in their order."""
        loaded = self._open()
        tokens = loaded.tokens
        tokens.require(source, target)
        begin = (loaded.start, *tokens.target_prefix(target))
        new_tokens = self._max_new_tokens
        if loaded.positions is not None:
            new_tokens = min(new_tokens, loaded.positions - len(begin))

        def source_ids(piece: str) -> Ids:
            return tokens.source_ids(piece, source=source, target=target)

        cut = [pieces_of(text, limit=PIECE_TOKENS, length=lambda piece: len(source_ids(piece))) for text in texts]
        rows = {
            piece.text: _Row(
                source=source_ids(piece.text),
                begin=begin,
                seed=derive_seed(self._seed, "translate", source, target, attempt, piece.text),
            )
            for pieces in cut
            for piece in pieces
            if not piece.verbatim
        }
        too_long = {text for text, row in rows.items() if loaded.positions and len(row.source) > loaded.positions}
        wanted = {text: row for text, row in rows.items() if text not in too_long}
        told = _Told(cut, wanted, advance)
        made: dict[str, tuple[str, bool]] = {}  # the text, and whether it ended
        for batch in self._batches(wanted):
            found = in_portions(
                [wanted[text] for text in batch],
                lambda part: self._generate(loaded, part, new_tokens, attempt),
                describe=lambda row: f"{len(row.source)} tokens to translate",
            )
            made |= {
                text: (tokens.decode(ids), ids[-1:] == (tokens.eos_id,)) for text, ids in zip(batch, found, strict=True)
            }
            told.add(batch)
        return [_composed(pieces, made, too_long, target) for pieces in cut]

    def log_likelihood(
        self,
        sources: Sequence[str],
        targets: Sequence[str],
        *,
        source_lang: str,
        target_lang: str,
        advance: Advance = no_progress,
    ) -> list[float | None]:
        """Mean log p(target | source) over the target's own tokens and its end, nats per token.

        (1/T)·Σ_t log p(y_t | y_<t, x), y_T the end of sequence. The language token that the decoder is given is a
        condition, not counted; neither is padding (the published code of MAPO divides by padded positions as well, so
        that a value depends on its batch). None where source or target are longer than the model takes.
        """
        loaded = self._open()
        loaded.tokens.require(source_lang, target_lang)
        begin = (loaded.start, *loaded.tokens.target_prefix(target_lang))
        rows = [
            _Row(
                source=loaded.tokens.source_ids(one, source=source_lang, target=target_lang),
                begin=begin,
                labels=loaded.tokens.target_ids(other),
            )
            for one, other in zip(sources, targets, strict=True)
        ]
        limit = loaded.positions
        fitting = [
            k
            for k, row in enumerate(rows)
            if limit is None or (len(row.source) <= limit and len(begin) + len(row.labels) - 1 <= limit)
        ]
        values: list[float | None] = [None] * len(rows)
        advance(len(rows) - len(fitting))
        vocabulary = int(loaded.model.config.get_text_config(decoder=True).vocab_size)
        for batch in _by_length(fitting, rows, LOGITS_BYTES // (4 * vocabulary), self._batch_rows):
            found = in_portions(
                [rows[k] for k in batch],
                lambda part: _means(loaded, part),
                describe=lambda row: f"{len(row.source)} source and {len(row.labels)} target tokens",
            )
            for k, value in zip(batch, found, strict=True):
                values[k] = value
            advance(len(batch))
        return values

    def close(self) -> None:
        """Give the model's memory back."""
        self._loaded = None

    def _open(self) -> _Loaded:
        if self._loaded is None:
            self._loaded = _load(self._spec)
        return self._loaded

    def _batches(self, rows: dict[str, _Row]) -> Iterator[list[str]]:
        """Pieces of like length together, the longest first."""
        ordered = sorted(rows, key=lambda text: -len(rows[text].source))
        for start in range(0, len(ordered), self._batch_rows):
            yield ordered[start : start + self._batch_rows]

    @torch.inference_mode()
    def _generate(self, loaded: _Loaded, rows: Sequence[_Row], new_tokens: int, attempt: int) -> list[Ids]:
        """The decoder's own ids of each row, the end included where there is one."""
        model, tokens = loaded.model, loaded.tokens
        begin = torch.tensor([row.begin for row in rows], device=model.device)
        processors = LogitsProcessorList()
        if attempt:
            draws = [
                torch.rand(new_tokens, generator=torch.Generator().manual_seed(row.seed), dtype=torch.float64)
                for row in rows
            ]
            uniforms = torch.stack(draws).to(model.device)
            processors.append(
                InverseCdf(uniforms, temperature=RETRY_TEMPERATURE, top_p=RETRY_TOP_P, prompt_width=begin.shape[1])
            )
        output = model.generate(  # pyright: ignore[reportCallIssue]
            **_padded_sources(rows, tokens.pad_id, model.device),
            decoder_input_ids=begin,
            generation_config=GenerationConfig(
                do_sample=False,
                num_beams=1 if attempt else self._beams,
                max_new_tokens=new_tokens,
                eos_token_id=tokens.eos_id,
                pad_token_id=tokens.pad_id,
                decoder_start_token_id=loaded.start,
                suppress_tokens=[tokens.pad_id],  # Marian gives padding a chance of its own
                use_cache=True,
            ),
            logits_processor=processors,
        )
        made = cast(Tensor, output)[:, begin.shape[1] :].tolist()
        return [tuple(ids[: ids.index(tokens.eos_id) + 1] if tokens.eos_id in ids else ids) for ids in made]


class _Told:
    """Tells of a text when the last of its pieces is translated."""

    def __init__(self, cut: Sequence[Sequence[Piece]], wanted: dict[str, _Row], advance: Advance) -> None:
        self._advance = advance
        self._left = [{piece.text for piece in pieces if piece.text in wanted} for pieces in cut]
        self.add([])

    def add(self, pieces: Sequence[str]) -> None:
        done = set(pieces)
        for left in self._left:
            left -= done
        waiting = [left for left in self._left if left]
        self._advance(len(self._left) - len(waiting))
        self._left = waiting


def _composed(
    pieces: Sequence[Piece], made: dict[str, tuple[str, bool]], too_long: set[str], target: str
) -> Translation:
    """A text of its pieces, or the reason of the first that has none."""
    own = [piece.text for piece in pieces if not piece.verbatim]
    if any(text in too_long for text in own):
        return Translation(text=None, problem="too-long")
    draft = put_together(pieces, {text: made[text][0] for text in own}, target=target)
    if not all(made[text][1] for text in own):
        return Translation(text=None, problem="truncated", draft=draft)
    if not all(made[text][0] for text in own):
        return Translation(text=None, problem="empty", draft=draft)
    return Translation(text=draft)


@torch.inference_mode()
def _means(loaded: _Loaded, rows: Sequence[_Row]) -> list[float]:
    """The mean log-probability of each row's labels; right padding, which nothing before it sees."""
    model, pad = loaded.model, loaded.tokens.pad_id
    given = [(*row.begin, *row.labels)[:-1] for row in rows]
    width = max(map(len, given))
    decoder = torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids in given], device=model.device)
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in given], device=model.device)
    logits = model(
        **_padded_sources(rows, pad, model.device), decoder_input_ids=decoder, decoder_attention_mask=mask
    ).logits
    means = []
    for row, own in zip(rows, logits, strict=True):
        first = len(row.begin) - 1  # the position that predicts the first label
        scores = own[first : first + len(row.labels)].float()  # [labels, vocabulary]
        labels = torch.tensor(row.labels, device=scores.device)
        logprobs = scores.gather(-1, labels.unsqueeze(-1)).squeeze(-1) - scores.logsumexp(-1)
        means.append(float(logprobs.double().mean()))
    return means


def _padded_sources(rows: Sequence[_Row], pad: int, device: torch.device) -> dict[str, Tensor]:
    width = max(len(row.source) for row in rows)
    ids = torch.tensor([[*row.source, *[pad] * (width - len(row.source))] for row in rows], device=device)
    lengths = torch.tensor([[len(row.source)] for row in rows], device=device)
    return {"input_ids": ids, "attention_mask": (torch.arange(width, device=device) < lengths).long()}


def _by_length(places: Sequence[int], rows: Sequence[_Row], tokens: int, most: int) -> Iterator[list[int]]:
    """Rows of like length together, as many as have `tokens` target tokens with padding, at most `most`."""
    batch: list[int] = []
    for k in sorted(places, key=lambda k: -len(rows[k].labels)):
        longest = len(rows[(batch or [k])[0]].labels) + len(rows[k].begin)
        if batch and (len(batch) == most or longest * (len(batch) + 1) > tokens):
            yield batch
            batch = []
        batch.append(k)
    if batch:
        yield batch


def _load(spec: ModelSpec) -> _Loaded:
    """Raises ValueError where the checkpoint is no whole encoder-decoder model with a tokenizer."""
    config = seq2seq_config(spec)
    try:
        loaded = AutoModelForSeq2SeqLM.from_pretrained(
            spec.path,
            config=config,
            revision=spec.revision,
            dtype=DTYPES[spec.dtype],
            trust_remote_code=spec.trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"model {spec.path} cannot be loaded from safetensors: {first}") from None
    model, info = cast(tuple[PreTrainedModel, dict[str, set[str]]], loaded)
    if missing := sorted(info["missing_keys"]):
        raise ValueError(f"model {spec.path} lacks {len(missing)} of its weights (first: {missing[0]}): save it whole")
    settings = model.generation_config.to_dict() if model.generation_config is not None else {}
    start = settings.get("decoder_start_token_id", config.to_dict().get("decoder_start_token_id"))
    if not isinstance(start, int):
        raise ValueError(f"model {spec.path} does not say what its decoder begins with (decoder_start_token_id)")
    model.generation_config = GenerationConfig()  # its own penalties and lengths must not leak in
    model = model.to(resolve_device(spec.device)).eval()  # pyright: ignore[reportArgumentType, reportCallIssue]
    return _Loaded(
        model=model.requires_grad_(False),
        tokens=load_seq2seq_tokens(spec, config),
        start=start,
        positions=max_positions(config),
    )
