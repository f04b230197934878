"""A report as one HTML file that asks the network for nothing.

All text is escaped by the template engine, after `visible` has shown what could steer a page's direction; groups reach
the page as JSON, which its script puts there as text. A content-security policy lets nothing run but that one script
and lets nothing be loaded.
"""

import base64
import hashlib
import json
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from crossward.core.plain_text import visible
from crossward.engines.charts import Chart, svg
from crossward.pipeline.report.blocks import Block, Browser, Report
from crossward.pipeline.report.tables import cell


def page(report: Report) -> str:
    """The HTML of a report."""
    from crossward import __version__

    files = resources.files("crossward") / "templates" / "report"
    script, style = ((files / name).read_text(encoding="utf-8") for name in ("report.js", "report.css"))
    template = _environment().from_string((files / "report.html.j2").read_text(encoding="utf-8"))
    blocks = [block for section in report.sections for block in section.blocks]
    groups = [group for block in blocks if isinstance(block, Browser) for group in block.groups]
    return template.render(
        report=report,
        kind_of=_kind_of,
        drawn=_drawn,
        script=Markup(script),
        style=Markup(style),
        script_hash=_source_hash(script),
        style_hash=_source_hash(style),
        groups=Markup(json_in_page(groups)),
        version=__version__,
    )


def json_in_page(value: Any) -> str:
    """JSON that can stand in a script element whatever it holds: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    environment.filters["cell"] = cell
    return environment


def _drawn(chart: Chart) -> Markup:
    """The chart's SVG; Vega escapes the text in it, and the policy of the page lets no script in it run."""
    return Markup(svg(chart))


def _kind_of(block: Block) -> str:
    return type(block).__name__


def _source_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
