"""How fast, how frugal and how honest the wrappers around a provider are, with a server in a process of its own.

    python tests/benchmarks/providers.py throughput   1,000 calls of 200 ms (--concurrency 16), then from a cache
    python tests/benchmarks/providers.py budget       20 runs with random prices and limits: the largest overshoot
    python tests/benchmarks/providers.py memory       5,000 and 50,000 users: the peak memory of each
    python tests/benchmarks/providers.py faults       2,000 users, 20% faults, three kills: both sides' books

All but `memory` go through litellm's real client; `faults` drives `edt augment` itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS / "backends"))
sys.path.insert(0, str(TESTS / "support"))

import fault_run  # noqa: E402
from fault_run import server  # noqa: E402
from stack import answer_all, question, stack, words  # noqa: E402

from edt_backends.base import ChatBackend, ChatReply, ChatRequest, Usage  # noqa: E402
from edt_backends.budget import BudgetedChat, OutOfBudget  # noqa: E402
from edt_backends.cache import CachedChat  # noqa: E402
from edt_backends.limits import Pace, PacedChat  # noqa: E402
from edt_cli.config import Settings  # noqa: E402
from edt_cli.llm.providers import Providers  # noqa: E402
from edt_cli.workspace.layout import Workspace  # noqa: E402


def throughput(given: argparse.Namespace) -> None:
    at_once = given.concurrency
    with tempfile.TemporaryDirectory() as folder, server(seconds=0.2) as url:
        answering = stack(Path(folder), url)
        answer_all(answering, 32)  # litellm's import, connections
        questions = [question(number) for number in range(given.calls)]
        for number in range(given.repeat):
            asked = stack(Path(folder) / str(number), url, concurrency=at_once)
            began = time.process_time()
            seconds, _ = answer_all(asked, questions, at_once)
            each = 1e3 * (time.process_time() - began) / given.calls
            rate, ideal = given.calls / seconds, at_once / 0.2
            sys.stdout.write(
                f"{given.calls} calls, {at_once} at a time: {rate:.1f}/s, {rate / ideal:.1%} of {ideal:.0f}/s, "
                f"{each:.1f} ms of CPU a call\n"
            )
            seconds, bill = answer_all(asked, questions, at_once)
            assert bill.cached == given.calls
            sys.stdout.write(f"  again, from the cache: {given.calls / seconds:,.0f}/s\n")


def budget(given: argparse.Namespace) -> None:
    worst = Fraction(-(10**9))
    with server(faults=0.2, hang=1.5, log=True) as url:
        log = fault_run.log_of(url)
        for run in range(given.runs):
            draw = random.Random(run)
            price = [draw.uniform(0.01, 20), draw.uniform(0.01, 60)]
            limit = draw.uniform(0.2, 3) * 1e-6 * (price[0] * 500 + price[1] * 1024) * 5
            before = len(fault_run.read_log(log))
            with tempfile.TemporaryDirectory() as folder:
                stated = f"{price[0]!r},{price[1]!r}"
                asking = stack(Path(folder), url, price=stated, max_cost=limit, timeout=1, backoff=0.01)
                stopped = False
                try:
                    answer_all(asking, 400)
                except OutOfBudget:
                    stopped = True
                spent = asking.status()["spent_usd"]
            time.sleep(3)  # what the server is still at counts too
            billed = (
                sum(
                    Fraction(call["prompt_tokens"]) * Fraction(price[0])
                    + call["completion_tokens"] * Fraction(price[1])
                    for call in fault_run.read_log(log)[before:]
                )
                / 10**6
            )
            over = billed - Fraction(limit)
            worst = max(worst, over)
            sys.stdout.write(
                f"limit {limit:.6f}, the server's bill {float(billed):.6f}, recorded {spent:.6f}"
                f"{', stopped' if stopped else ''}\n"
            )
            assert spent >= float(billed) - 1e-9
    sys.stdout.write(f"largest overshoot of {given.runs} runs: {max(0.0, float(worst)):.9f} USD\n")


class Instant(ChatBackend):
    """Answers at once, in this process."""

    name, paid = "instant", True

    def identity(self) -> dict[str, Any]:
        return {"backend": "instant"}

    def price_per_token(self) -> tuple[float, float]:
        return 1e-6, 1e-6

    async def complete(self, request: ChatRequest) -> ChatReply:
        await asyncio.sleep(0)
        text = json.dumps({"items": [{"title": words(len(request.messages[1].content) + n, 6)} for n in range(5)]})
        return ChatReply(text, Usage(300, 100, 4e-4), self.name)


def memory(given: argparse.Namespace) -> None:
    """Each number of users in a process of its own, since a peak never goes down."""
    if given.users:
        with tempfile.TemporaryDirectory() as folder:
            providers = Providers(Workspace(Path(folder)), Settings())
            paced = PacedChat(BudgetedChat(Instant(), providers.budget), Pace())
            asking = CachedChat(paced, providers.cache)
            answer_all(asking, 500)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            seconds, bill = answer_all(asking, given.users)
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sys.stdout.write(
            f"{given.users:,} users, {bill.replies:,} calls: peak {after / 1024:.0f} MiB, "
            f"{(after - before) / 1024:.1f} more than after 500; {bill.replies / seconds:,.0f} calls/s\n"
        )
        return
    for users in (5_000, 50_000):
        subprocess.run([sys.executable, __file__, "memory", "--users", str(users)], check=True)


def faults(given: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        books = fault_run.run(Path(folder), users=given.users, kills=3, seed=given.seed, whole=True)
    sys.stdout.write(json.dumps(books.counts, indent=1) + "\n")
    books.check()
    sys.stdout.write("all of it holds\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    for command in (throughput, budget, memory, faults):
        commands.add_parser(command.__name__).set_defaults(command=command)
    for name, option, default in (
        ("throughput", "--calls", 1000),
        ("throughput", "--repeat", 1),
        ("throughput", "--concurrency", 16),
        ("budget", "--runs", 20),
        ("memory", "--users", 0),
        ("faults", "--users", 2000),
        ("faults", "--seed", 1),
    ):
        commands.choices[name].add_argument(option, type=int, default=default)
    given = parser.parse_args()
    given.command(given)


if __name__ == "__main__":
    main()
