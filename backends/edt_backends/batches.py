"""Questions sent as batch jobs, which providers answer within a day at half the price.

A job is a file in a folder until its replies are in the cache, so a command that ends may be run again later: it
waits for the jobs that are open and sends only what no job contains.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edt_backends.base import (
    BackendError,
    BatchClient,
    ChatBackend,
    ChatReply,
    ChatRequest,
    JobState,
    Message,
    Usage,
)
from edt_backends.budget import Budget, Price, believable, highest_cost, pico
from edt_backends.cache import CachedChat
from edt_backends.context import check_context
from edt_backends.ledger import Ledger, Outcome
from edt_backends.question_locks import QuestionLocks
from edt_backends.store import Entry, ReplyCache
from edt_backends.wrappers import Signal, request_bytes

LARGEST, LARGEST_BYTES = 50_000, 100 << 20
"""Most questions, and bytes of questions, of a job; OpenAI takes 50,000 and 200 MB."""
QUIET_SECONDS = 1.0
"""A job is sent when no question has been added for so long."""
POLL_SECONDS = 20.0
"""How often a provider is asked how a job stands."""
ALL = "000"
"""Key of the lock of all jobs of a model."""
SILENT_SECONDS = 7200.0
"""How long a provider may fail to say how a job stands."""


@dataclass
class _Job:
    """A job, and for each of its questions the row of the ledger and the highest cost in 1e-12 USD."""

    name: str
    command: str
    requests: dict[str, ChatRequest]
    rows: dict[str, tuple[int, int | None]]
    id: str | None = None

    def save(self, folder: Path) -> None:
        """Write the job's file, whole or not at all."""
        document = {
            "name": self.name,
            "command": self.command,
            "id": self.id,
            "rows": self.rows,
            "requests": {key: _document(request) for key, request in self.requests.items()},
        }
        folder.mkdir(parents=True, exist_ok=True)
        beside = self.path(folder).with_suffix(".tmp")
        beside.write_text(json.dumps(document), "utf-8")
        beside.replace(self.path(folder))

    def path(self, folder: Path) -> Path:
        return folder / f"{self.name}.json"

    @classmethod
    def load(cls, path: Path) -> _Job:
        try:
            found = json.loads(path.read_text("utf-8"))
            requests = {key: _request(document) for key, document in found["requests"].items()}
            rows = {key: (number, most) for key, (number, most) in found["rows"].items()}
            return cls(found["name"], found["command"], requests, rows, found["id"])
        except (ValueError, KeyError, TypeError) as error:
            raise BackendError(f"{path} is no batch job ({type(error).__name__}): move it away") from None


