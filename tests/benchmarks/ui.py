"""What the terminal app costs: python tests/benchmarks/ui.py [start|keys|redraw|memory|training ...]

start     from the command to the first screen with rows, 500 runs and 50 jobs in the workspace, under a pseudo-terminal
keys      CPU time of a key press among 100,000 users
redraw    CPU time of drawing two curves of 10,000 points anew, and of a whole poll of the live view
memory    resident memory of the view while a run makes 300 epochs, then 3,000
training  seconds of the same training with the view and without, in turn
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "ui"))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from made import beat, dataset_of, epochs, events_of, run
from terminals import Terminal

from edt_cli.data.saved import save
from edt_cli.ui.app import EdtApp
from edt_cli.ui.chart import Chart
from edt_cli.ui.curves import Curve
from edt_cli.ui.rows import Rows
from edt_cli.ui.screenshots import press, settled
from edt_cli.workspace.event_types import EpochEnded
from edt_cli.workspace.events import Events
from edt_cli.workspace.jobs import jobs_of
from edt_cli.workspace.layout import Workspace

SIZES = ((80, 24), (160, 48))
TRAIN = ("train", "--model", "sasrec", "--encoder", "id", "--device", "cpu", "--set", "training.patience=10000")


def start(place: Path) -> None:
    """Every run has its plan, its events, and every second one results. What is imported is compiled before."""
    workspace = Workspace(place)
    made = dataset_of({f"U{user}": ["a1", "a2", "b1", "b2"][:: 1 - 2 * (user % 2)] for user in range(50)})
    for number in range(500):
        run(workspace, f"pair-sasrec-s{number}", {"epochs": 40}, finished=bool(number % 2), seed=number, made=made)
    for number in range(50):
        job = workspace.jobs / f"20260921-{number:06d}-train-pair-{number}"
        events_of(job, [{"event": "job"}, {"event": "run", "run": f"pair-sasrec-s{number}"}, {"event": "ended"}])
        beat(job, pid=2**22 + 1)
    # As in an installed package, which is compiled when it is installed.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(place.with_name("compiled"))
    for way in ("compiling", "once", "again", "again"):
        began = time.perf_counter()
        terminal = Terminal(place, "ui")
        terminal.wait("LLM-EDT")
        seconds = time.perf_counter() - began
        used = psutil.Process(terminal.pid).cpu_times()
        terminal.press("q")
        terminal.end()
        cpu = used.user + used.system
        tell(f"start, 500 runs, 50 jobs, {way}: {seconds:.2f} s to the first rows, {cpu:.2f} s of CPU")


def keys(place: Path) -> None:
    workspace = Workspace(place)
    made = dataset_of({f"U{user:06d}": ["a1", "b1", "a2", "b2"] for user in range(100_000)})
    with workspace.dataset("many").create(data_key="k", synthetic=True) as (folder, manifest):
        manifest |= save(made, folder)

    async def pressed(size: tuple[int, int]) -> None:
        app = EdtApp(workspace, ascii_only=False, colour=True)
        async with app.run_test(size=size) as pilot:
            began = time.perf_counter()
            await press(pilot, ["5"])
            loaded = time.perf_counter() - began
            rows = app.screen.query_one("#pane-users Rows", Rows)
            assert rows.count == 100_000
            for key, times in (("j", 200), ("pagedown", 200), ("G", 1), ("k", 100)):
                before = time.process_time()
                for _ in range(times):
                    await pilot.press(key)
                each = (time.process_time() - before) / times * 1000
                tell(f"keys, 100,000 users, {size[0]}x{size[1]}, {key}: {each:.1f} ms CPU a press")
            tell(f"keys: the section was there after {loaded:.2f} s")

    for size in SIZES:
        asyncio.run(pressed(size))


def redraw(place: Path) -> None:
    curves = {
        "first": Curve((x, math.sin(x / 300) + 0.2 * math.sin(x * 7)) for x in range(10_000)),
        "second": Curve((x, 0.5 + x / 20_000 + 0.1 * math.cos(x * 3)) for x in range(10_000)),
    }
    folder = run(Workspace(place), "long", {"epochs": 10_000, "of": 20_000})
    beat(folder, pid=os.getpid(), time=4e9)

    async def drawn(size: tuple[int, int]) -> None:
        app = EdtApp(Workspace(place), folder, ascii_only=False, colour=True)
        async with app.run_test(size=size) as pilot:
            await settled(pilot)
            chart = app.screen.query_one("#ndcg", Chart)
            before = time.process_time()
            for _ in range(20):
                chart.draw_now(curves, *size)
            each = (time.process_time() - before) / 20 * 1000
            tell(f"redraw, two curves of 10,000 points over {size[0]}x{size[1]}: {each:.1f} ms CPU")
            while app.screen.followed.run.state.phase.epoch < 10_000:
                await pilot.pause(0.1)
            before, polls = time.process_time(), 20
            for number in range(polls):
                with (folder / "events.jsonl").open("a") as file:
                    file.write(json.dumps({**epochs("pre-training", 1, 2)[-1], "epoch": 10_001 + number}) + "\n")
                await app.screen.poll()
                await pilot.pause()
            each = (time.process_time() - before) / polls * 1000
            tell(f"redraw, a poll of the live view with a new epoch, {size[0]}x{size[1]}: {each:.1f} ms CPU")

    for size in SIZES:
        asyncio.run(drawn(size))


def memory(place: Path) -> None:
    folder = run(Workspace(place), "growing", {"epochs": 0, "of": 3000})
    beat(folder, pid=os.getpid(), time=4e9)
    events = Events(folder)

    async def grown() -> None:
        app = EdtApp(Workspace(place), folder, ascii_only=False, colour=True)
        process = psutil.Process()
        async with app.run_test(size=(160, 48)) as pilot:
            await settled(pilot)
            for n, record in enumerate(epochs("pre-training", 3000, 3000)[2:], start=1):
                told = {key: value for key, value in record.items() if key != "event"}
                events.emit(EpochEnded(**told))
                await app.screen.poll()
                await pilot.pause()
                if n in (20, 100, 300, 1000, 3000):
                    tell(f"memory, epoch {n}: {process.memory_info().rss / 2**20:.1f} MiB resident")

    asyncio.run(grown())


def _share_of_a_core(terminal: Terminal) -> float:
    """CPU seconds of the process in the terminal (not of its children) a second, while it trains."""
    process = psutil.Process(terminal.pid)
    terminal.pump(10)
    before, began = process.cpu_times(), time.perf_counter()
    share = 0.0
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        terminal.pump(0.5)
        try:
            now = process.cpu_times()
        except psutil.Error:
            break
        used = now.user + now.system - before.user - before.system
        share = used / (time.perf_counter() - began)
    return share


def training(place: Path, pairs: int = 4, count: int = 12) -> None:
    """The view is at 80x24 and read all the time; without it the same detached process makes the run."""
    from edt_cli.data.prepare import ensure_demo

    ensure_demo(Workspace(place))
    found: dict[bool, list[float]] = {True: [], False: []}
    for pair in range(pairs):
        for viewed in (True, False) if pair % 2 else (False, True):
            for folder in ("runs", "jobs"):
                shutil.rmtree(place / folder, ignore_errors=True)
            arguments = (*TRAIN, "--epochs", str(count), "--seeds", "1")
            terminal = Terminal(place, *arguments, *(() if viewed else ("--no-ui",)))
            share = _share_of_a_core(terminal)
            assert terminal.end(580) == 0
            assert len(jobs_of(Workspace(place))) == 1
            (manifest,) = (json.loads(path.read_text()) for path in (place / "runs").glob("*/manifest.json"))
            found[viewed].append(manifest["phases"]["pre-training"]["seconds"])
            told = f" (the view took {share:.1%} of a core)" if viewed else ""
            tell(f"training, {'with' if viewed else 'without'} the view: {found[viewed][-1]:.2f} s{told}")
    ratios = [viewed / plain for viewed, plain in zip(found[True], found[False], strict=True)]
    tell(
        f"training, {pairs} pairs of {count} epochs: with / without, median {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f})"
    )


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


PARTS = {part.__name__: part for part in (start, keys, redraw, memory, training)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS))
    for name in parser.parse_args().parts:
        with tempfile.TemporaryDirectory() as folder:
            PARTS[name](Path(folder) / "ws")
