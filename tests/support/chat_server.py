"""A real HTTP server on the loopback that speaks /v1/chat/completions, and misbehaves when it is told to."""

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Request = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What to send: a JSON value, raw text or bytes, after `delay_s`; `drop` closes the connection without an answer.

    `cut` closes it in the midst of one.
    """

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    drop: bool = False
    cut: bool = False


Answer = Callable[[Request, int], Reply]  # the request and how many came before it


def choices(*texts: str | None, reason: str = "stop", **more: Any) -> Reply:
    """A well-formed answer."""
    made = [{"index": i, "message": {"content": text}, "finish_reason": reason, **more} for i, text in enumerate(texts)]
    return Reply(body={"choices": made})


def obliging(request: Request, before: int) -> Reply:
    """As many choices as asked for; their texts tell prompt, seed and index."""
    asked = request["messages"][0]["content"]
    return choices(*(f"{asked} {request['seed']} {index}" for index in range(request["n"])))


@dataclass(slots=True)
class ChatServer:
    """The running server: its address, every request so far, and how many were served at the same time."""

    base_url: str
    requests: list[Request] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    busy: int = 0
    busiest: int = 0


@contextmanager
def chat_server(answer: Answer = obliging, *, tls: Path | None = None) -> Iterator[ChatServer]:
    """Serve until the block ends; over https with the key and certificate in the file `tls`."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                before = len(served.requests)
                served.requests.append(request | {"path": self.path})
                served.authorizations.append(self.headers.get("authorization"))
                served.busy += 1
                served.busiest = max(served.busiest, served.busy)
            try:
                self.send(answer(request, before))
            finally:
                with lock:
                    served.busy -= 1

        def send(self, reply: Reply) -> None:
            time.sleep(reply.delay_s)
            if reply.drop:
                self.close_connection = True
                return
            text = reply.body if isinstance(reply.body, str | bytes) else json.dumps(reply.body)
            content = text if isinstance(text, bytes) else text.encode()
            self.send_response(reply.status)
            kind = "text/html" if isinstance(reply.body, str) else "application/json"
            for name, value in ({"content-type": kind} | reply.headers).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if reply.cut else content)
            self.close_connection = self.close_connection or reply.cut

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

        def handle(self) -> None:
            with suppress(ConnectionError, ssl.SSLError):  # the client gave up, as it was meant to
                super().handle()

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # else many connections at once are reset

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    scheme = "http" if tls is None else "https"
    served = ChatServer(base_url=f"{scheme}://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
