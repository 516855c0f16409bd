"""How large a request may be."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request

MAX_BODY = 1 << 20
"""Bytes of a request's body."""
MOST_OUTCOMES = 10_000
"""In one request."""


async def read_body(request: Request, max_body: int) -> bytes:
    """The body of a request, as long as it has at most so many bytes.

    Raises:
        HTTPException: 413.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_body:
            raise HTTPException(413)
    return bytes(body)
