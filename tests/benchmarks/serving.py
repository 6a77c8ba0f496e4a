"""Load test of `edt serve` on loopback: latencies and requests a second, of so many clients at once.

    python tests/benchmarks/serving.py --workspace edt-workspace --data demo --clients 200 --requests 10000

It starts the server itself, asks for ten items of a random user of the data in both domains, and prints one line.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import numpy as np

from edt_cli.data.open import open_dataset
from edt_cli.workspace.layout import Workspace


def started(workspace: Path, data: str, batch: int) -> tuple[subprocess.Popen[str], str]:
    """Start a server; return it with its address."""
    command = [sys.executable, "-m", "edt_cli", "serve", "--data", data, "--port", "0", "--batch", str(batch)]
    server = subprocess.Popen([*command, "--workspace", str(workspace)], stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    for line in server.stderr:
        if found := re.search(r"http://\S+:\d+", line):
            return server, found[0]
    raise SystemExit(f"the server ended with {server.wait()}")


async def load(address: str, users: list[str], clients: int, requests: int) -> tuple[np.ndarray, float]:
    """Send requests from `clients` clients at once; return the seconds of each, and of all together."""
    draw = np.random.default_rng(0)
    waiting = iter(draw.choice(users, requests).tolist())
    seconds: list[float] = []

    async def ask(session: aiohttp.ClientSession, user: str) -> None:
        async with session.post("/recommend", json={"user": user}) as response:
            response.raise_for_status()
            await response.read()

    async def client(session: aiohttp.ClientSession) -> None:
        for user in waiting:
            since = time.perf_counter()
            await ask(session, user)
            seconds.append(time.perf_counter() - since)

    # httpx looks through a pool at each request: with 200 connections it is slower than the server.
    connector, timeout = aiohttp.TCPConnector(limit=clients), aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(address, connector=connector, timeout=timeout) as session:
        for user in users[:20]:
            await ask(session, user)
        since = time.perf_counter()
        await asyncio.gather(*(client(session) for _ in range(clients)))
        return np.array(seconds), time.perf_counter() - since


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, default=Path("edt-workspace"))
    parser.add_argument("--data", default="demo")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=64)
    args = parser.parse_args()
    users = list(open_dataset(Workspace.find(args.workspace), args.data).user_ids)
    server, address = started(args.workspace, args.data, args.batch)
    try:
        seconds, total = asyncio.run(load(address, users, args.clients, args.requests))
    finally:
        server.terminate()
        server.wait(30)
    p50, p99 = 1e3 * np.quantile(seconds, [0.5, 0.99])
    sys.stdout.write(
        f"{args.clients} clients: {len(seconds) / total:,.0f} requests/s, p50 {p50:.0f} ms, p99 {p99:.0f} ms\n"
    )


if __name__ == "__main__":
    main()
