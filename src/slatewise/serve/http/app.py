"""HTTP around a recommender, and nothing else: bodies in, JSON out, errors that say what to do.

The recommender works in one thread of its own, so that neither a large catalog nor a slow disk holds up the event loop.
"""

from __future__ import annotations

import asyncio
import html
import json
import logging
import shlex
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib import metadata, resources
from string import Template
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from slatewise.errors import SlatewiseError
from slatewise.serve.events.segment import UncertainError
from slatewise.serve.http.limits import MAX_BODY, MOST_OUTCOMES, read_body
from slatewise.serve.http.openapi import document
from slatewise.serve.http.schema import Feedback, Health, MaskRequest, Masks, Problem, RecommendRequest
from slatewise.serve.recommender import Recommender
from slatewise.serve.refused import RefusedError, UnknownEventError

A = TypeVar("A")
R = TypeVar("R")

_logger = logging.getLogger(__name__)
_WRITABLE = "a service that can write its log"
_encode = msgspec.json.Encoder().encode
_recommend = msgspec.json.Decoder(RecommendRequest)
_mask = msgspec.json.Decoder(MaskRequest)
_feedback = msgspec.json.Decoder(Feedback | list[Feedback])


def example_request(url: str, user: str) -> str:
    """A command that asks for the slate of a user.

    Args:
        url: of the service.
        user: name.
    """
    return f"curl -s {url}/recommend -d {shlex.quote(json.dumps({'user_id': user}, ensure_ascii=False))}"


