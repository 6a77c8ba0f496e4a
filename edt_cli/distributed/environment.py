"""What torchrun, or the leader, tells a process in its environment. Imports nothing heavy."""

from __future__ import annotations

import os


def under_torchrun() -> bool:
    """Return whether torchrun, or a leader, has started this process among several."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def follows() -> bool:
    """Return whether this process follows another one."""
    return under_torchrun() and int(os.environ.get("RANK", 0)) > 0
