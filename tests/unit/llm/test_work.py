from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
import tracemalloc
from functools import partial

import pytest
from llm_fakes import Scripted

from edt_backends.base import BackendError, ChatReply, ChatRequest, Usage
from edt_cli.llm import work as working
from edt_cli.llm.ask import Failed, UsageStats
from edt_cli.llm.work import Spool, StageProgress, work
from edt_cli.workspace.events import Events, Stopped, read_events
from edt_cli.workspace.layout import write_json

QUESTION = ChatRequest("try@1", (), user="U1")


def do(jobs, total: int, concurrency: int, events: Events | None = None, bill: UsageStats | None = None) -> list:
    events = events or Events()
    tally = StageProgress(events, "try", total, Scripted(lambda request: ""), bill or UsageStats())
    return asyncio.run(work(jobs, concurrency, events, tally))


def test_work_keeps_the_order_and_the_bound():
    running, most = 0, 0

    async def job(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (number % 3))
        running -= 1
        return number

    seen: list[dict] = []
    jobs = (partial(job, number) for number in range(20))
    found = do(jobs, 20, 4, Events(listeners=(seen.append,)))
    assert found == list(range(20))
    assert most == 4
    assert [record["done"] for record in seen if record["event"] == "progress"] == list(range(1, 21))
    assert do(iter(()), 0, 4) == []


def test_after_an_error_nothing_new_begins_and_what_runs_ends():
    begun, ended = [], []

    async def job(number: int) -> int:
        begun.append(number)
        if number == 1:
            await asyncio.sleep(0)
            raise BackendError("money spent")
        await asyncio.sleep(0.02)
        ended.append(number)
        return number

    with pytest.raises(BackendError) as caught:
        do((partial(job, number) for number in range(50)), 50, 4)
    assert str(caught.value) == "money spent (try: 3 of 50 done, 47 left; run the same command again to continue)"
    assert sorted(begun) == [0, 1, 2, 3]
    assert sorted(ended) == [0, 2, 3]


def test_pause_holds_the_next_job_and_stop_ends_the_work(tmp_path):
    events = Events(tmp_path)
    begun = []

    async def job(number: int) -> None:
        begun.append(number)
        if number == 2:
            write_json(tmp_path / "control.json", {"request": "pause"})
        await asyncio.sleep(0)

    def stop_later() -> None:
        time.sleep(0.3)
        write_json(tmp_path / "control.json", {"request": "stop-now"})

    stopper = threading.Thread(target=stop_later)
    stopper.start()
    with pytest.raises(Stopped):
        do((partial(job, number) for number in range(50)), 50, 2, events)
    stopper.join()
    assert begun == [0, 1, 2]


def test_stop_now_ends_calls_that_wait_and_the_first_failure_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(working, "WATCH_SECONDS", 0.02)
    events, chat = Events(tmp_path), Scripted(lambda request: "")

    async def job(number: int, request: str) -> None:
        if number == 1:
            write_json(tmp_path / "control.json", {"request": request})
            if request == "run":
                raise BackendError("no credit")
        await waiting.wait()
        raise BackendError("stopped while it waited")

    for request, error in (("stop-now", Stopped), ("run", BackendError)):
        waiting = asyncio.Event()
        monkeypatch.setattr(chat, "halt", waiting.set)
        tally = StageProgress(events, "try", 9, chat, UsageStats())
        with pytest.raises(error) as caught:
            asyncio.run(work((partial(job, number, request) for number in range(9)), 3, events, tally))
        assert "while it waited" not in str(caught.value)


def test_ctrl_c_lets_those_under_way_come_to_their_end():
    begun, ended = [], []

    async def job(number: int) -> None:
        begun.append(number)
        if number == 5:
            os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.05)
        ended.append(number)

    with pytest.raises(KeyboardInterrupt):
        do((partial(job, number) for number in range(50)), 50, 4)
    assert begun == ended and 6 <= len(begun) <= 8
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_says_how_it_stands(tmp_path, monkeypatch):
    monkeypatch.setattr(working, "REPORT_SECONDS", 0.0)
    bill = UsageStats()

    async def job(number: int) -> None:
        bill.add(ChatReply("\x1b[31mred", Usage(10, 5, 0.001), "m", cached=number < 3), QUESTION)
        if number == 4:
            bill.fail(Failed("refused"))

    do((partial(job, number) for number in range(8)), 8, 2, Events(tmp_path), bill)
    reports = [event for event in read_events(tmp_path) if event.event == "calls"]
    last = reports[-1]
    assert last.to_json() | {"n": 0, "time": 0, "calls_per_s": 0, "seconds_left": 0} == {
        "n": 0,
        "time": 0,
        "event": "calls",
        "stage": "try",
        "done": 8,
        "total": 8,
        "left": 0,
        "calls": 8,
        "calls_left": 0,
        "hits": 3,
        "new": 5,
        "repairs": 0,
        "failed": {"refused": 1},
        "prompt_tokens": 50,
        "completion_tokens": 25,
        "calls_per_s": 0,
        "seconds_left": 0,
        "last": {"user": "U1", "prompt": "try@1", "text": "red"},
    }
    assert [event.left for event in reports[:3]] == [7, 6, 5]


def test_answers_lie_on_disk_in_their_order():
    spool = Spool(3)
    for number, document in ((2, {"text": "☕ \ud800"}), (0, [1, None]), (1, "x" * 100_000)):
        spool.put(number, document)
    assert list(spool) == [[1, None], "x" * 100_000, {"text": "☕ \ud800"}]
    assert next(iter(spool)) == [1, None]


def test_memory_does_not_grow_with_the_number_of_jobs():
    """A spooled answer of 10 kB leaves 24 bytes in memory."""

    def grown(total: int) -> int:
        spool = Spool(total)

        async def job(number: int) -> None:
            spool.put(number, "x" * 10_000)

        tracemalloc.start()
        do((partial(job, number) for number in range(total)), total, 16)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    few, many = grown(100), grown(2000)
    assert many - few < 1900 * 200
