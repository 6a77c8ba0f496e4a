"""When calls leave, on a clock that the tests turn."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from edt_backends import limits
from edt_backends.base import BackendError, ChatReply, Usage
from edt_backends.limits import Pace, Patience, RateLimits, retry_after
from edt_backends.reply_times import ReplyTimes

REPLY = ChatReply("fine", Usage(60, 40, 0.0), "m")


class FastLoop(asyncio.SelectorEventLoop):
    """Time passes at once when nothing else is to be done."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self.now = max(self.now, self._scheduled[0]._when)
        super()._run_once()


@pytest.fixture
def run(monkeypatch):
    loop = FastLoop()
    monkeypatch.setattr(limits.time, "monotonic", loop.time)
    monkeypatch.setattr(random, "uniform", lambda low, high: high)

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        return loop.run_until_complete(work)

    run.loop = loop
    yield run
    loop.close()


def busy(**headers: str) -> BackendError:
    return BackendError(
        "too many requests",
        retryable=True,
        unbilled=True,
        status=429,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def broken() -> BackendError:
    return BackendError("the connection broke", retryable=True)


class Server:
    """Answers after `seconds`; `fails(number, now)` may give an error for a call. `left`: when each call came."""

    def __init__(self, run: Any, seconds: float = 0.2, fails: Callable[[int, float], Any] | None = None) -> None:
        self.loop, self.seconds, self.fails = run.loop, seconds, fails or (lambda number, now: None)
        self.left: list[float] = []
        self.at_once = self.most_at_once = 0
        self.headers: dict[str, str] = {}

    async def __call__(self) -> ChatReply:
        self.left.append(self.loop.time() - 1000)
        number = len(self.left) - 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        error = self.fails(number, self.left[-1])
        await asyncio.sleep(self.seconds)
        self.at_once -= 1
        if error is not None:
            raise error
        return ChatReply("fine", REPLY.usage, "m", headers=dict(self.headers))


async def many(pace: Pace, server: Server, count: int, workers: int = 16, tokens: int = 500) -> list[Any]:
    found: list[Any] = []
    numbers = iter(range(count))

    async def worker() -> None:
        for _ in numbers:
            try:
                found.append(await pace.call(tokens, server))
            except BackendError as error:
                found.append(error)

    await asyncio.gather(*(worker() for _ in range(workers)))
    return found


def most_in_a_minute(times: list[float]) -> int:
    return max(sum(begin <= other < begin + 60 for other in times) for begin in times)


def test_concurrency_is_the_bound_and_is_used(run):
    server = Server(run)
    run(many(Pace(concurrency=5), server, 100))
    assert server.most_at_once == 5
    assert run.loop.time() - 1000 == pytest.approx(100 / 5 * 0.2)


def test_requests_a_minute_are_kept_and_used(run):
    server = Server(run)
    run(many(Pace(rpm=120), server, 400))
    assert most_in_a_minute(server.left) <= 120
    assert server.left[-1] <= 400 / 120 * 60 / 0.95


def test_tokens_a_minute_are_kept_and_what_was_not_used_is_given_back(run):
    """A call may take 500 tokens and takes 100: the pace is that of 100."""
    server = Server(run)
    run(many(Pace(tpm=12_000), server, 400))
    assert most_in_a_minute(server.left) * 100 <= 12_000
    assert server.left[-1] <= 400 * 100 / 12_000 * 60 / 0.9


def test_what_the_headers_say_is_kept_to(run):
    server = Server(run)
    server.headers = {"x-ratelimit-limit-requests": "60"}
    run(many(Pace(rpm=600), server, 100))
    assert most_in_a_minute(server.left[20:]) <= 60

    server = Server(run, fails=lambda number, now: None)
    server.headers = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}
    begun = run.loop.time()
    run(many(Pace(), server, 2, workers=1))
    assert run.loop.time() - begun == pytest.approx(360 + 0.2 + 0.2, abs=0.1)


def test_a_429_holds_everybody_for_as_long_as_it_says_and_loses_nobody(run):
    server = Server(run, fails=lambda number, now: busy(retry_after="7") if 1 < now < 5 else None)
    pace = Pace()
    found = run(many(pace, server, 300))
    assert found == [REPLY] * 300
    refused = [left for left in server.left if 1 < left < 5]
    assert 1 <= len(refused) <= 32 and pace.retries == len(refused)
    assert not [left for left in server.left if refused[0] + 0.5 < left < refused[0] + 7]


def test_a_provider_that_is_always_too_busy_slows_the_run_down_to_what_it_takes(run):
    """Without headers: one request a second is answered, everything else refused."""
    taken: list[float] = []

    def fails(number: int, now: float) -> BackendError | None:
        if taken and now - taken[-1] < 1:
            return busy()
        taken.append(now)
        return None

    server = Server(run, fails=fails)
    assert run(many(Pace(), server, 60)) == [REPLY] * 60
    assert len(server.left) < 60 * 12


def test_a_passing_failure_is_tried_again_with_growing_waits(run):
    server = Server(run, seconds=0, fails=lambda number, now: broken() if number in (1, 2, 3) else None)
    pace = Pace(concurrency=1)
    assert run(many(pace, server, 2, workers=1)) == [REPLY] * 2
    assert pace.retries == 3
    first, second, third = (after - before for before, after in zip(server.left[1:], server.left[2:], strict=False))
    assert 0.4 <= first < second < third


