"""A stage against a server that fails, killed and started again; and the two sides' books beside each other."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from stack import PRICE, words

from edt_backends.store import ReplyCache

SERVER, STACK = (Path(__file__).with_name(name) for name in ("model_server.py", "stack.py"))
MAIN = "from edt_cli.cli.app import main; main()"
CONCURRENCY, TIMEOUT = 16, 3
_logs: dict[str, Path] = {}


@contextmanager
def server(
    *, seconds: float = 0.0, faults: float = 0.0, hang: float = 60.0, seed: int = 1, log: bool = False
) -> Iterator[str]:
    """The scripted model in a process of its own; its address."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls.jsonl"
        options = {"seconds": seconds, "faults": faults, "hang": hang, "seed": seed} | (
            {"log": path} if log else {}
        )
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        process = subprocess.Popen([sys.executable, str(SERVER), *arguments], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        _logs[url] = path
        try:
            yield url
        finally:
            process.kill()
            process.wait()


def log_of(url: str) -> Path:
    return _logs[url]


def read_log(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def write_shop(folder: Path, users: int) -> None:
    """Two catalogues with titles of chance; every user buys in one, some in both."""
    draw = np.random.default_rng(7)
    for name, other in (("a", 0), ("b", 1)):
        lines = ["user,item,time,title"]
        for user in range(users):
            for place in range(draw.integers(2, 6) if user % 2 == other else draw.integers(0, 3)):
                item = int(draw.integers(0, 120))
                title = words(item + 1000 * other, 5)
                lines.append(
                    f"U{user},{name}{item},{1_600_000_000 + user * 100 + place * 7 + other},{title} {item}"
                )
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")


def edt(*arguments: str, workspace: Path) -> subprocess.Popen[str]:
    return start("-c", MAIN, *arguments, workspace=workspace)


def start(*arguments: str, workspace: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "EDT_WORKSPACE": str(workspace)}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *arguments], env=environment, stdout=pipe, stderr=pipe, text=True)


def output(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=1800)
    assert process.returncode == 0, err[-2000:]
    return out


@dataclass
class Books:
    """`calls`: the server's log; `rows`: the ledger; `summary`: of the last run, which was not interrupted."""

    users: int
    kills: int
    calls: list[dict[str, Any]]
    rows: list[tuple[Any, ...]]
    last_calls: list[dict[str, Any]]
    last_rows: list[tuple[Any, ...]]
    summary: dict[str, Any]
    answers: int
    counts: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        outcomes = Counter(outcome for outcome, _, _ in self.rows)
        good = Counter(call["prompt"] for call in self.calls if call["good"])
        self.counts = {
            "questions": self.summary["asked"],
            "failed at the end": sum(self.summary["failed"].values()),
            "calls that the server saw": len(self.calls),
            "by what became of them": dict(Counter(call["became"] for call in self.calls)),
            "good answers": good.total(),
            "prompts answered well more than once": sum(count - 1 for count in good.values()),
            "at most, in flight at the kills": self.kills * CONCURRENCY,
            "delivered, by the server": sum(call["became"] == "delivered" for call in self.calls),
            "delivered, by the ledger": outcomes["delivered"],
            "open in the ledger since a kill": outcomes["open"],
            "delivered in the last run, by the server": sum(c["became"] == "delivered" for c in self.last_calls),
            "delivered in the last run, by the ledger": sum(row[0] == "delivered" for row in self.last_rows),
            "billed by the server, USD": self._billed(self.calls),
            "spent by the ledger, USD": self._spent(self.rows),
            "answers in the cache": self.answers,
        }

    @staticmethod
    def _billed(calls: list[dict[str, Any]]) -> float:
        return sum(call["prompt_tokens"] * PRICE[0] + call["completion_tokens"] * PRICE[1] for call in calls) / 1e6

    @staticmethod
    def _spent(rows: list[tuple[Any, ...]]) -> float:
        counted = {"delivered": lambda most, spent: most if spent is None else spent, "unbilled": lambda *_: 0}
        return sum(counted.get(outcome, lambda most, _: most)(most, spent) for outcome, most, spent in rows) / 1e12

    def check(self) -> None:
        said = self.counts
        assert said["questions"] >= self.users * 0.9 and said["failed at the end"] == 0
        assert said["prompts answered well more than once"] <= said["at most, in flight at the kills"]
        lost = said["delivered, by the server"] - said["delivered, by the ledger"]
        assert 0 <= lost <= said["open in the ledger since a kill"] <= said["at most, in flight at the kills"]
        assert said["delivered in the last run, by the server"] == said["delivered in the last run, by the ledger"]
        assert said["spent by the ledger, USD"] >= said["billed by the server, USD"]


def run(folder: Path, *, users: int, kills: int, seed: int, faults: float = 0.2, whole: bool = False) -> Books:
    """Ask about so many users, kill the process at random moments, and start it again until everybody is answered.

    `whole`: by `edt augment` itself on a shop of its own; else only what stands between it and the provider.
    """
    draw, workspace = random.Random(seed), folder / "ws"
    if whole:
        write_shop(folder, users)
        files = ("--domain-file", str(folder / "a.csv"), "--domain-file", str(folder / "b.csv"))
        output(edt("data", "prepare", "shop", *files, workspace=workspace))
    with server(seconds=0.02, faults=faults, hang=TIMEOUT + 2, seed=seed, log=True) as url:
        log = log_of(url)
        command = [
            *("-c", MAIN, "augment", "--data", "shop", "--direction", "both", "--yes", "--json"),
            "--retry-failed",
            *("--provider", "openai/served", "--api-base", url, "--price", f"{PRICE[0]},{PRICE[1]}"),
            *("--set", f"limits.timeout={TIMEOUT}", "--set", "limits.backoff=0.02"),
            *("--set", "augmentation.ask=1"),  # fewer texts to embed
        ]
        if not whole:
            command = [str(STACK), str(workspace), url, str(users)]
        for number in range(kills):
            before = len(read_log(log))
            process = start(*command, workspace=workspace)
            wanted = before + draw.randint(users // 10, users // 4)
            while len(read_log(log)) < wanted and process.poll() is None:
                time.sleep(0.02)
            time.sleep(draw.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
            _, err = process.communicate()
            assert process.returncode == -signal.SIGKILL, f"kill {number}: it had ended already: {err[-2000:]}"
        for _ in range(6):
            time.sleep(0.2)  # what the server was still at for the one that was killed
            seen, known = len(read_log(log)), set(_rows(workspace, "command"))
            summary = json.loads(output(start(*command, workspace=workspace)))
            if not summary["failed"]:
                break
        time.sleep(0.2)
        calls = read_log(log)
    commands = set(_rows(workspace, "command")) - known
    last = [row[:3] for row in _rows(workspace, "outcome, most, spent, command") if (row[3],) in commands]
    cache = ReplyCache(workspace / "cache")
    answers = sum("reply" in entry and not entry.get("rejected") for _, entry in cache.entries())
    rows = _rows(workspace, "outcome, most, spent")
    return Books(users, kills, calls, rows, calls[seen:], last, summary, answers)


def _rows(workspace: Path, columns: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(workspace / "ledger.db") as database:
        return database.execute(f"SELECT {columns} FROM calls").fetchall()
