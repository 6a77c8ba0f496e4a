"""The HTTP application: recommendations, similar items, health and metrics."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from edt_cli.config import UserError
from edt_cli.serving.answers import Answer, Answers, Query, Recommended
from edt_cli.serving.batches import Batches
from edt_cli.serving.metrics import Metrics
from edt_cli.serving.schemas import (
    Health,
    Item,
    RecommendRequest,
    RecommendResponse,
    SimilarRequest,
    SimilarResponse,
)
from edt_cli.workspace.version import __version__

Newer = Callable[[Answers], Answers | None]
"""Returns a run to serve in place of the one that is served, loaded, or None."""
OPEN = ("/health",)
"""Paths that need no token, for who asks whether the server lives."""


class Server:
    """The run that is served at the moment."""

    def __init__(self, answers: Answers, size: int) -> None:
        """Serve a run.

        Args:
            answers: The run.
            size: Maximum number of requests that are answered together.
        """
        self.metrics = Metrics()
        self.batches = Batches[tuple[Answers, Query], Answer](self._recommend, size)
        self.answers = answers
        self.serve(answers)

    def serve(self, answers: Answers) -> None:
        """Answer with another run. Requests that were read before are still answered by the one before."""
        self.answers = answers
        self.metrics.serves(answers.run.name, answers.loaded)

    def _recommend(self, requests: Sequence[tuple[Answers, Query]]) -> list[Answer]:
        """Answer a batch; numbers of items are those of the run that read them."""
        self.metrics.batch.observe(len(requests))
        replies: dict[int, Answer] = {}
        for answers in {id(answers): answers for answers, _ in requests}.values():
            rows = [row for row, request in enumerate(requests) if request[0] is answers]
            replies.update(zip(rows, answers.recommend([requests[row][1] for row in rows]), strict=True))
        return [replies[row] for row in range(len(requests))]

    async def look_for_newer(self, newer: Newer, seconds: float, tell: Callable[[str], None]) -> None:
        """Look for a newer run every so many seconds; one that cannot be loaded is told, and looked at again."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(seconds)
            try:
                found = await loop.run_in_executor(None, newer, self.answers)
            except Exception as error:  # Whatever is wrong with it, the one that is served goes on.
                what = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                tell(f"a newer run cannot be served: {what}")
                continue
            if found is not None:
                self.serve(found)
                tell(f"now serving {found.run.name}")


def make_app(
    answers: Answers,
    *,
    size: int = 64,
    token: str | None = None,
    newer: Newer | None = None,
    seconds: float = 30.0,
    tell: Callable[[str], None] = lambda message: None,
) -> FastAPI:
    """Return the application that serves a run.

    Args:
        answers: The run.
        size: Maximum number of requests that are answered together.
        token: What clients send as `Authorization: Bearer TOKEN`; None for no token.
        newer: How to find a newer run; None to serve this one for ever.
        seconds: How often to look for a newer run.
        tell: Is called with messages for whoever runs the server.
    """
    server = Server(answers, size)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        server.batches.start()
        looking = None if newer is None else asyncio.create_task(server.look_for_newer(newer, seconds, tell))
        yield
        if looking is not None:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
        await server.batches.stop()

    app = FastAPI(title="edt serve", version=__version__, lifespan=lifespan)
    app.state.server = server
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(UserError, _wrong)
    app.middleware("http")(partial(_watched, server.metrics, token))

    @app.post("/recommend", summary="The best items for a user")
    async def recommend(body: RecommendRequest) -> RecommendResponse:
        serving = server.answers
        history = serving.numbers(body.history)
        query = Query(
            user=None if body.user is None else _user(serving, body.user),
            items=history.numbers,
            exclude=serving.numbers(body.exclude).numbers,
            domains=serving.domain_numbers(body.domain),
            limit=body.count,
        )
        answer = await server.batches.ask((serving, query))
        return RecommendResponse(
            run=serving.run.name,
            source=answer.source,
            unknown_items=history.unknown,
            domains=_lists(answer.domains),
        )

    @app.post("/similar", summary="Items with a similar vector")
    def similar(body: SimilarRequest) -> SimilarResponse:
        serving = server.answers
        lists = serving.similar(body.item, serving.domain_numbers(body.domain), body.count)
        return SimilarResponse(run=serving.run.name, domains=_lists(lists))

    @app.get("/health", summary="What is served")
    def health() -> Health:
        serving = server.answers
        return Health(
            status="ok",
            run=serving.run.name,
            data=serving.run.plan["data"],
            domains=list(serving.domains),
            items=serving.items,
            users=serving.users,
            loaded=serving.loaded,
            version=__version__,
        )

    @app.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
    def metrics() -> Response:
        return Response(server.metrics.text(server.batches.waiting), media_type=CONTENT_TYPE_LATEST)

    return app


def _user(serving: Answers, name: str) -> int:
    number = serving.user(name)
    if number is None:
        raise HTTPException(404, f"there is no user {name!r}; of a new one send the history")
    return number


def _lists(domains: dict[str, list[Recommended]]) -> dict[str, list[Item]]:
    return {name: [Item(**row._asdict()) for row in rows] for name, rows in domains.items()}


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Say in one line what is wrong with a request; what was sent is not repeated."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    message = first["msg"].removeprefix("Value error, ")
    return JSONResponse({"detail": f"{where}: {message}" if where else message}, 422)


async def _wrong(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 422)


async def _watched(
    metrics: Metrics,
    token: str | None,
    request: Request,
    answer: Callable[[Request], Awaitable[Response]],
) -> Response:
    """Ask for the token, and count and time each request by its route."""
    since = time.perf_counter()
    given = request.headers.get("authorization", "").encode()
    if token is None or request.url.path in OPEN or hmac.compare_digest(given, f"Bearer {token}".encode()):
        response = await answer(request)
    else:
        headers = {"WWW-Authenticate": "Bearer"}
        response = JSONResponse({"detail": "the token is missing or wrong"}, 401, headers)
    route = request.scope.get("route")
    # Only paths that exist: each other one would be a time series of its own.
    path = getattr(route, "path", "other")
    metrics.request(path, response.status_code, time.perf_counter() - since)
    return response
