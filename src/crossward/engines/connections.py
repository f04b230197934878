"""Connections to one server, and what it answers: whole, and not longer than anything that is asked for.

Packed answers are unpacked here, as far as they may grow: httpx unpacks a block whole, and codings within codings,
before anyone can look. Knows no protocol; endpoint.py does.
"""

import json as json_library
import os
import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crossward.core.plain_text import shown

LARGEST_ANSWER_BYTES = 2**26
BLOCK_BYTES = 2**16
DEEPEST = 64  # brackets within brackets of an answer


_PROXY = "the proxy that the environment names (ALL_PROXY, HTTPS_PROXY or HTTP_PROXY)"
_CODINGS = ("gzip", "x-gzip", "deflate")
_EITHER = zlib.MAX_WBITS | 32  # gzip's header or zlib's


class NotRead(Exception):
    """An answer that was not read to its end; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a server said, whole."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def text(self) -> str:
        """As text, for errors: all of it, as a key that is cut would not be found in it."""
        return self.content.decode("utf-8", "replace")


class Connections:
    """A client a slot, each with one connection: httpx looks through its whole pool at every request, which with 64
    connections takes longer than the request.
    """

    def __init__(self, httpx: Any, headers: Mapping[str, str], *, slots: int, timeout_s: float) -> None:
        certificates = _certificates(httpx)
        try:
            self._clients = [
                httpx.AsyncClient(
                    headers={"Accept-Encoding": "gzip", **headers},
                    limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
                    timeout=timeout_s,
                    verify=certificates,
                )
                for _ in range(slots)
            ]
        except ImportError:
            raise ValueError(
                f"{_PROXY} speaks socks: name one that speaks http, or pip install 'httpx[socks]'"
            ) from None
        except (ValueError, httpx.InvalidURL):  # the proxy may hold a password, and is not repeated
            raise ValueError(f"{_PROXY} is no address such as http://HOST:PORT: correct or unset it") from None
        self._free = list(self._clients)

    async def __aenter__(self) -> "Connections":
        return self

    async def __aexit__(self, *error: object) -> None:
        for client in self._clients:
            await client.aclose()

    async def post(self, url: str, *, json: Mapping[str, Any]) -> Reply:
        """One request on a connection that is free: as many are asked for at once as there are slots.

        Raises NotRead for an answer longer than any that was asked for, packed or not, and for one packed otherwise
        than asked for.
        """
        client = self._free.pop()
        try:
            async with client.stream("POST", url, json=json) as reply:
                content = _Unpacked(reply.headers.get("content-encoding", ""))
                async for block in reply.aiter_raw(BLOCK_BYTES):
                    content.add(block)
                return Reply(status=reply.status_code, headers=reply.headers, content=content.whole())
        finally:
            self._free.append(client)


def _certificates(httpx: Any) -> ssl.SSLContext:
    """What servers are verified with. ValueError where the environment names authorities that cannot be read."""
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # SSLError too
        name = next((name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)), "SSL_CERT_FILE")
        why = "there is no such file" if isinstance(error, FileNotFoundError) else "it holds no certificates"
        raise ValueError(
            f"{name} is {shown(os.environ.get(name, ''))}, and {why}: name a file of certificates in PEM, or unset it"
        ) from None


class _Unpacked:
    """An answer as it comes, unpacked up to the largest that is read."""

    def __init__(self, encoding: str) -> None:
        codings = [coding for part in encoding.split(",") if (coding := part.strip().lower()) not in ("", "identity")]
        if len(codings) > 1 or (codings and codings[0] not in _CODINGS):
            raise NotRead("its answer is packed in a way that was not asked for: only gzip is unpacked, and once")
        self._unpack = zlib.decompressobj(_EITHER) if codings else None
        self._content = bytearray()

    def add(self, block: bytes) -> None:
        if self._unpack is None:
            self._content += block
        elif not self._unpack.eof:
            try:
                # One byte more than may be, so that what is too long is seen; 0 would mean no end.
                self._content += self._unpack.decompress(block, LARGEST_ANSWER_BYTES + 1 - len(self._content))
            except zlib.error:
                raise NotRead("its answer is not packed as it says") from None
        if len(self._content) > LARGEST_ANSWER_BYTES:
            raise NotRead(f"its answer is longer than {LARGEST_ANSWER_BYTES >> 20} MiB")

    def whole(self) -> bytes:
        if self._unpack is not None and not self._unpack.eof:
            raise NotRead("its answer is packed and ends before its end")
        return bytes(self._content)


def read_json(content: bytes) -> Any:
    """An answer as JSON. ValueError where it is none, or nested so deeply that nothing could be done with it."""
    try:
        value = json_library.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = [value]
    for _ in range(DEEPEST):
        inside = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [item for items in inside for item in items if isinstance(item, dict | list)]
        if not level:
            return value
    raise ValueError("nested too deeply")
