"""How the tests run; what several of them share is in `support/`, which is on the path."""

from __future__ import annotations

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several workers whose threads wait for each other on the same cores take many times as long.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A real model takes minutes and packages that compile: only where it is asked for."""
    if "real_model" in config.getoption("-m"):
        return
    for item in items:
        if item.get_closest_marker("real_model"):
            item.add_marker(pytest.mark.skip(reason="a real model answers only with -m real_model"))
