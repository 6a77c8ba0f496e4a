"""Nothing is lost, asked twice or left out of the books, whatever fails and whoever is killed.

The full run, 2,000 users through `edt augment` and three kills, is `tests/benchmarks/providers.py faults`.
"""

from __future__ import annotations

import pytest
from fault_run import run

pytestmark = pytest.mark.e2e


def test_a_small_fault_run(tmp_path):
    books = run(tmp_path, users=48, kills=1, seed=5, faults=0.35)
    books.check()
    seen = books.counts["by what became of them"]
    assert "delivered" in seen and len({"429", "500", "hang", "dropped"} & seen.keys()) >= 3, seen
    assert books.counts["answers in the cache"] >= 48
