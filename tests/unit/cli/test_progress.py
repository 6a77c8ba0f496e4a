"""Progress where there is no terminal."""

from __future__ import annotations

from edt_cli.cli import common

STAGE = {"event": "progress", "stage": "embed profiles", "total": 26_000}


def test_embedding_has_a_line_every_ten_seconds_and_at_its_end(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(common.time, "monotonic", lambda: now[0])
    with common.progress() as listen:
        for seconds, done, left in ((4, 1000, 90.0), (11, 2000, 93.0), (15, 3000, 90.0), (16, 26_000, 0.0)):
            now[0] = 100.0 + seconds
            listen({**STAGE, "done": done, "seconds_left": left})
    assert capsys.readouterr().err.splitlines() == [
        "embed profiles: 2,000/26,000; 1.6 min left",
        "embed profiles: 26,000/26,000",
    ]


def test_steps_of_an_epoch_and_of_calls_have_none_of_their_own(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(common.time, "monotonic", lambda: now[0])
    with common.progress() as listen:
        now[0] += 60
        listen({"event": "progress", "stage": "pre-training", "done": 1, "total": 9})
        listen({**STAGE, "done": 1, "seconds_left": 3.0, "calls": 7})
        listen({**STAGE, "total": 0, "done": 0, "seconds_left": 0.0})
    assert capsys.readouterr().err == ""
