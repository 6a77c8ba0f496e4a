"""How fast `edt data prepare` reads, beside `gzip -dc FILE | wc -l` on the same file, and its peak memory.

    python tests/benchmarks/prepare.py                      5 million lines of three fields
    python tests/benchmarks/prepare.py --layout full        the same with the text of the reviews, 490 bytes a line
    python tests/benchmarks/prepare.py --lines 30000000
    python tests/benchmarks/prepare.py --layout csv --lines 100000000

The file is generated (users and items with heavy tails, about as in the 2018 release) and kept in --folder for the
next time. Each command runs as a process of its own; its peak memory is what the kernel says of that process.
"""

from __future__ import annotations

import argparse
import gzip
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

CHUNK = 100_000
LAST_DAY, SPAN_DAYS = (
    1_538_697_600,
    3200,
)  # to October 2018, more from year to year: a quarter lies in the paper's window
RECIPES = {
    "every interaction kept": ("--window", "none", "--k-core", "none"),
    "the paper's window and passes": ("--window", "1514736000:1577808000", "--k-core", "paper"),
}


def drawn(draw: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return users, items and times of some lines."""
    users = (draw.pareto(1.2, count) * 40_000).astype(np.int64) % 1_500_000 * 2_654_435_761 % 16**13
    items = (draw.pareto(1.0, count) * 5_000).astype(np.int64) % 200_000 * 40_503 % 16**9
    times = LAST_DAY - (SPAN_DAYS * (1 - draw.random(count) ** (1 / 3))).astype(np.int64) * 86_400
    return users, items, times


def generate_csv(path: Path, lines: int) -> None:
    draw = np.random.default_rng(0)
    with path.open("wb") as file:
        for begin in range(0, lines, 10 * CHUNK):
            users, items, times = drawn(draw, min(10 * CHUNK, lines - begin))
            frame = pl.DataFrame({"user": users, "item": items, "time": times})
            named = frame.with_columns(
                pl.format("u{}", "user").alias("user"), pl.format("i{}", "item").alias("item")
            )
            named.write_csv(file, include_header=begin == 0)


def generate(path: Path, lines: int, layout: str) -> None:
    draw = np.random.default_rng(0)
    words = ["".join(draw.choice(list("etaoinshrdlu"), size=size)) for size in draw.integers(2, 9, 500)]
    texts = [" ".join(draw.choice(words, size=draw.integers(5, 90))) for _ in range(4000)]
    with gzip.open(path, "wb", compresslevel=6) as file:
        for begin in range(0, lines, CHUNK):
            count = min(CHUNK, lines - begin)
            users, items, times = drawn(draw, count)
            said = draw.integers(0, len(texts), count)
            rows = zip(users.tolist(), items.tolist(), times.tolist(), said.tolist(), strict=True)
            if layout == "slim":
                written = [
                    f'{{"reviewerID": "A{user:013X}", "asin": "B{item:09X}", "unixReviewTime": {at}}}\n'
                    for user, item, at, _ in rows
                ]
            else:
                written = [
                    '{"overall": 5.0, "verified": true, "reviewTime": "09 1, 2016", '
                    f'"reviewerID": "A{user:013X}", "asin": "B{item:09X}", "style": {{"Size:": " 8"}}, '
                    f'"reviewerName": "Name", "reviewText": "{texts[text]}", "summary": "Five Stars", '
                    f'"unixReviewTime": {at}}}\n'
                    for user, item, at, text in rows
                ]
            file.write("".join(written).encode())


def measured(*commands: list[str]) -> tuple[float, float, int]:
    """Seconds of a pipe of commands, seconds of CPU of its last one, and that one's peak memory in bytes."""
    began = time.perf_counter()
    processes: list[subprocess.Popen[bytes]] = []
    for command in commands:
        source = processes[-1].stdout if processes else None
        processes.append(subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE))
    output = processes[-1].stdout
    assert output is not None
    output.read()
    _, status, usage = os.wait4(processes[-1].pid, 0)
    if status:
        raise SystemExit(f"{' '.join(commands[-1])} failed")
    memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=5_000_000)
    parser.add_argument("--layout", choices=("slim", "full", "csv"), default="slim")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "edt-benchmark")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    flat = asked.layout == "csv"
    path = asked.folder / f"{asked.layout}-{asked.lines}{'.csv' if flat else '.json.gz'}"
    other = asked.folder / "other.csv"
    other.write_text("user,item,time\nnobody,nothing,1514800000\n")
    if not path.exists():
        making = path.with_suffix(".making")
        generate_csv(making, asked.lines) if flat else generate(making, asked.lines, asked.layout)
        making.replace(path)
    say = sys.stdout.write
    say(f"{path.name}: {asked.lines:,} lines, {path.stat().st_size / 1e6:,.0f} MB\n")
    read = "cat" if flat else "gzip -dc"
    plain, _, _ = measured([*read.split(), str(path)], ["wc", "-l"])
    say(f"{read} | wc -l: {plain:.2f} s, {asked.lines / plain:,.0f} lines/s\n")
    for name, options in RECIPES.items():
        with tempfile.TemporaryDirectory(dir=asked.folder) as workspace:
            edt = [sys.executable, "-c", "from edt_cli.cli.app import main; main()", "data", "prepare", "bench"]
            files = [
                "--domain-file",
                str(path),
                "--domain-file",
                str(other),
                "--domains",
                "a,b",
                "--workspace",
                workspace,
                "--json",
            ]
            seconds, busy, peak = measured([*edt, *files, *options])
        say(
            f"edt data prepare, {name}: {seconds:.2f} s, {asked.lines / seconds:,.0f} lines/s, "
            f"{seconds / plain:.2f} times that, {busy:.0f} s of CPU, peak {peak / 2**20:,.0f} MiB\n"
        )


if __name__ == "__main__":
    main()
