"""Stand-alone sampling and scoring: killed at any window and run again they give the bytes of an undisturbed call.

The work is done in forked children, so that many kills cost one import of torch.
"""

import multiprocessing
import os
import random
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.chat_server import Reply, Request, chat_server, obliging
from tests.support.families import make_family

from crossward.core.records import FinishReason, Prompt, Response, SampledPrompt
from crossward.engines.endpoint import Endpoint
from crossward.engines.protocols import ModelSpec, Sampling
from crossward.pipeline.progress import Silent
from crossward.pipeline.resumable import sample_file, score_file
from crossward.store import edges
from crossward.store.journal import Journal
from crossward.store.json_lines import encode_row
from crossward.store.noise_file import noise_file

WORDS = ("Hola", "Manzana", "la", "mar", "the", "thing", "Ho")
Verb = Callable[[Path], dict[str, Any]]
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


class Heard(Silent):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def prompt(i: int) -> Prompt:
    return Prompt(id=f"p{i}", language="es", instruction=f"Di {WORDS[i % 7]} {i}.", english_instruction=f"Say {i}.")


def spec(folder: Path) -> ModelSpec:
    return ModelSpec(path=str(folder), dtype="float32", device="cpu")


def write_groups(path: Path, n: int) -> Path:
    lot = random.Random(5)
    reasons: tuple[FinishReason, ...] = ("stop", "length")
    edges.write_groups(
        path,
        (
            SampledPrompt(
                prompt=prompt(i),
                responses=tuple(
                    Response(text=" ".join(lot.choices(WORDS, k=lot.randint(1, 9))), finish_reason=lot.choice(reasons))
                    for _ in range(3)
                ),
            )
            for i in range(n)
        ),
    )
    return path


def scoring(folder: Path, progress: Silent | None = None, **changes: Any) -> Verb:
    names = ("policy", "reference")
    models = [spec(make_family("chatml", folder / name, seed=seed)) for seed, name in enumerate(names)]
    path = write_groups(folder / "groups.jsonl", 11)
    settings: dict[str, Any] = {"view": "crosslingual", "compatibility": "none", "batch_tokens": 256, "window": 3}
    settings |= {"policy": models[0], "reference": models[1], "progress": progress or Silent()} | changes
    return lambda output: score_file(path, output, **settings)


def sampling(folder: Path, progress: Silent | None = None, **changes: Any) -> Verb:
    policy = spec(make_family("chatml", folder / "policy"))
    how = Sampling(n=2, temperature=1.0, top_p=1.0, max_new_tokens=12, seed=3)
    settings: dict[str, Any] = {"policy": policy, "sampling": how, "batch_rows": 4, "window": 3}
    settings |= {"progress": progress or Silent()} | changes
    return lambda output: sample_file({"es": [prompt(i) for i in range(11)]}, output, **settings)


def killed_while_writing(verb: Verb, output: Path, window: int, share: float) -> None:
    """Run a verb in a child that is killed when that share of its bytes is written of the window (the first is 0)."""
    append = Journal.append
    appended = 0

    def torn(journal: Journal, rows: Any) -> None:
        nonlocal appended
        if appended == window:
            content = b"".join(encode_row(row, where="") for row in rows)
            assert journal.path is not None
            with journal.path.open("ab") as file:
                file.write(content[: round(share * len(content))])
            os.kill(os.getpid(), signal.SIGKILL)
        appended += 1
        append(journal, rows)

    def work() -> None:
        Journal.append = torn
        verb(output)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("make", [scoring, sampling])
def test_kills_at_any_window_change_no_byte(tmp_path: Path, make: Callable[..., Verb]):
    heard = Heard()
    verb = make(tmp_path, heard)
    expected = verb(tmp_path / "undisturbed.jsonl")
    lot = random.Random(2)
    output = tmp_path / "out.jsonl"
    for _ in range(5):
        for _ in range(3):  # of 4 windows each kill lets one or none get through
            killed_while_writing(verb, output, lot.randint(0, 1), lot.random())
            assert not output.exists()
        heard.lines.clear()
        assert verb(output) == expected
        assert output.read_bytes() == (tmp_path / "undisturbed.jsonl").read_bytes()
        assert not output.with_name("out.jsonl.partial").exists()
        output.unlink()
    assert len(list(tmp_path.glob("*.partial"))) == 0


