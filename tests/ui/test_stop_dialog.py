from __future__ import annotations

from edt_cli.ui.dialogs import Stop


def test_an_llm_job_is_stopped_in_words_of_calls_and_money():
    text = Stop(training=False, llm={"new": 1240, "spent_usd": 0.01234}).text()
    assert text.startswith(
        "Stop this job?\n\n1,240 new calls, 0.0123 USD so far; calls under way come to their end."
    )
    assert "epoch" not in text and "every reply so far is kept" in text
    assert "0 new calls, 0.0000 USD" in Stop(training=False, llm={"spent_usd": None}).text()


def test_other_work_is_not():
    run, job = Stop(training=True).text(), Stop(training=False).text()
    assert "after this epoch" in run and "USD" not in run and "USD" not in job
