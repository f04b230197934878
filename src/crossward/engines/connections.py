"""Connections to one server, and what it answers: whole, and not longer than anything that is asked for.

Knows no protocol; endpoint.py does.
"""

import json as json_library
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LARGEST_ANSWER_BYTES = 2**26
BLOCK_BYTES = 2**16
DEEPEST = 64  # brackets within brackets of an answer


class TooLong(Exception):
    """An answer that was not read to its end."""


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
        certificates = httpx.create_ssl_context()
        self._clients = [
            httpx.AsyncClient(
                headers=headers,
                limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
                timeout=timeout_s,
                verify=certificates,
            )
            for _ in range(slots)
        ]
        self._free = list(self._clients)

    async def __aenter__(self) -> "Connections":
        return self

    async def __aexit__(self, *error: object) -> None:
        for client in self._clients:
            await client.aclose()

    async def post(self, url: str, *, json: Mapping[str, Any]) -> Reply:
        """One request on a connection that is free: as many are asked for at once as there are slots.

        Raises TooLong for an answer longer than any that was asked for, packed or not.
        """
        client = self._free.pop()
        try:
            async with client.stream("POST", url, json=json) as reply:
                content = bytearray()
                async for block in reply.aiter_bytes(BLOCK_BYTES):
                    content += block
                    if len(content) > LARGEST_ANSWER_BYTES:
                        raise TooLong(f"its answer is longer than {LARGEST_ANSWER_BYTES >> 20} MiB")
                return Reply(status=reply.status_code, headers=reply.headers, content=bytes(content))
        finally:
            self._free.append(client)


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
