"""A plan of runs, such as table 2: datasets times systems times seeds, under one budget and one evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from edt_cli.config import (
    EvaluationSettings,
    KeepSeen,
    Section,
    Settings,
    UsageError,
    load_settings,
    parse_assignments,
    read_toml,
    validated,
)
from edt_cli.inference.labels import label_of, otherwise, shown_preset
from edt_cli.models.systems import checked, system
from edt_cli.paper.ablations import MATCH_PAPER

if TYPE_CHECKING:
    from typing import Self

Values = dict[str, dict[str, bool | int | float | str]]


class Budget(Section):
    """What every system may use, whatever its preset says. A phase that this ended could have gone on to better:
    its run is marked, and no claim rests on it."""

    epochs: int = Field(200, ge=1, description="at most; of LLM-EDT's second phase its own setting is the most")
    minutes: float | None = Field(None, gt=0, description="at most, of each phase")


class PlannedSystem(Section):
    model: str
    preset: str | None = Field(None, description="settings by name; without it the model's own")
    label: str | None = Field(None, description="its row; without it as tables name a run")
    seeds: list[int] | None = Field(None, min_length=1, description="its own, in place of the plan's")
    settings: Values = Field(default_factory=dict)
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)

    @property
    def preset_name(self) -> str:
        return self.preset or system(self.model).preset_name

    def told(self) -> dict[str, Any]:
        """What it sets otherwise than its preset, by flat name."""
        preset = load_settings(self.preset or system(self.model).preset, environment={})
        sections = {**self.settings, "options": self.options}
        own = {f"{section}.{field}": value for section in sections for field, value in sections[section].items()}
        return otherwise(own, preset)


class Plan(Section):
    """A plan file. `method`: the model whose rows are tested against the best of the others."""

    data: list[str] = Field(min_length=1)
    systems: list[PlannedSystem] = Field(min_length=1)
    seeds: list[int] = Field([42], min_length=1)
    method: str = "llm-edt"
    protocols: list[Literal["full", "sampled"]] = Field(["full", "sampled"], min_length=1)
    negatives: int = Field(100, ge=1, description="of the sampled protocol")
    keep_seen: KeepSeen = "auto"
    match_paper: bool = Field(False, description="hidden size 128 and batch 512 over every preset")
    budget: Budget = Budget()
    settings: Values = Field(default_factory=dict, description="of every system, over its preset")

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Errors: UserError for an unreadable file; UsageError for one that makes no plan."""
        return validated(cls, read_toml(path))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        common: Values = {
            "training": {"epochs": self.budget.epochs, "seed": 0, "minutes": 0, "train_on": "train"},
            "model": {"name": ""},
            "evaluation": dict.fromkeys(EvaluationSettings.model_fields, ""),
        }
        if self.match_paper:
            common = {section: {**common[section], **MATCH_PAPER.get(section, {})} for section in common}
        for values in (self.settings, *(one.settings for one in self.systems)):
            for section, fields in values.items():
                for field in fields:
                    if field in common.get(section, {}):
                        raise ValueError(f"{section}.{field} is the plan's, alike for all systems")
        for several in (self.data, self.seeds, self.protocols):
            if len(set(several)) != len(several):
                raise ValueError(f"{several} names one twice")
        return self

    @property
    def evaluations(self) -> list[EvaluationSettings]:
        common = {"negatives": self.negatives, "keep_seen": self.keep_seen}
        return [EvaluationSettings.model_validate({"protocol": name, **common}) for name in self.protocols]

    def labels(self) -> list[str]:
        """The row of each system. What it sets otherwise than its preset is told where the preset is, or where the
        system has several rows; what the plan sets for all is not. Errors: UsageError for an unknown model or
        preset, or rows that cannot be told apart."""
        names = [one.model for one in self.systems]
        found = []
        for one in self.systems:
            tells = shown_preset(one.model, one.preset_name) or names.count(one.model) > 1
            found.append(one.label or label_of(one.model, one.preset_name, one.told() if tells else {}))
        if twice := [label for label in found if found.count(label) > 1]:
            raise UsageError(f"two systems of the plan are both {twice[0]!r}: give one of them a label")
        return found

    def cells(self) -> list[Cell]:
        """Every run, in the order in which they are made. Errors: UsageError for settings that no run can have."""
        common: Values = {
            "training": {"epochs": self.budget.epochs, "minutes": self.budget.minutes or "none"},
            "evaluation": {"negatives": self.negatives, "keep_seen": self.keep_seen},
        }
        matched = MATCH_PAPER if self.match_paper else {}
        found = []
        for data in self.data:
            for one, label in zip(self.systems, self.labels(), strict=True):
                values: Values = {"options": one.options}
                for part in (self.settings, one.settings, matched, common):
                    for section, fields in part.items():
                        values[section] = {**values.get(section, {}), **fields}
                seeds = one.seeds or self.seeds
                found += [
                    Cell(
                        data=data,
                        label=label,
                        model=one.model,
                        preset=one.preset,
                        preset_name=one.preset_name,
                        seed=seed,
                        values=values,
                    )
                    for seed in seeds
                ]
        for cell in found:
            cell.settings()
        return found


@dataclass(frozen=True, eq=False)
class Cell:
    """One run of a plan; a key by itself. `preset`: as the plan names it, None for the model's own, whose name is
    `preset_name`."""

    data: str
    label: str
    model: str
    preset: str | None
    preset_name: str
    seed: int
    values: Mapping[str, Mapping[str, Any]]

    def __str__(self) -> str:
        return f"{self.label} on {self.data}, seed {self.seed}"

    @property
    def assignments(self) -> list[str]:
        """As `edt train --set` takes them, so that its process has the settings that are planned here."""
        return [
            f"{section}.{field}={str(value).lower() if isinstance(value, bool) else value}"
            for section, fields in self.values.items()
            for field, value in fields.items()
        ]

    def settings(self) -> Settings:
        flags = parse_assignments(self.assignments)
        flags["model"] = {**flags.get("model", {}), "name": self.model}
        flags["training"] = {**flags["training"], "seed": self.seed}
        return checked(load_settings(self.preset or system(self.model).preset, flags=flags))

    def arguments(self, device: str) -> list[str]:
        """Of the `edt` that makes this run."""
        found = ["train", "--data", self.data, "--model", self.model, "--seeds", str(self.seed), "--device", device]
        found += ["--preset", self.preset] if self.preset else []
        return found + [part for one in self.assignments for part in ("--set", one)]
