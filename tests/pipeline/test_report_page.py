"""The report as a page: every part in its place, text of strangers as text. In a browser: test_report_browser.py."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.support.report_runs import HOSTILE, WORDS, make_run

from crossward.core.plain_text import visible
from crossward.pipeline.concerns import look_at
from crossward.pipeline.report.blocks import Report, Section, Words
from crossward.pipeline.report.browse import LONGEST_TEXT, Browsed
from crossward.pipeline.report.headline import verdicts
from crossward.pipeline.report.markdown import markdown
from crossward.pipeline.report.page import json_in_page, page
from crossward.pipeline.report.pairs import _near
from crossward.pipeline.report.sections import report_of
from crossward.pipeline.report.slices import slices
from crossward.pipeline.report.write import compare, report_again
from crossward.store.run_dir import RunDir


class Tags(HTMLParser):
    """Every tag with its attributes, and the text of scripts by type."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self._inside: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = (dict(attrs).get("type") or "script") if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[self._inside] = self.scripts.get(self._inside, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._inside = None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return make_run(tmp_path_factory.mktemp("page") / "run", long_text=1_000_000)[0]


@pytest.fixture(scope="module")
def html(run: RunDir) -> str:
    return report_again(run.root)[0].read_text(encoding="utf-8")


def parsed(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    return tags


def test_every_part_is_there(html: str):
    anchors = [attributes["id"] for tag, attributes in parsed(html).found if tag == "section"]
    assert anchors == [
        "headline",
        "win-rates",
        "english-guard",
        "reward-accuracy",
        "distributions",
        "length",
        "skips",
        "answers",
        "languages",
        "training",
        "pairs",
        "iteration-1",
        "iteration-2",
        "time",
        "provenance",
    ]


def test_the_page_holds_two_scripts_one_style_and_nothing_that_loads(html: str):
    tags = parsed(html)
    assert [attributes.get("type") for tag, attributes in tags.found if tag == "script"] == ["application/json", None]
    assert not {tag for tag, _ in tags.found} & {"img", "link", "iframe", "object", "embed", "audio", "video", "base"}
    for tag, attributes in tags.found:
        assert not [name for name in attributes if name.startswith("on") or name == "style" or name == "src"], tag
        assert (attributes.get("href") or "#").startswith("#"), "links lead to places in the page alone"
    (policy,) = [a["content"] for tag, a in tags.found if tag == "meta" and a.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


def test_groups_come_back_from_the_page_as_they_are(html: str, run: RunDir):
    groups = json.loads(parsed(html).scripts["application/json"])
    assert len(groups) == 2 * len(WORDS) * 12
    first = next(group for group in groups if group["l"] == "ar" and group["i"] == 1)
    assert first["p"] == visible(f"{WORDS['ar']} 0? {HOSTILE[0]}")
    assert first["u"] == "Please answer in ar."
    assert [response["s"] for response in first["r"]] == sorted((r["s"] for r in first["r"]), reverse=True)
    assert {response.get("k") for response in first["r"]} == {None, "chosen", "rejected"}
    assert first["r"][0]["g"][-1][0] == "", "the end of turn is a token without text"
    long = max((r["t"] for group in groups for r in group["r"]), key=len)
    assert long.endswith(f"[…{1_000_000 - LONGEST_TEXT} more characters]")
    assert len(html) < 2_000_000


def test_no_steering_character_is_anywhere(html: str, run: RunDir):
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f\x80-\x9f\u2028]", html)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x1b]", run.markdown.read_text(encoding="utf-8"))


def test_json_cannot_end_its_element():
    value = [*HOSTILE, "</script>", "<!--", {"<": "&"}]
    text = json_in_page(value)
    assert not set("<>&") & set(text)
    assert json.loads(text) == value


def test_markdown_of_strangers_holds_no_tag(run: RunDir):
    text = markdown(report_of(*_opened(run), look_at(*_opened(run))))
    outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert "<" not in outside.replace("&lt;", "")