def create_app(
    recommender: Recommender, *, max_body: int = MAX_BODY, sync_seconds: float | None = 1.0, admin: bool = False
) -> Starlette:
    """The service as an ASGI application; it closes the recommender when it is shut down.

    Args:
        recommender: what it serves.
        max_body: largest body of a request, in bytes.
        sync_seconds: how often log and store are brought to the disk; None = never here, because every record waits
            for the disk by itself.
        admin: whether /masks is open: everybody who reaches the service may mask and lift items then.
    """
    service = _Service(recommender, max_body=max_body, sync_seconds=sync_seconds, admin=admin)
    return Starlette(
        routes=[
            Route("/", service.page, methods=["GET"]),
            Route("/recommend", service.recommend, methods=["POST"]),
            Route("/feedback", service.feedback, methods=["POST"]),
            Route("/masks", service.masks, methods=["GET", "PUT", "DELETE"]),
            Route("/masks/{item_id:path}", service.masks, methods=["PUT", "DELETE"]),
            Route("/health", service.health, methods=["GET"]),
            Route("/openapi.json", service.openapi, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _http_problem, Exception: _internal_error},
        lifespan=service.lifespan,
    )


class _Service:
    """The recommender, its thread, and when it started."""

    def __init__(self, recommender: Recommender, *, max_body: int, sync_seconds: float | None, admin: bool) -> None:
        self._recommender = recommender
        self._admin = admin
        self._max_body = max_body
        self._sync_seconds = sync_seconds
        self._started = time.monotonic()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recommender")
        self._openapi = _encode(document())
        self._template = Template(resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8"))

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Bring the log to the disk while serving; let go of everything afterwards."""
        ending = asyncio.Event()
        syncing = asyncio.create_task(self._sync(ending))
        try:
            yield
        finally:
            # not cancelled: a thread that waits for the disk cannot be, and the store must stay open for it
            ending.set()
            await syncing
            await self._run(self._recommender.close)
            self._thread.shutdown()

    async def recommend(self, request: Request) -> Response:
        """POST /recommend."""

        async def answer() -> Any:
            recommend_request = _recommend.decode(await read_body(request, self._max_body))
            return await self._record(self._recommender.recommend, recommend_request)

        return await _respond(answer)

    async def feedback(self, request: Request) -> Response:
        """POST /feedback."""

        async def answer() -> Any:
            sent = _feedback.decode(await read_body(request, self._max_body))
            outcomes = sent if isinstance(sent, list) else [sent]
            if not 1 <= len(outcomes) <= MOST_OUTCOMES:
                raise RefusedError(
                    f"the list has {len(outcomes):,} outcomes",
                    expected=f"1 to {MOST_OUTCOMES:,}",
                    advice="Send several lists.",
                )
            return await self._record(self._recommender.feedback, outcomes)

        return await _respond(answer)

    async def masks(self, request: Request) -> Response:
        """GET, PUT and DELETE /masks, PUT and DELETE /masks/ITEM."""
        if not self._admin:
            raise HTTPException(403)

        async def answer() -> Masks:
            item = request.path_params.get("item_id")
            if item is None and request.method == "PUT":
                names = _mask.decode(await read_body(request, self._max_body)).item_ids
            else:
                names = msgspec.convert({"item_ids": [] if item is None else [item]}, MaskRequest).item_ids
            return await self._record(partial(self._change_mask, request.method, item is None), names)

        return await _respond(answer)

    def _change_mask(
        self, method: str, whole: bool, names: list[str], abandoned: Callable[[], bool] = lambda: False
    ) -> Masks:
        """The mask in force afterwards; for the recommender's thread.

        Args:
            method: GET reads, PUT masks, DELETE lifts.
            whole: whether `names` is all of the mask, or items to add to it and take from it.
            names: of items.
            abandoned: True once nobody waits for the answer any more.
        """
        recommender = self._recommender
        masked = recommender.served.masked
        if method == "PUT":
            masked = frozenset(names) if whole else masked.union(names)
        elif method == "DELETE":
            masked = frozenset() if whole else masked.difference(names)
        if masked != recommender.served.masked:
            recommender.put_mask(masked, abandoned)
        return Masks(
            item_ids=sorted(masked), unknown=recommender.served.unknown(), catalog_version=recommender.catalog_version
        )

    async def health(self, _: Request) -> Response:
        """GET /health: 503 with the reason where requests could not be recorded."""
        recommender = self._recommender
        # a disk that hangs must not hold up requests
        fault = await asyncio.to_thread(recommender.fault)
        if fault:
            return _problem(503, f"the log cannot be written: {fault}", _WRITABLE, "Make room, or check the disk.")
        return _json(
            Health(
                status="ok",
                version=metadata.version("slatewise"),
                policy_version=recommender.artifact.version,
                uptime_seconds=round(time.monotonic() - self._started, 3),
                decisions=recommender.decisions,
                outcomes=recommender.outcomes,
                items=recommender.artifact.catalog.num_items,
                masked=len(recommender.served.numbers(recommender.served.masked)),
                simulated=recommender.simulated,
            )
        )

    async def openapi(self, _: Request) -> Response:
        """GET /openapi.json."""
        return Response(self._openapi, media_type="application/json")

    async def page(self, request: Request) -> Response:
        """GET /."""
        artifact = self._recommender.artifact
        columns = artifact.catalog.columns
        values = {
            "columns": ", ".join(["item_id", *(columns.column_names if columns is not None else ())]),
            "method": artifact.config.method.name,
            "encoder": artifact.config.encoder.name,
            "version": artifact.version,
            "items": f"{artifact.catalog.num_items:,}",
            "url": (url := str(request.base_url).rstrip("/")),
            "example": example_request(url, self._recommender.example_user or "NAME"),
        }
        simulated = "<p><b>Simulated log:</b> no person made the events that this policy learned from.</p>"
        return HTMLResponse(
            self._template.substitute(
                {name: html.escape(value) for name, value in values.items()},
                simulated=simulated if self._recommender.simulated else "",
            )
        )

    async def _run(self, work: Callable[..., A], *args: Any) -> A:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    async def _record(self, work: Callable[[R, Callable[[], bool]], A], request: R) -> A:
        """Work that records something; where its task is cancelled, it still ends with what became of it.

        A thread cannot be stopped. It is asked to record nothing any more; if it has done so by then, that is the
        answer.
        """
        abandoned = threading.Event()
        running = asyncio.ensure_future(self._run(work, request, abandoned.is_set))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            abandoned.set()
            return await running

    async def _sync(self, ending: asyncio.Event) -> None:
        while self._sync_seconds is not None and not ending.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), self._sync_seconds)
            try:
                # not in the recommender's thread: nobody has to wait for the disk
                await asyncio.to_thread(self._recommender.sync)
            except (OSError, SlatewiseError) as error:
                _logger.error("the disk did not take the log: %s", error)


async def _respond(answer: Callable[[], Awaitable[Any]]) -> Response:
    try:
        return _json(await answer())
    except RefusedError as refused:
        status = 404 if isinstance(refused, UnknownEventError) else 422
        return _problem(status, refused.error, refused.expected, refused.advice)
    except SlatewiseError as error:
        advice = "Try again later; nothing was recorded."
        if isinstance(error, UncertainError):
            advice = "It is not known whether it was recorded: send outcomes again only with their outcome_id."
        return _problem(503, str(error), _WRITABLE, advice)
    except msgspec.ValidationError as error:
        return _problem(422, str(error), "a body as /openapi.json describes it", "Mend the value at the path named.")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _problem(400, f"the body is no JSON: {error}", "one JSON value in UTF-8", "See /openapi.json.")
    except ClientDisconnect:
        return _problem(400, "the connection ended inside the body", "a whole body", "Send it again.")


def _json(value: Any, status: int = 200) -> Response:
    return Response(_encode(value), status_code=status, media_type="application/json")


def _problem(status: int, error: str, expected: str, advice: str, headers: dict[str, str] | None = None) -> Response:
    response = _json(Problem(error=error, expected=expected, advice=advice), status)
    response.headers.update(headers or {})
    return response


_PATHS = "POST /recommend, POST /feedback, /masks, GET /health, GET /openapi.json or GET /"
_WORDS = {
    403: (
        "masks are closed",
        "a service that was started with --admin",
        "Start it with --admin where only administrators reach it, or mask items with serve --mask FILE.",
    ),
    404: ("there is nothing at this path", _PATHS, "See /openapi.json."),
    405: ("this path does not take that method", _PATHS, "See /openapi.json."),
    413: ("the body is too large", "a smaller body", "Send fewer outcomes or candidates, or start with --max-body."),
}


async def _http_problem(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    words = _WORDS.get(status, ("the request cannot be served", _PATHS, "See /openapi.json."))
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    return _problem(status, *words, headers)


async def _internal_error(_: Request, error: Exception) -> Response:
    return _problem(
        500,
        f"the service failed: {type(error).__name__}",
        "an answer",
        "The service's own output says more; please report it.",
    )
