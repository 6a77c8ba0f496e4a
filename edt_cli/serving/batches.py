"""Requests that arrive together are answered together: one pass of the model serves them all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class Batches(Generic[Request, Reply]):
    """A queue of requests, answered in batches by one thread.

    A batch is whatever waits when the thread becomes free, so a lone request never waits for others, and under load
    batches grow by themselves.
    """

    def __init__(self, answer: Callable[[Sequence[Request]], Sequence[Reply]], size: int) -> None:
        """Create the queue; `start` begins to answer.

        Args:
            answer: Returns the reply of each request, in order.
            size: Maximum number of requests in a batch.
        """
        self._answer, self._size = answer, size
        self._waiting: asyncio.Queue[tuple[Request, asyncio.Future[Reply]]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="answers")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to answer, in the running event loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop answering; requests that wait are cancelled."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        while not self._waiting.empty():
            self._waiting.get_nowait()[1].cancel()
        self._thread.shutdown(wait=False)

    @property
    def waiting(self) -> int:
        """Number of requests that no batch has taken yet."""
        return self._waiting.qsize()

    async def ask(self, request: Request) -> Reply:
        """Return the reply to a request; an error of its batch is raised here, too."""
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((request, reply))
        return await reply

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._size and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            try:
                replies = await loop.run_in_executor(self._thread, self._answer, [request for request, _ in batch])
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), reply in zip(batch, replies, strict=True):
                if not future.done():  # Its client may have gone.
                    future.set_result(reply)
