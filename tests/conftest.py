"""How the tests run; what several of them share is in `support/`, which is on the path."""

from __future__ import annotations

import os

import pytest

LONGEST = (
    "test_road",
    "test_terminal",
    "test_examples",
    "test_training",
    "test_app",
    "test_compare",
    "test_snapshots",
    "test_faults",
    "test_providers",
)
"""Files that begin first, so that one worker does not wait for a long one of the other at the end."""

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several workers whose threads wait for each other on the same cores take many times as long.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the order of the files: pytest-xdist would begin with those of the most tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first, and skip what takes minutes and packages that compile unless it is asked for."""
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
    if "real_model" in config.getoption("-m"):
        return
    for item in items:
        if item.get_closest_marker("real_model"):
            item.add_marker(pytest.mark.skip(reason="a real model answers only with -m real_model"))
