"""Table 3's rows as settings, and what the systems of table 2 have alike."""

from __future__ import annotations

from typing import Any

ABLATED = "llm-edt-ce"
"""The preset that parts are taken out of where none is named."""
ABLATIONS: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "aug": ("w/o Aug.", {"augmentation": {"enabled": False}}),
    "filtering": ("w/o Filtering", {"augmentation": {"filter": False}}),
    "inserting": ("w/o Inserting", {"augmentation": {"insertion": "end"}}),
    "random-inserting": ("Random Inserting", {"augmentation": {"insertion": "random"}}),
    "dft": ("w/o DFT", {"options": {"finetune": False, "threads": "adapters"}}),
    "profiling": ("w/o Profiling", {"profiling": {"enabled": False}}),
    "sra": ("w/o S-R-A", {"profiling": {"chain": "naive"}}),
}
"""Every row of table 3: its name there, and the settings that make it."""

MATCH_PAPER: dict[str, dict[str, Any]] = {"model": {"hidden": 128}, "training": {"batch": 512}}
"""What all systems of table 2 have alike (section 4.1.3)."""
