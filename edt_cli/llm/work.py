"""Concurrent questions in bounded number, with progress, pause and stop, and answers on disk."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
import threading
import time
from array import array
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from edt_backends.base import BackendError, ChatBackend
from edt_cli.llm.ask import UsageStats
from edt_cli.workspace.event_types import Calls, Warned
from edt_cli.workspace.events import Events, Stopped
from edt_cli.workspace.files import explained

T = TypeVar("T")

REPORT_SECONDS = 2.0
WINDOW_SECONDS = 60.0
WATCH_SECONDS = 0.5


class Spool:
    """JSON documents by number, on disk, so that answers take up no memory."""

    def __init__(self, total: int) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - gone with this object
        self._end = 0
        self._begin = array("q", [-1]) * total
        self._length = array("q", [0]) * total

    def put(self, number: int, document: Any) -> None:
        """Write the document of a number."""
        text = json.dumps(document).encode()
        self._begin[number], self._length[number] = self._end, len(text)
        with explained(Path(tempfile.gettempdir())):
            self._end += self._file.write(text)

    def __iter__(self) -> Iterator[Any]:
        """Yield the documents in the order of their numbers; none may be missing."""
        for begin, length in zip(self._begin, self._length, strict=True):
            self._file.seek(begin)
            yield json.loads(self._file.read(length))
        self._file.seek(self._end)


class StageProgress:
    """Progress reports of a stage; their fields are those of `Calls`."""

    def __init__(self, events: Events, stage: str, total: int, chat: ChatBackend, usage: UsageStats) -> None:
        self.stage, self.total, self.done = stage, total, 0
        self._events, self._chat, self._usage = events, chat, usage
        self._reported_at = 0.0
        self._before, self._noted = usage.replies, set[str]()
        self._window: deque[tuple[float, int, int]] = deque([(time.monotonic(), 0, self._new)])

    @property
    def _new(self) -> int:
        return self._usage.replies - self._usage.cached

    def step(self) -> None:
        """Count one finished question.

        Listeners are notified of each; the run's files are written every few seconds.
        """
        self.done += 1
        self._events.progress(self.stage, self.done, self.total, **self._fields())
        if time.monotonic() - self._reported_at >= REPORT_SECONDS:
            self.report()

    def tick(self) -> None:
        """Tell how it stands while nothing is finished: what is waited for, and the newest failure."""
        if time.monotonic() - self._reported_at >= REPORT_SECONDS:
            self._events.progress(self.stage, self.done, self.total, **self._fields())
            self.report()

    def halt(self) -> None:
        """End the calls that wait; those that are sent, and may be paid for, go on."""
        self._chat.halt()

    def report(self) -> None:
        """Write a `calls` event, and a warning for what was noted of the LLM's server since the last."""
        self._reported_at = time.monotonic()
        notes = self._chat.status().get("notes", ())
        for note in [note for note in notes if note not in self._noted]:
            self._events.emit(Warned(step=self.stage, message=f"warning: {note}"))
        self._noted.update(notes)
        self._events.emit(
            Calls(stage=self.stage, done=self.done, total=self.total, last=self._usage.last(), **self._fields())
        )

    def _fields(self) -> dict[str, Any]:
        usage, now = self._usage, time.monotonic()
        self._window.append((now, self.done, self._new))
        while len(self._window) > 2 and (now - self._window[0][0] > WINDOW_SECONDS or len(self._window) > 1000):
            self._window.popleft()
        begun, done, new = self._window[0]
        seconds = max(now - begun, 1e-6)
        pace = (self.done - done) / seconds
        left = self.total - self.done
        calls = usage.replies - self._before
        return {
            "left": left,
            "calls": calls,
            "calls_left": round(left * calls / max(1, self.done)),
            "hits": usage.cached,
            "new": self._new,
            "repairs": usage.repairs,
            "failed": dict(usage.failed),
            "prompt_tokens": usage.new_prompt_tokens,
            "completion_tokens": usage.new_completion_tokens,
            "calls_per_s": round((self._new - new) / seconds, 2),
            "seconds_left": round(left / pace, 1) if pace > 0 else None,
            **{name: value for name, value in self._chat.status().items() if name not in ("hits", "notes")},
        }


async def work(
    jobs: Iterable[Callable[[], Awaitable[T]]], concurrency: int, events: Events, progress: StageProgress
) -> list[T]:
    """Run `progress.total` jobs, `concurrency` at a time, and return their results in order.

    Pause and stop take effect between jobs. At the first error, at Ctrl-C or when asked to stop now, no new job is
    started and calls that wait are ended; those that are sent, which may be paid for, are finished before it is
    raised. A second Ctrl-C breaks off. A BackendError then also says how much is done and left.
    """
    results: list[Any] = [None] * progress.total
    queue = enumerate(jobs)
    gate = asyncio.Lock()
    halted = False
    failure: BaseException | None = None

    def halt(why: BaseException) -> None:
        nonlocal halted, failure
        halted, failure = True, failure or why
        progress.halt()

    def interrupt() -> None:
        halt(KeyboardInterrupt())
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)

    async def worker() -> None:
        try:
            while True:
                async with gate:
                    if not halted and events.requested() != "run":
                        await asyncio.to_thread(events.obey)  # waits while paused; calls in flight continue
                    following = None if halted else next(queue, None)
                if following is None:
                    return
                number, job = following
                results[number] = await job()
                progress.step()
        except BaseException as error:
            halt(error)
            raise

    async def watch() -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            request = events.requested()
            if request != "pause":
                progress.tick()
            if request == "stop-now":  # all workers may be waiting for replies
                try:
                    events.obey()
                except Stopped as stopped:
                    halt(stopped)

    with _on_interrupt(interrupt):
        workers = (worker() for _ in range(min(concurrency, progress.total)))
        watching = asyncio.create_task(watch())
        try:
            await asyncio.gather(*workers, return_exceptions=True)
        finally:
            watching.cancel()
    progress.report()
    if isinstance(failure, BackendError):
        left = progress.total - progress.done
        where = f"{progress.stage}: {progress.done:,} of {progress.total:,} done, {left:,} left"
        failure.args = (f"{failure} ({where}; run the same command again to continue)",)
    if failure is not None:
        raise failure
    return results


@contextmanager
def _on_interrupt(handler: Callable[[], None]) -> Iterator[None]:
    """Let Ctrl-C call the handler, where signal handlers are possible."""
    loop = asyncio.get_running_loop()
    try:
        if threading.current_thread() is not threading.main_thread():
            raise NotImplementedError
        loop.add_signal_handler(signal.SIGINT, handler)
    except NotImplementedError:
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
