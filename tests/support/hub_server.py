"""A hub on the loopback that takes a push: creates, says how each file is to come, and keeps what was committed."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(slots=True)
class Hub:
    """The running hub: what was asked, by whom, and the files of the commit."""

    url: str
    refuse: int | None = None
    requests: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    created: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    message: str = ""


@contextmanager
def hub_server() -> Iterator[Hub]:
    """Serve until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            hub.tokens.add(self.headers.get("authorization"))
            if self.path == "/api/repos/create":
                asked = json.loads(body)
                hub.created.append(asked)
                kind = "datasets/" if asked.get("type") == "dataset" else ""
                self.answer({"url": f"https://huggingface.co/{kind}{asked.get('organization', 'me')}/{asked['name']}"})
            elif "/preupload/" in self.path:
                names = [file["path"] for file in json.loads(body)["files"]]
                modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
                self.answer({"files": modes})
            elif "/commit/" in self.path:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "header":
                        hub.message = line["value"]["summary"]
                    else:
                        hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                where = self.path.removeprefix("/api/").removeprefix("models/").partition("/commit/")[0]
                url = f"https://huggingface.co/{where}/commit/{'a' * 40}"
                self.answer({"commitUrl": url, "commitOid": "a" * 40, "success": True})
            else:
                self.answer({"errors": [], "warnings": []})

        def answer(self, body: dict[str, Any]) -> None:
            hub.requests.append((self.command, self.path))
            content = json.dumps({"error": "no"} if hub.refuse else body).encode()
            self.send_response(hub.refuse or 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub = Hub(url=f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
