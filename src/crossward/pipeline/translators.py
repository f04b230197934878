"""From plain settings to a translator: a chat model in this process or behind a server, or a translation model.

What decides the words (weights, wording, decoding) becomes the translator's identity, under which translations are
kept from one process to the next. No model is opened before the first text is there.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from crossward.core.records import SampledPrompt
from crossward.core.translation import TranslationTemplate, parse_template
from crossward.engines.endpoint import Endpoint, require_endpoint
from crossward.engines.models import base_spec, max_positions, model_fingerprint, read_config, settle
from crossward.engines.protocols import KeptRows, ModelSpec, Sampler, Translator, VllmOptions
from crossward.engines.seq2seq_tokens import require_seq2seq
from crossward.engines.tokens import ChatTokens, load_tokens
from crossward.pipeline.choose import local_sampler, require_chat_model, require_engine, resolved
from crossward.pipeline.progress import SILENT, Progress
from crossward.store import edges

Engine = Literal["auto", "transformers", "vllm", "openai", "seq2seq"]
TEMPLATES = ("default", "plain")  # the package's own, by name


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslatorSettings:
    """Who translates and how: a `model` (folder or hub name), or with the engine openai an `endpoint`.

    `engine` auto: seq2seq for an encoder-decoder model; for a chat model vLLM where it is installed for the device,
    else transformers. `template`: a file, or the name of one of ours (TEMPLATES). `attempts`: how often a text is
    asked for until it has no problem; the first is greedy. `max_new_tokens` of one translation: at most half of the
    model's positions (paper: 8,192). `beams` is for seq2seq.
    """

    engine: Engine = "auto"
    model: ModelSpec | None = None
    endpoint: Endpoint | None = None
    template: Path | None = None
    parse: Literal["auto", "tags", "plain"] = "auto"
    max_new_tokens: int = 8192
    attempts: int = 3
    seed: int = 42
    batch_rows: int = 64
    beams: int = 1
    vllm: VllmOptions = field(default_factory=VllmOptions)

    def __post_init__(self) -> None:
        if (self.engine == "openai") != (self.endpoint is not None):
            raise ValueError("a translator behind a server needs both the engine openai and the server's address")
        if (self.model is None) == (self.endpoint is None):
            raise ValueError("name one translator: a model's folder or hub name, or a server (engine openai)")
        for name, least in (("max_new_tokens", 1), ("attempts", 1), ("batch_rows", 1), ("beams", 1)):
            if (value := asdict(self)[name]) < least:
                raise ValueError(f"a translator's {name} must be {least} or more, got {value}")

    @property
    def name(self) -> str:
        """Who translates, for people."""
        if self.endpoint is not None:
            return self.endpoint.model
        assert self.model is not None
        return self.model.path

    def resolved_engine(self) -> str:
        """The engine itself. Raises ValueError where the model cannot be read or the engine is not there."""
        if self.endpoint is not None:
            return "openai"
        assert self.model is not None
        if self.engine in ("auto", "seq2seq") and read_config(base_spec(self.model)).is_encoder_decoder:
            return "seq2seq"
        if self.engine == "seq2seq":
            raise ValueError(
                f"model {self.model.path} is no encoder-decoder: leave out the engine seq2seq, it is asked in words"
            )
        return require_engine(resolved(self.engine, self.model), self.model.device)

    def require(self, pairs: Iterable[tuple[str, str]] = ()) -> str:
        """The engine itself; raises ValueError for what would fail at the first text of these pairs (from, into).

        No weights are read and no server is asked.
        """
        engine = self.resolved_engine()
        if self.endpoint is not None:
            require_endpoint(self.endpoint)
        elif self.model is not None and engine == "seq2seq":
            require_no_words(self.template)
            require_seq2seq(self.model, pairs)
        elif self.model is not None:
            require_chat_model(self.model)
        if engine != "seq2seq":
            read_translation_template(self.template, parse=self.parse)
        return engine


def require_no_words(template: Path | None) -> None:
    """Raise ValueError where a template is given beside a translation model, which has no use for one."""
    if template is not None:
        raise ValueError(
            f"a translation model is asked in no words: leave out the template {template}, or name a chat model"
        )


def read_translation_template(
    path: Path | None, *, parse: Literal["auto", "tags", "plain"] = "auto"
) -> TranslationTemplate:
    """The template of a file or of one of TEMPLATES. ValueError where it cannot be read or lacks a field."""
    name = "default" if path is None else str(path)
    if name in TEMPLATES:
        text = (resources.files("crossward") / "templates" / "translation" / f"{name}.txt").read_text(encoding="utf-8")
        return parse_template(text, name, parse=parse)
    try:
        text = Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"template {name} cannot be read as a UTF-8 text file ({error}): name a file, or one of ours "
            f"({', '.join(TEMPLATES)})"
        ) from None
    return parse_template(text, name, parse=parse)


def open_translator(
    settings: TranslatorSettings, *, kept: KeptRows | None = None, progress: Progress = SILENT
) -> Translator:
    """The translator. What a server says is kept in `kept`, answer by answer, if it is given."""
    settle()
    match settings.resolved_engine():
        case "openai":
            return _served(settings, kept, progress)
        case "seq2seq":
            return _seq2seq(settings)
        case engine:
            return _local(settings, engine)


def _served(settings: TranslatorSettings, kept: KeptRows | None, progress: Progress) -> Translator:
    from crossward.engines.chat_translator import ChatTranslator
    from crossward.engines.openai_sampler import OpenAiSampler

    endpoint = settings.endpoint
    assert endpoint is not None
    require_endpoint(endpoint)  # what would fail later
    answers = None if kept is None else _KeptAnswers(kept)
    return ChatTranslator(
        lambda: OpenAiSampler(endpoint, None, kept=answers, say=progress.say),
        template := read_translation_template(settings.template, parse=settings.parse),
        name=settings.name,
        identity=_identity(settings, "openai", endpoint.model, asdict(template), settings.max_new_tokens),
        max_new_tokens=settings.max_new_tokens,
        seed=settings.seed,
    )


def _seq2seq(settings: TranslatorSettings) -> Translator:
    from crossward.engines.seq2seq_translator import Seq2SeqTranslator

    require_no_words(settings.template)
    assert settings.model is not None
    return Seq2SeqTranslator(
        settings.model,
        name=settings.name,
        identity=_identity(settings, "seq2seq", *_weights(settings.model), settings.max_new_tokens, settings.beams),
        max_new_tokens=settings.max_new_tokens,
        beams=settings.beams,
        batch_rows=settings.batch_rows,
        seed=settings.seed,
    )


def _local(settings: TranslatorSettings, engine: str) -> Translator:
    from crossward.engines.chat_translator import ChatTranslator

    spec = settings.model
    assert spec is not None
    template = read_translation_template(settings.template, parse=settings.parse)
    positions = max_positions(read_config(base_spec(spec)))
    new_tokens = settings.max_new_tokens
    if positions is not None:
        new_tokens = max(1, min(new_tokens, positions // 2))

    @cache
    def tokens() -> ChatTokens:
        return load_tokens(spec)

    def opened() -> Sampler:
        return local_sampler(engine, spec, tokens(), batch_rows=settings.batch_rows, options=settings.vllm)

    return ChatTranslator(
        opened,
        template,
        name=settings.name,
        identity=_identity(settings, engine, *_weights(spec), asdict(template), new_tokens),
        max_new_tokens=new_tokens,
        seed=settings.seed,
        fits=_room(tokens, positions, new_tokens),
    )


def _room(tokens: Callable[[], ChatTokens], positions: int | None, new_tokens: int) -> Callable[[str], bool]:
    def fits(request: str) -> bool:
        return positions is None or len(tokens().prompt_ids(request)) + new_tokens <= positions

    return fits


def _weights(spec: ModelSpec) -> tuple[str, str]:
    return model_fingerprint(spec), spec.dtype


def _identity(settings: TranslatorSettings, *decides: Any) -> str:
    """All that decides the words, as a hash; a server's address is not in it, so that the server may move."""
    return hashlib.sha256(json.dumps([settings.seed, *decides], sort_keys=True).encode()).hexdigest()


class _KeptAnswers:
    """protocols.Kept over rows, beside whatever else is kept there."""

    def __init__(self, rows: KeptRows) -> None:
        self._rows = rows

    def get(self, key: str) -> SampledPrompt | None:
        row = self._rows.get(f"answer {key}")
        return None if row is None else edges.group_of(row, f"a kept answer ({key[:12]})", twin_needed=False)

    def put(self, key: str, group: SampledPrompt) -> None:
        self._rows.put(f"answer {key}", edges.group_row(group))

    def close(self) -> None:
        """The rows are closed by whoever opened them."""
