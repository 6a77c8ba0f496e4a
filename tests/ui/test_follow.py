"""The tail of a run's events, whatever happens to the file; and what the events amount to."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path

import pytest

from edt_cli.ui.curves import LIMIT, Curve
from edt_cli.ui.state import RunState
from edt_cli.workspace.event_types import Resumed, event_of
from edt_cli.workspace.events import Events
from edt_cli.workspace.tail import LONGEST_LINE, Tail


def line(n: int, **fields: object) -> bytes:
    return json.dumps({"n": n, "time": 1000.0 + n, "event": "epoch", **fields}).encode() + b"\n"


def epoch(n: int, **fields: object) -> dict[str, object]:
    facts = {"phase": "pre-training", "epoch": n, "epochs": 300, "step": 6 * n, "seconds": 2.0 * n, "patience": 5}
    losses = {"next_item": 1 / (n + 1), "align": 8.0}
    return {"event": "epoch", "time": 1000.0 + n, **facts, "losses": losses, "ndcg": {"garden": n / 300}, **fields}


def numbers(tail: Tail) -> list[int]:
    return [event.n for event in tail.read()[0]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def test_only_what_is_new_and_a_torn_last_line_when_it_is_whole(path):
    tail = Tail(path)
    assert tail.read() == ([], False)
    path.write_bytes(line(1) + line(2)[:20])
    assert numbers(tail) == [1]
    assert numbers(tail) == []
    with path.open("ab") as file:
        file.write(line(2)[20:] + line(3))
    assert numbers(tail) == [2, 3]
    assert tail.restarts == 0


def test_a_line_torn_by_a_kill_is_passed_over(tmp_path, path):
    path.write_bytes(line(1) + line(2)[:20])
    tail = Tail(path)
    assert numbers(tail) == [1]
    Events(tmp_path).emit(Resumed())
    assert [event.event for event in tail.read()[0]] == ["resumed"]


def test_a_truncated_file_begins_anew(path):
    tail = Tail(path)
    path.write_bytes(line(1) + line(2) + line(3))
    assert numbers(tail) == [1, 2, 3]
    assert tail.offsets == [0, len(line(1)), len(line(1) + line(2))]
    path.write_bytes(line(7))
    assert numbers(tail) == [7]
    assert tail.restarts == 1


def test_a_replaced_file_begins_anew_though_it_is_longer(path):
    tail = Tail(path)
    path.write_bytes(line(1))
    assert numbers(tail) == [1]
    other = path.with_name("other")
    other.write_bytes(line(4) + line(5) + line(6))
    other.replace(path)
    assert numbers(tail) == [4, 5, 6]
    assert tail.restarts == 1


def test_a_file_that_goes_away_and_comes_back(path):
    tail = Tail(path)
    path.write_bytes(line(1))
    assert numbers(tail) == [1]
    path.unlink()
    assert numbers(tail) == []
    path.write_bytes(line(2) + line(3))
    assert numbers(tail) == [2, 3]


def test_damaged_and_monstrous_lines_are_passed_over(path):
    monster = b'{"event": "x", "message": "' + b"y" * (3 * LONGEST_LINE) + b'"}\n'
    path.write_bytes(b"\xff\xfe\n[1]\n{}\nnull\n" + line(1) + monster + line(2))
    tail = Tail(path)
    found: list[int] = []
    for _ in range(5):
        found += numbers(tail)
        assert all(path.read_bytes()[at:].startswith(line(n)) for at, n in zip(tail.offsets, found, strict=False))
    assert found == [1, 2]


def test_a_long_file_comes_in_parts(path):
    path.write_bytes(b"".join(line(n, message="m" * 300) for n in range(6000)))
    tail = Tail(path)
    first, more = tail.read(events=100)
    assert more and 100 <= len(first) < 6000
    found = [event.n for event in first]
    while more:
        events, more = tail.read()
        found += [event.n for event in events]
    assert found == list(range(6000))


def test_a_curve_keeps_its_extremes_in_bounded_memory():
    points = [(x, math.sin(x / 50) + (5 if x == 7777 else 0)) for x in range(10_000)]
    curve = Curve(points)
    assert len(curve) <= LIMIT
    assert max(high for _, _, high in curve) == max(y for _, y in points)
    assert min(low for _, low, _ in curve) == min(y for _, y in points)
    xs = [x for x, _, _ in curve]
    assert xs == sorted(xs) and xs[0] == 0 and xs[-1] > 9_900


def test_what_is_no_number_is_a_gap_and_an_epoch_told_twice_counts_once():
    curve = Curve([(0, 1.0), (1, math.nan), (2, None), (3, math.inf), (4, 2.0), (3, 9.0)])
    assert [math.isnan(low) for _, low, _ in curve] == [False, True, True, True, False]
    assert curve.last == 2.0


def fold(state: RunState, record: dict) -> None:
    """As the line of a file; damaged ones are left out."""
    event = event_of(json.dumps(record).encode())
    if event is not None:
        state.fold(event)


def test_the_state_of_a_run():
    state = RunState()
    fold(state, {"event": "run", "run": "demo-x", "time": 1000.0, "message": "training demo-x on cpu"})
    assert state.status == "working"
    fold(state, {"event": "phase", "phase": "pre-training", "time": 1000.5})
    for n in range(10):
        fold(state, epoch(n, best_epoch=min(n, 6), patience=5 - max(0, n - 6)))
    phase = state.phase
    assert state.status == "training" and phase is not None
    assert (phase.epoch, phase.epochs, phase.best_epoch, phase.patience) == (9, 300, 6, 2)
    assert phase.best == {"garden": 6 / 300} and phase.last == {"garden": 9 / 300}
    assert set(phase.losses) == {"next_item", "align"}
    assert phase.left() == pytest.approx(2.0 * 291)
    fold(state, {"event": "paused"})
    assert state.status == "paused"
    fold(state, {"event": "resumed"})
    assert state.status == "training"
    fold(state, {"event": "stopped", "request": "stop-now"})
    assert state.status == "stopped" and state.ended


def test_samples_a_second_from_two_heartbeats():
    state = RunState()
    fold(state, {"event": "phase", "phase": "pre-training"})
    for moment, step in ((10.0, 100), (13.0, 160)):
        beat = {"time": moment, "stage": "pre-training epoch 3", "done": step % 100, "total": 100}
        state.beat({**beat, "phase": "pre-training", "step": step}, batch_size=512)
    assert state.speed == pytest.approx(60 * 512 / 3)


def test_the_money_of_an_llm_stage_with_whatever_fields_there_are():
    state = RunState()
    fold(state, {"event": "calls", "calls": 3})
    state.beat({"stage": "augment", "done": 4, "total": 9, "spent_usd": 0.5, "failed": {"no JSON": 2}})
    fold(state, {"event": "calls", "last": {"text": "\x1b[31mred"}, "spent_usd": None})
    assert state.llm == {"calls": 3, "spent_usd": 0.5, "failed": {"no JSON": 2}, "last": {"text": "\x1b[31mred"}}


def test_rubbish_in_events_is_no_error():
    state = RunState()
    for record in (
        {"event": "epoch", "epoch": "x", "losses": None, "ndcg": {"a": "b"}, "time": "y"},
        {"event": "ended", "outcome": 7},
        {"event": "init"},
        {"event": "__class__"},
        {"event": "phase", "phase": "\x1b[2J" + "z" * 10_000},
    ):
        fold(state, record)
    assert all("\x1b" not in name and len(name) <= 40 for name in state.phases)


def test_300_epochs_and_thousands_more_take_no_memory():
    state = RunState()
    for n in range(300):
        fold(state, epoch(n, message=f"epoch {n} " + "m" * 200))
    for n in range(300, 3000):
        fold(state, epoch(n, message=f"epoch {n} " + "m" * 200))
    tracemalloc.start()
    for n in range(3000, 9000):
        fold(state, epoch(n, message=f"epoch {n} " + "m" * 200))
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 1_500_000
