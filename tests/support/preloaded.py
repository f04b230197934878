"""Imports what a run imports, so that a child that is forked after it does not. Starts no thread."""

# ruff: noqa: F401
import gc

import anyio._backends._asyncio
import httpx
import transformers.models.qwen2.modeling_qwen2

import crossward.cli
import crossward.config
import crossward.engines.chat_translator
import crossward.engines.hf_sampler
import crossward.engines.hf_scorer
import crossward.engines.lingua_identifier
import crossward.engines.openai_judge
import crossward.engines.published_scorer
import crossward.engines.trl_trainer
import crossward.pipeline.iterate
import crossward.pipeline.report.write

gc.collect()
gc.freeze()  # what is imported stays: a child's collector need not look at it again
