"""The reforming instruction of section 3.4.2: five degrees of domain imbalance."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "prompts" / "instructions.toml"


@cache
def _degrees() -> list[dict[str, Any]]:
    degrees: list[dict[str, Any]] = tomllib.loads(FILE.read_text("utf-8"))["degree"]
    return degrees


def degree(r: np.ndarray) -> np.ndarray:
    """Return the degree of each imbalance r [U], from 0 (balanced) to 4 (nearly all in one domain)."""
    return np.searchsorted([entry["below"] for entry in _degrees()[:-1]], r, side="right")


def others(dominant: int, domains: Sequence[str]) -> str:
    """Return the names of all domains but the dominant one."""
    return ", ".join(name for number, name in enumerate(domains) if number != dominant) or "other domains"


def instruction(degree: int, dominant: int, domains: Sequence[str]) -> str:
    """Return the instruction for a degree and a dominant domain, before an LLM reforms it."""
    text = Template(_degrees()[degree]["text"])
    return text.substitute(dominant=domains[dominant], other=others(dominant, domains))