def test_a_call_that_fails_while_others_are_answered_is_given_up(run):
    async def both() -> tuple[Any, Any]:
        poison = asyncio.create_task(many(pace, Server(run, fails=lambda *_: broken()), 1, workers=1))
        return await many(pace, Server(run), 3000, workers=4), await poison

    pace = Pace(concurrency=8)
    fine, (error,) = run(both())
    assert fine == [REPLY] * 3000
    assert error.retryable and pace.retries == Patience().attempts - 1


def test_a_fatal_error_is_not_tried_again(run):
    server = Server(run, fails=lambda *_: BackendError("wrong key", unbilled=True, status=401))
    pace = Pace()
    (error,) = run(many(pace, server, 1))
    assert not error.retryable and len(server.left) == 1 and pace.retries == 0


def test_an_outage_of_half_an_hour_slows_down_loses_nobody_and_recovers(run):
    server = Server(run, fails=lambda number, now: broken() if 10 < now < 1810 else None)
    pace = Pace()
    assert run(many(pace, server, 3000)) == [REPLY] * 3000
    during = [left for left in server.left if 10 < left < 1810]
    assert len(during) < 60
    back = next(left for left in server.left if left > 1810)
    assert back < 1810 + 61
    after = [left for left in server.left if left > back + 3]
    assert len(after) / (after[-1] - after[0]) > 70  # of 80 a second


def test_single_failures_slow_nobody_down(run):
    draw = random.Random(1)
    server = Server(run, fails=lambda number, now: broken() if draw.random() < 0.2 else None)
    assert run(many(Pace(), server, 4000)) == [REPLY] * 4000
    assert server.left[-1] < 4000 / 0.8 / 80 * 1.8  # who waits for the next try leaves a worker idle


def test_a_server_that_was_never_there_stops_the_run_soon(run):
    server = Server(run, seconds=0.01, fails=lambda *_: broken())
    found = run(many(Pace(), server, 16))
    assert all(not error.retryable and "it has never answered" in str(error) for error in found)
    assert 5 < run.loop.time() - 1000 < 60 and len(server.left) < 60


def test_an_outage_without_end_stops_the_run(run):
    server = Server(run, fails=lambda number, now: broken() if now > 10 else None)
    found = run(many(Pace(), server, 2000))
    last = found[-1]
    assert not last.retryable and "it has not answered for 2." in str(last)


def test_a_wait_of_hours_is_the_users_to_decide(run):
    server = Server(run, fails=lambda *_: busy(retry_after="9000"))
    (error,) = run(many(Pace(), server, 1))
    assert not error.retryable and "it asks to wait for 2.5 hours" in str(error)


def test_it_may_be_used_from_one_event_loop_after_another():
    pace = Pace(concurrency=1)

    async def send() -> ChatReply:
        await asyncio.sleep(0.001)
        return REPLY

    async def some() -> list[ChatReply]:
        return await asyncio.gather(*(pace.call(1, send) for _ in range(5)))

    for _ in range(2):
        assert asyncio.run(some()) == [REPLY] * 5


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_retry_after_in_all_its_forms(headers, seconds):
    assert retry_after(headers) == seconds


def test_rate_limit_headers_of_both_kinds():
    openai = {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "1m0.5s",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "nonsense",
        "x-ratelimit-reset-tokens": "120ms",
    }
    assert RateLimits.read(openai) == RateLimits((500, 499, 60.5), (30_000, None, 0.12))
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 30))
    read = RateLimits.read({"anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-requests-reset": soon})
    assert read.requests[:2] == (50, None) and 25 < read.requests[2] <= 30
    assert read.tokens == (None, None, None)


def test_what_is_too_long_ends_one_call_and_a_reply_that_cannot_be_read_is_asked_for_twice(run):
    unread = BackendError("?", retryable=True, unread=True)
    for error, tries in ((BackendError("too long", only_this=True), 1), (unread, 2)):
        pace, server = Pace(), Server(run, fails=lambda number, now, error=error: error)
        (found,) = run(many(pace, server, 1))
        assert found is error and len(server.left) == tries
        assert run(many(pace, Server(run), 3)) == [REPLY] * 3, "others go on"


def test_calls_that_wait_are_ended_at_once_and_those_that_are_sent_go_on(run):
    async def stopped() -> list[Any]:
        calls = asyncio.gather(many(pace, held, 20, workers=4), many(pace, slow, 1, workers=1))
        await asyncio.sleep(1)
        assert pace.status()["error"] == "too many requests"
        pace.halt()
        return await calls

    pace, held = Pace(), Server(run, seconds=0, fails=lambda number, now: busy(retry_after="500"))
    slow = Server(run, seconds=30)
    begun = run.loop.time()
    failed, (answered,) = run(stopped())
    assert answered == REPLY and run.loop.time() - begun == pytest.approx(30, abs=0.5)
    assert {str(error) for error in failed} == {"it was stopped while calls waited"}


def test_the_time_limit_of_a_call_is_learned():
    times = ReplyTimes()
    for _ in range(19):
        times.add(3.0)
    assert times.limit(120) == 120
    times.add(3.0)
    assert times.limit(120) == 30 and times.limit(10) == 10
    for _ in range(400):
        times.add(0.1)
    assert times.limit(120) == 20
    for _ in range(40):
        times.add(20.0)
    assert times.limit(120) == 120, "a server that has become slow is waited for"