def test_continuing_and_beginning_anew_are_told(tmp_path: Path):
    heard = Heard()
    output = tmp_path / "out.jsonl"
    verb = scoring(tmp_path, heard)
    killed_while_writing(verb, output, 2, 0.5)
    verb(output)
    continuing, work = heard.lines
    assert continuing == f"continuing: 6 of 11 groups are in {output}.partial"
    assert re.fullmatch(r"\d+ tokens through both models, \d+\.\d% of them padding or repeated .* tokens/s", work)
    heard.lines.clear()
    killed_while_writing(verb, output, 1, 0.0)
    scoring(tmp_path, heard, view="multilingual", batch_tokens=128)(output)
    assert heard.lines[0] == f"{output}.partial was begun with another batch_tokens, view: beginning anew"
    heard.lines.clear()
    killed_while_writing(verb, output, 1, 0.0)
    make_family("chatml", tmp_path / "policy", seed=9)
    verb(output)
    assert heard.lines[0] == f"{output}.partial was begun with another policy: beginning anew"


def test_no_model_is_opened_where_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    output = tmp_path / "out.jsonl"
    verb = scoring(tmp_path)
    monkeypatch.setattr(Journal, "publish", lambda journal: None)  # killed just before
    expected = verb(output)
    monkeypatch.undo()
    monkeypatch.setattr("crossward.pipeline.resumable.local_scorer", None)
    assert verb(output) == expected
    assert len(edges.read_scored(output)) == 11


def test_the_noise_floor_is_written_before_what_is_finished_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    output = tmp_path / "out.jsonl"
    there: list[bool] = []
    monkeypatch.setattr(Journal, "publish", lambda journal: there.append(noise_file(output).exists()))
    scoring(tmp_path, noise=True)(output)
    assert there == [True]


def test_what_is_too_long_or_empty_is_counted(tmp_path: Path):
    verb = scoring(tmp_path)
    groups = [
        SampledPrompt(prompt=prompt(0), responses=tuple(Response(text=t) for t in ("Hola", "x" * 4000, "la", ""))),
        SampledPrompt(prompt=prompt(1), responses=(Response(text="y" * 4000), Response(text=" \n"))),
    ]
    edges.write_groups(tmp_path / "groups.jsonl", groups)
    counts = verb(tmp_path / "out.jsonl")["languages"]["es"]
    assert {key: counts[key] for key in ("prompts", "responses", "too_long", "empty")} == {
        "prompts": 2,
        "responses": 4,
        "too_long": 2,
        "empty": 2,
    }
    assert [len(group.responses) for group in edges.read_scored(tmp_path / "out.jsonl")] == [3, 1]


def test_a_server_that_goes_costs_no_answer_that_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    heard = Heard()
    output = tmp_path / "out.jsonl"
    prompts = {"es": [prompt(i) for i in range(11)]}
    how = Sampling(n=2, temperature=1.0, top_p=1.0, max_new_tokens=12, seed=3)
    left = [6]

    def dying(request: Request, before: int) -> Reply:
        left[0] -= 1
        return obliging(request, before) if left[0] >= 0 else Reply(status=503, body="down")

    with chat_server(dying) as server:
        endpoint = Endpoint(base_url=server.base_url, model="m", attempts=2, first_pause_s=0.01, concurrency=1)

        def verb(output: Path) -> dict[str, Any]:
            return sample_file(
                prompts, output, policy=None, sampling=how, batch_rows=1, endpoint=endpoint, progress=heard
            )

        with pytest.raises(ValueError, match="finished prompts are kept"):
            verb(output)
        assert "HTTP 503: down" in heard.lines[0]
        assert not output.exists()
        left[0], asked = 1000, len(server.requests)
        counts = verb(output)
        assert len(server.requests) - asked == 5
        assert counts == verb(tmp_path / "undisturbed.jsonl")
    assert output.read_bytes() == (tmp_path / "undisturbed.jsonl").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "undisturbed.jsonl"]
