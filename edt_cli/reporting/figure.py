"""Figures as data: panels of series with raw numbers, which the terminal, matplotlib and tables draw from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edt_cli.reporting.table import Measure, Table

Kind = Literal["bars", "lines", "points"]
"""Bars over categories, lines over numbers, or points in a plane."""


@dataclass(frozen=True)
class Axis:
    """Axis of a figure."""

    label: str
    unit: str = ""
    """Unit of its numbers, such as `ms`; "" for shares, counts and metrics."""
    log: bool = False
    ticks: bool = True
    """Whether its numbers mean something; those of t-SNE do not."""

    @property
    def heading(self) -> str:
        """Label with the unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True)
class Series:
    """Values of one system, or of one state of the data."""

    label: str
    x: tuple[str | float, ...]
    """Categories of bars, else numbers."""
    y: tuple[Measure | None, ...]
    """A value for each x, with its deviation over seeds and its flag; None is not there yet."""

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"{self.label!r} has {len(self.x)} x and {len(self.y)} y")


@dataclass(frozen=True)
class Panel:
    """Part of a figure with scales of its own, such as one for each domain."""

    title: str
    series: tuple[Series, ...]
    counts: tuple[int, ...] = ()
    """Number of users behind each category of bars, if it is known."""


@dataclass(frozen=True)
class Figure:
    """Figure with a title, axes, panels and notes."""

    title: str
    kind: Kind
    x: Axis
    y: Axis
    panels: tuple[Panel, ...]
    notes: tuple[str, ...] = ()
    number: int | None = None
    """Number of the figure in the paper, if it has one."""
    summary: Table | None = None
    """Table that stands for the figure where all its points would be too many."""

    @property
    def heading(self) -> str:
        """Title, with the number of the figure in the paper."""
        return self.title if self.number is None else f"Figure {self.number}. {self.title}"