class BatchedChat(CachedChat):
    """Cached chat backend that collects what is not in the cache, and sends it as batch jobs.

    Each call waits until its job has ended, so as many calls must be concurrent as a job is to have questions.
    """

    def __init__(
        self,
        backend: ChatBackend,
        cache: ReplyCache,
        client: BatchClient,
        budget: Budget,
        ledger: Ledger,
        *,
        price: Price | None = None,
        context: int | None = None,
        retry_failed: bool = False,
    ) -> None:
        """Wrap a backend.

        Args:
            backend: The backend, which is not asked itself.
            cache: Cache of the replies; files of open jobs lie beside it.
            client: The backend's batch jobs.
            budget: Budget of the command.
            ledger: Ledger of the calls.
            price: Price that the user states, in US dollars per token.
            context: Tokens of a question and its answer, if the user states them.
            retry_failed: As of `CachedChat`.
        """
        super().__init__(backend, cache, retry_failed=retry_failed)
        self._client, self._budget, self._ledger = client, budget, ledger
        self._folder = cache.directory / "batches" / re.sub(r"[^\w.-]", "_", backend.name)
        self._job_locks = QuestionLocks(self._folder)
        self._price, self._context = price or client.price_per_token(), context
        self.paid = self._price is None or any(self._price)
        self._waiting: dict[str, tuple[ChatRequest, asyncio.Future[ChatReply]]] = {}
        self._added, self._ended = 0.0, Signal()
        self._stopped: BackendError | None = None
        self._driving: asyncio.Task[None] | None = None
        self._jobs: dict[str, Any] = {}
        budget.check(self.name, self._price, "--price IN,OUT or --price free")

    def price_per_token(self) -> Price | None:
        return self._price

    def status(self) -> dict[str, Any]:
        return super().status() | self._budget.status() | self._jobs

    def halt(self) -> None:
        super().halt()
        line = "it was stopped; batch jobs that were sent go on, and the same command takes them up again"
        self._fail(BackendError(line, unbilled=True))
        self._ended.notify()

    async def _ask(self, key: str, facts: Entry, request: ChatRequest) -> ChatReply:
        """Wait for the reply of a batch job, which is in the cache then."""
        self._check_stopped()
        if self._context is not None:
            check_context(self.name, request, self._context)
        future: asyncio.Future[ChatReply] = asyncio.get_running_loop().create_future()
        self._waiting[key] = (request, future)
        self._added = time.monotonic()
        if self._driving is None or self._driving.done():
            self._driving = asyncio.create_task(self._drive())
        return await future

    async def _drive(self) -> None:
        """Send what waits, and answer it as its jobs end, until nothing waits."""
        try:
            again: set[str] = set()  # keys that an ended job has not answered, which are sent once more
            while self._waiting and self._stopped is None:
                while (quiet := time.monotonic() - self._added) < QUIET_SECONDS:
                    await asyncio.sleep(QUIET_SECONDS - quiet)
                async with self._job_locks.hold(ALL, self._check_stopped):  # against another process
                    jobs = [await self._taken_up(job) for job in self._open_jobs()]
                    held = {key for job in jobs for key in job.requests}
                    unsent = {key: request for key, (request, _) in self._waiting.items() if key not in held}
                    for requests in _parts(unsent):
                        jobs += await self._send(requests)
                await self._wait_for_one(jobs, again)
        except BackendError as error:
            self._fail(error)
        except OSError as error:
            self._fail(BackendError(f"the files of batch jobs in {self._folder} cannot be written: {error}"))

    def _check_stopped(self) -> None:
        if self._stopped is not None:
            raise self._stopped

    def _fail(self, error: BackendError) -> None:
        self._stopped = error
        for _, future in self._waiting.values():
            if not future.done():
                future.set_exception(error)

    def _open_jobs(self) -> list[_Job]:
        return [_Job.load(path) for path in sorted(self._folder.glob("*.json"))]

    async def _taken_up(self, job: _Job) -> _Job:
        """Return an open job with its id, which it lacks if a process ended while it was sent."""
        if job.id is None:
            job.id = await self._client.find(job.name) or await self._client.submit(job.name, job.requests)
            job.save(self._folder)
        return job

    async def _send(self, requests: Mapping[str, ChatRequest]) -> list[_Job]:
        """Send as many of the requests as the budget allows, as one job."""
        amounts: dict[str, int | None] = {}
        amount = 0
        for key, request in requests.items():
            most = None if self._price is None else highest_cost(request, self._price)
            amount += most or 0
            if not self._budget.fits(amount):
                break
            amounts[key] = most
        if not amounts:
            if self._open_jobs():  # their questions will cost less than is reserved for them
                return []
            raise self._budget.reached(amount)
        numbers = await asyncio.gather(
            *(self._budget.reserve(self.name, requests[key].prompt, most) for key, most in amounts.items())
        )
        job = _Job(
            name=uuid.uuid4().hex,
            command=self._ledger.command,
            requests={key: requests[key] for key in amounts},
            rows=dict(zip(amounts, zip(numbers, amounts.values(), strict=True), strict=True)),
        )
        job.save(self._folder)  # before it is sent: a job that was sent is never forgotten
        try:
            job.id = await self._client.submit(job.name, job.requests)
        except BackendError as error:
            if error.unbilled:
                await self._settle_all(job, {})
                job.path(self._folder).unlink()
            raise
        job.save(self._folder)
        return [job]

    async def _wait_for_one(self, jobs: list[_Job], again: set[str]) -> None:
        """Wait until a job has ended, and give its replies to who waits for them."""
        heard, held = time.monotonic(), {key for job in jobs for key in job.requests}
        while self._stopped is None:
            states: dict[str, JobState] = {}
            for job in jobs:
                assert job.id is not None
                try:
                    states[job.name] = await self._client.state(job.id)
                    heard = time.monotonic()
                except BackendError as error:
                    if not error.retryable or time.monotonic() - heard > SILENT_SECONDS:
                        raise
            done = sum(state.done for state in states.values())
            self._jobs = {
                "in_flight": sum(len(job.requests) for job in jobs),
                "batches": len(jobs),
                "batch_done": done,
            }
            ended = [job for job in jobs if job.name in states and states[job.name].ended]
            for job in ended:
                await self._collect(job, states[job.name], again)
            if ended:
                return
            await self._ended.wait(POLL_SECONDS)
            if not self._waiting.keys() <= held:  # they are sent without waiting for these jobs
                return

    async def _collect(self, job: _Job, state: JobState, again: set[str]) -> None:
        """Keep the replies of a job that has ended, settle what it cost, and forget the job."""
        assert job.id is not None
        found = await self._client.replies(job.id)
        replies = {
            key: self._priced(job.requests[key], reply)
            for key, reply in found.items()
            if key in job.requests and not isinstance(reply, BackendError)
        }
        await self.keep([(job.requests[key], reply) for key, reply in replies.items()], self._price)
        await self._settle_all(job, replies)
        job.path(self._folder).unlink(missing_ok=True)  # another process may have waited for it, too
        self._added = time.monotonic()  # what follows on these replies is asked now
        for key in job.requests:
            waiting = self._waiting.get(key)
            error = found.get(key)
            if waiting is None:
                continue
            if key in replies:
                waiting[1].set_result(replies[key])
            elif isinstance(error, BackendError) or key in again:
                said = error if isinstance(error, BackendError) else None
                line = f"{self.name}: not answered in a batch job that is {state.status}"
                waiting[1].set_exception(said or BackendError(line, retryable=True, unbilled=True))
                waiting[1].exception()  # retrieved: whoever waited may be gone
            else:
                again.add(key)
                continue
            del self._waiting[key]

    def _priced(self, request: ChatRequest, reply: ChatReply) -> ChatReply:
        usage = believable(reply.usage, request, reply.text)
        cost = None
        if self._price is not None and (usage.prompt_tokens or usage.completion_tokens):
            cost = usage.prompt_tokens * self._price[0] + usage.completion_tokens * self._price[1]
        return ChatReply(
            text=reply.text,
            usage=Usage(usage.prompt_tokens, usage.completion_tokens, cost),
            model=reply.model,
            finish_reason=reply.finish_reason,
        )

    async def _settle_all(self, job: _Job, replies: Mapping[str, ChatReply]) -> None:
        """Settle each question of a job; those without a reply were not billed."""
        own = job.command == self._ledger.command

        async def settle(key: str) -> None:
            number, most = job.rows[key]
            reply = replies.get(key)
            cost = None if reply is None else reply.usage.cost_usd
            spent = (0 if reply is None else None) if cost is None else pico(cost)
            outcome: Outcome = "unbilled" if reply is None else "delivered"
            usage = Usage() if reply is None else reply.usage
            if own:
                await self._budget.settle(number, outcome, most, spent, usage)
            else:
                await self._ledger.settle(number, outcome, spent, usage, command=job.command)

        await asyncio.gather(*(settle(key) for key in job.rows))


def _parts(requests: Mapping[str, ChatRequest]) -> Iterable[dict[str, ChatRequest]]:
    """Yield the requests in parts that one job can hold."""
    part: dict[str, ChatRequest] = {}
    size = 0
    for key, request in requests.items():
        added = request_bytes(request)
        if part and (len(part) == LARGEST or size + added > LARGEST_BYTES):
            yield part
            part, size = {}, 0
        part[key] = request
        size += added
    if part:
        yield part


def _document(request: ChatRequest) -> dict[str, Any]:
    return {
        "prompt": request.prompt,
        "messages": [[message.role, message.content] for message in request.messages],
        "schema": request.schema,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
        "user": request.user,
    }


def _request(document: Mapping[str, Any]) -> ChatRequest:
    messages = tuple(Message(role, content) for role, content in document["messages"])
    return ChatRequest(**{**document, "messages": messages})
