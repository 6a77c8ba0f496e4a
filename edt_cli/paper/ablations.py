"""Settings of the ablations of table 3, and settings that all systems of table 2 share."""

from __future__ import annotations

from typing import Any

ABLATED = "llm-edt-ce"
"""Preset from which an ablation removes a part, unless another preset is named."""
ABLATIONS: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "aug": ("w/o Aug.", {"augmentation": {"enabled": False}}),
    "filtering": ("w/o Filtering", {"augmentation": {"filter": False}}),
    "inserting": ("w/o Inserting", {"augmentation": {"insertion": "end"}}),
    "random-inserting": ("Random Inserting", {"augmentation": {"insertion": "random"}}),
    "dft": ("w/o DFT", {"options": {"finetune": False, "threads": "adapters"}}),
    "profiling": ("w/o Profiling", {"profiling": {"enabled": False}}),
    "sra": ("w/o S-R-A", {"profiling": {"chain": "naive"}}),
}
"""Rows of table 3: the name printed there, and the settings of the row."""

MATCH_PAPER: dict[str, dict[str, Any]] = {"model": {"hidden": 128}, "training": {"batch": 512}}
"""Settings shared by all systems of table 2 (section 4.1.3)."""