def test_what_does_not_fit_is_drawn_by_lot_and_told(run: RunDir):
    found = list(slices(run, 2))
    browsed = Browsed(len(found), room_bytes=30_000)
    for part in found:
        browsed.add(part, {})
    there = {(group["l"], group["i"]) for group in browsed.groups}
    assert len(there) == 6, "every language and iteration has its share"
    assert 6 <= len(browsed.groups) < 72
    assert f"{len(browsed.groups)} of 72 groups are here" in browsed.note(whole=True)
    assert "of the first 72 groups" in browsed.note(whole=False)
    assert len(json.dumps(browsed.groups, ensure_ascii=False).encode()) < 31_000


def test_several_runs_stand_side_by_side(run: RunDir, tmp_path: Path):
    other, _ = make_run(tmp_path / "other", prompts=3)
    path = compare([run.root, other.root], tmp_path / "both.html")
    html = path.read_text(encoding="utf-8")
    assert "other · run" not in html
    assert '<h1 dir="auto">run · other</h1>' in html
    assert "run: π_2: win rate" in html
    assert "other: π_2: win rate" in html
    with pytest.raises(ValueError, match="comes twice: name each run once"):
        compare([run.root, run.root])


def test_a_report_of_words_alone_is_a_page_too():
    section = Section(anchor="a", title="<i>t</i>", blocks=(Words(text="1 < 2 \u202e", tone="good"),))
    html = page(Report(title="<b>", sections=(section,)))
    assert "&lt;i&gt;t&lt;/i&gt;" in html
    assert "1 &lt; 2 \\u202e" in html


def _opened(run: RunDir):
    from crossward.pipeline.run_state import open_run

    return open_run(run.root)


def test_a_training_that_broke_is_told_and_still_drawn(tmp_path: Path):
    directory, _ = make_run(tmp_path / "run", prompts=2)
    metrics = directory.iteration(2).stage("train").metrics
    lines = ['{"step": 1, "loss": 1.0}', '{"step": 2, "loss": NaN, "dpo_loss": Infinity}', '{"step": "x"}', "[]", "5"]
    metrics.write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\n")
    html = report_again(directory.root)[0].read_text(encoding="utf-8")
    assert "Iteration 2: not a number in some steps: dpo_loss, loss." in html


def test_a_headline_never_calls_a_raw_rate_length_controlled(tmp_path: Path):
    directory, _ = make_run(tmp_path / "run", prompts=2)
    rates = json.loads(directory.evaluation.read_text(encoding="utf-8"))
    for apart in rates["differences"]:
        if apart["language"] == "ar":  # one language alone could be controlled
            apart |= {"lc_win_rate": 30.0, "lc_interval": [20.0, 40.0], "lc_p": 0.01}
    directory.evaluation.write_text(json.dumps(rates), encoding="utf-8")
    told = [words.text for words in verdicts(directory)]
    assert told
    assert not any("length-controlled" in text for text in told)


def test_iterations_that_the_recipe_no_longer_has_are_not_shown(tmp_path: Path):
    directory, config = make_run(tmp_path / "run", prompts=2)
    fewer = config.model_copy(update={"iterations": 1})
    report = report_of(directory, fewer, look_at(directory, fewer))
    text = markdown(report)
    assert "Prompts of iteration 1" in text
    for second in ("## Iteration 2", "Prompts of iteration 2", "| iteration 2, crosslingual", "iteration-2/train"):
        assert second not in text


def test_runs_with_nothing_in_common_need_a_place_for_their_page(run: RunDir, monkeypatch: pytest.MonkeyPatch):
    apart = [(RunDir(Path("/a/run")), None), (RunDir(Path("/b/run")), None)]
    monkeypatch.setattr("crossward.pipeline.report.write.open_run", lambda path: apart.pop())
    monkeypatch.setattr("crossward.pipeline.report.write.concerns_of", lambda directory, config: [])
    with pytest.raises(ValueError, match="no folder in common but the root"):
        compare([Path("/a/run"), Path("/b/run")])


def test_a_curve_that_is_thinned_keeps_zero_and_alpha():
    curve = [(k / 100, 500.0 - k) for k in range(-500, 501)]
    near = _near(curve, 2.0)
    assert {0.0, 2.0} <= {at for at, _ in near}
    assert len(near) < 200
    assert near[0][0] < -1.9, "as far on this side of α as on the other, twice α away"
    assert near[-1][0] > 4.9
    assert near == sorted(near)
    assert _near([], 0.0) == []
