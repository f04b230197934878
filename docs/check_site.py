"""Every link of the built site leads somewhere, and no page asks the network anything; run by `make docs`.

Links within the site must lead to a file and, where they name one, to an anchor in it. Links to elsewhere are looked at
only: there may be no network where the site is built. What a browser loads by itself must lie in the site.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


class Page(HTMLParser):
    """The anchors of a page, where it links to, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = {""}
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := said.get(name))}
        if tag == "a" and said.get("href"):
            self.links.append(said["href"] or "")
        is_loaded = tag != "link" or said.get("rel") not in ("canonical", "next", "prev")
        if is_loaded and (source := said.get(LOADED.get(tag, ""))):
            self.loads.append(source)


def faults(site: Path) -> list[str]:
    """What is wrong, a line each."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    found = [] if pages else [f"{site}: no pages"]
    for path, page in pages.items():
        if path.name == "404.html":  # for servers: its links begin at their root
            continue
        for link in [*page.links, *page.loads]:
            address, anchor = urldefrag(link)
            parts = urlparse(address)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            if parts.scheme or parts.netloc:
                if link in page.loads or parts.scheme not in ("https", "http", "mailto") or not parts.netloc:
                    found.append(f"{path}: {link} is loaded from elsewhere, or is no address")
            elif not target.is_file():
                found.append(f"{path}: {link} leads nowhere")
            elif target in pages and unquote(anchor) not in pages[target].anchors:
                found.append(f"{path}: {link}: no such anchor")
    return found


if __name__ == "__main__":
    said = faults(Path(sys.argv[1]).resolve())
    print("\n".join(said) or "every link of the site leads somewhere")
    sys.exit(bool(said))
