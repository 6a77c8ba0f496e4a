"""Plans of runs, such as table 2: datasets times systems times seeds, with one budget and one evaluation.

A plan says what it is a table of. The paper's tables are plans without data, which `edt reproduce` hands them.
A plan with a `stage` ends at that artefact of each system, and trains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from edt_cli.config import (
    EvaluationSettings,
    KeepSeen,
    Protocol,
    Section,
    Settings,
    UsageError,
    load_settings,
    parse_assignments,
    read_toml,
    validated,
)
from edt_cli.experiments.files import PLANS, find
from edt_cli.inference.labels import changed_settings, label_of, shown_preset
from edt_cli.models.llm_edt_options import Unsound, llm_edt_options
from edt_cli.models.systems import checked, limited, system
from edt_cli.paper.ablations import ABLATIONS, MATCH_PAPER
from edt_cli.pipeline.keys import LLMStage
from edt_cli.reporting.comparison import Against

if TYPE_CHECKING:
    from typing import Self

Values = dict[str, dict[str, bool | int | float | str]]
FIRST_PHASE = "dft"
"""Ablation that a run of the whole method shows, too, after its first phase."""
STAGE_COMMANDS: dict[LLMStage, str] = {"augmentation": "augment", "profiles": "profile"}
"""Command that makes the artefact of each stage."""


def merged(*layers: Mapping[str, Mapping[str, Any]]) -> Values:
    """Return settings by section and field; those of later layers count."""
    values: Values = {}
    for layer in layers:
        for section, fields in layer.items():
            values[section] = {**values.get(section, {}), **fields}
    return values


class Budget(Section):
    """Limits on the training of every system, whatever its preset says.

    A phase that a limit ended might have improved further: its run is marked, and no claim rests on it.
    """

    epochs: int = Field(
        200,
        ge=1,
        description="maximum number of epochs, except for LLM-EDT's second phase, which has its own setting",
    )
    minutes: float | None = Field(None, gt=0, description="maximum number of minutes for each phase")


class PlannedSystem(Section):
    """A system of a plan, with what it sets differently from the plan and its preset."""

    model: str
    preset: str | None = Field(None, description="name of a preset; by default that of the model")
    label: str | None = Field(None, description="label of its row; by default that of its runs in tables")
    group: str = Field("", description="group of its row; by default that of its model in table 2")
    ablation: str | None = Field(
        None,
        description="part of LLM-EDT to leave out, as with `edt train --ablate`; `dft` is the whole method after "
        "its first phase and trains nothing",
    )
    seeds: list[int] | None = Field(None, min_length=1, description="seeds in place of the plan's")
    settings: Values = Field(default_factory=dict)
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)

    @field_validator("ablation")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in ABLATIONS:
            raise ValueError(f"there is no ablation {value!r}; there are: {', '.join(ABLATIONS)}")
        return value

    @property
    def preset_name(self) -> str:
        return self.preset or system(self.model).preset_name

    @property
    def first_phase(self) -> bool:
        """Whether the row is what a run was worth after its first phase."""
        return self.ablation == FIRST_PHASE

    @property
    def own_settings(self) -> Values:
        """Settings of this row, those of its ablation among them."""
        ablated = {} if self.ablation is None or self.first_phase else ABLATIONS[self.ablation][1]
        return merged(ablated, self.settings)

    def changed_settings(self) -> dict[str, Any]:
        """Return the settings that differ from its preset, by flat name."""
        preset = load_settings(self.preset or system(self.model).preset, environment={})
        sections = merged(self.own_settings, {"options": self.options})
        values = {f"{section}.{field}": value for section in sections for field, value in sections[section].items()}
        return changed_settings(values, preset)


class Plan(Section):
    """A plan file."""

    data: list[str] = Field(default_factory=list, description="datasets; a plan without any is handed them")
    table: int | None = Field(None, ge=1, le=9, description="number of the paper's table that this is")
    figure: int | None = Field(
        None, ge=1, le=6, description="number of the paper's figure that this is the data of"
    )
    stage: LLMStage | None = Field(None, description="artefact to end at; nothing is trained")
    preset: str | None = Field(None, description="preset of the method's rows that name none")
    against: Against = "best"
    systems: list[PlannedSystem] = Field(min_length=1)
    seeds: list[int] = Field([42], min_length=1)
    departures: bool = Field(
        False, description="whether it is of the departures of the released code, and so may have unsound rows"
    )
    notes: list[str] = Field(default_factory=list, description="notes below its tables")
    method: str = "llm-edt"
    """Model whose rows are tested against the best of the other systems."""
    protocols: list[Protocol] = Field(["full", "sampled"], min_length=1)
    negatives: int = Field(100, ge=1, description="number of negatives of the protocols that sample")
    keep_seen: KeepSeen = "auto"
    match_paper: bool = Field(False, description="use hidden size 128 and batch size 512 with every preset")
    budget: Budget = Budget()
    settings: Values = Field(default_factory=dict, description="settings of every system, in place of its preset's")

    @classmethod
    def read(cls, given: Path) -> Plan:
        """Read a plan: a file, or by its name one that comes with edt.

        `like = "table-2"` in it takes the rest from that plan, except what that is a table of; `seeds` beside it
        are those of all systems.

        Raises:
            UserError: If the file cannot be read.
            UsageError: If there is no such plan, or it is not valid.
        """
        values = read_toml(find(given, PLANS))
        if "like" not in values:
            return validated(cls, values)
        base = cls.read(Path(str(values.pop("like"))))
        seeds = values.pop("seeds", ())
        return validated(cls, {**base.model_dump(exclude={"table", "figure"}), **values}).changed(seeds=seeds)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Check that no system overrides what the plan sets, and that no value is given twice."""
        common: Values = {
            "training": {"epochs": self.budget.epochs, "seed": 0, "minutes": 0, "train_on": "train"},
            "model": {"name": ""},
            "evaluation": dict.fromkeys(EvaluationSettings.model_fields, ""),
        }
        if self.match_paper:
            common = {section: {**common[section], **MATCH_PAPER.get(section, {})} for section in common}
        for values in (self.settings, *(entry.own_settings for entry in self.systems)):
            for section, fields in values.items():
                for field in fields:
                    if field in common.get(section, {}):
                        raise ValueError(f"{section}.{field} is set by the plan, alike for all systems")
        if self.table and self.figure:
            raise ValueError("a plan is of a table or of a figure, not of both")
        for choices in (self.data, self.seeds, self.protocols):
            if len(set(choices)) != len(choices):
                raise ValueError(f"{choices} has a value twice")
        return self

    def changed(
        self,
        *,
        data: Sequence[str] = (),
        seeds: Sequence[int] = (),
        preset: str | None = None,
        budget: Mapping[str, Any] | None = None,
        settings: Values | None = None,
    ) -> Plan:
        """Return this plan with other datasets, seeds of all systems, preset of the method, limits, or settings.

        Raises:
            UsageError: If a value is not valid.
        """
        values = self.model_dump()
        values["data"] = list(data) or self.data
        values["preset"] = preset or self.preset
        values["budget"] |= budget or {}
        values["settings"] = merged(self.settings, settings or {})
        if seeds:
            values["seeds"] = list(seeds)
            for entry in values["systems"]:
                entry["seeds"] = None
        return validated(Plan, values)

    @property
    def rows(self) -> list[PlannedSystem]:
        """Systems, each row of the method with the preset that it is made with."""
        return [
            entry.model_copy(update={"preset": entry.preset or self.preset})
            if entry.model == self.method
            else entry
            for entry in self.systems
        ]

    @property
    def evaluations(self) -> list[EvaluationSettings]:
        """Evaluation settings of each protocol."""
        common = {"negatives": self.negatives, "keep_seen": self.keep_seen}
        return [EvaluationSettings.model_validate({"protocol": name, **common}) for name in self.protocols]

    def labels(self) -> list[str]:
        """Return the label of each system's row.

        Settings that differ from the preset are in the label if it names the preset, or if the model has several
        rows. Settings of the whole plan are never in it.

        Raises:
            UsageError: If a model or a preset does not exist, or if two rows have the same label.
        """
        names = [entry.model for entry in self.systems]
        labels = []
        for entry in self.rows:
            shows_settings = shown_preset(entry.model, entry.preset_name) or names.count(entry.model) > 1
            label = entry.label or (ABLATIONS[entry.ablation][0] if entry.ablation else "")
            labels.append(
                label
                or label_of(entry.model, entry.preset_name, entry.changed_settings() if shows_settings else {})
            )
        if repeated := [label for label in labels if labels.count(label) > 1]:
            raise UsageError(
                f"two systems of the plan have the label {repeated[0]!r}: give one of them another label"
            )
        return labels

    def cells(self) -> list[Cell]:
        """Return every run, in the order in which they are made.

        Raises:
            UsageError: If the settings of a run are invalid.
        """
        common: Values = {
            "training": {"epochs": self.budget.epochs, "minutes": self.budget.minutes or "none"},
            "evaluation": {"negatives": self.negatives, "keep_seen": self.keep_seen},
        }
        matched = MATCH_PAPER if self.match_paper else {}
        cells = []
        for data in self.data:
            for entry, label in zip(self.rows, self.labels(), strict=True):
                values = merged({"options": entry.options}, self.settings, entry.own_settings, matched, common)
                # No artefact depends on the seed of a run.
                seeds = (entry.seeds or self.seeds)[: 1 if self.stage else None]
                cells += [
                    Cell(
                        data=data,
                        label=label,
                        model=entry.model,
                        preset=entry.preset,
                        preset_name=entry.preset_name,
                        seed=seed,
                        values=values,
                        group=entry.group,
                        first_phase=entry.first_phase,
                        stage=self.stage,
                    )
                    for seed in seeds
                ]
        for cell in cells:
            if cell.unsound != "none" and not self.departures:
                raise UsageError(
                    f"options.unsound = {cell.unsound}: what it measures is no result; only the plan departures "
                    "takes it"
                )
        return cells


@dataclass(frozen=True, eq=False)
class Cell:
    """One run of a plan. Cells are compared by identity, so a cell can be a dictionary key."""

    data: str
    label: str
    model: str
    preset: str | None
    """Preset named in the plan; None for the model's default."""
    preset_name: str
    """Name of the preset that the run is made with."""
    seed: int
    values: Mapping[str, Mapping[str, Any]]
    quick: bool = False
    """Whether it is a smoke run, of one epoch a phase."""
    group: str = ""
    first_phase: bool = False
    """Whether what counts is the run's first phase."""
    stage: LLMStage | None = None
    """Artefact to end at; None for a whole run."""

    def __str__(self) -> str:
        return f"{self.label} on {self.data}, {self.stage or f'seed {self.seed}'}"

    @property
    def assignments(self) -> list[str]:
        """Settings as arguments of `edt train --set`, so that its process has exactly the planned settings."""
        return [
            f"{section}.{field}={str(value).lower() if isinstance(value, bool) else value}"
            for section, fields in self.values.items()
            for field, value in fields.items()
        ]

    def settings(self) -> Settings:
        """Return the settings of the run."""
        flags = parse_assignments(self.assignments)
        flags["model"] = {**flags.get("model", {}), "name": self.model}
        flags["training"] = {**flags["training"], "seed": self.seed}
        settings = checked(load_settings(self.preset or system(self.model).preset, flags=flags))
        return limited(settings, 1, but=self.values.get("options", {})) if self.quick else settings

    @property
    def unsound(self) -> Unsound:
        """Departure of the released code that makes its figures no result, or "none"."""
        return llm_edt_options(self.settings()).unsound

    @property
    def has_no_effect(self) -> bool:
        """Whether it is to rank generated items, and its settings take real ones instead, as `local` does."""
        s = self.settings()
        none = s.llm.provider == "local" or s.augmentation.ground == "match" or not s.augmentation.enabled
        return self.unsound == "generated-candidates" and none

    def arguments(self, device: str) -> list[str]:
        """Return the arguments of the `edt` command that makes this run, or the artefact of the stage."""
        settings = [part for assignment in self.assignments for part in ("--set", assignment)]
        if self.stage is not None:
            return [STAGE_COMMANDS[self.stage], "--data", self.data, "--preset", self.preset_name, *settings]
        arguments = [
            "train",
            "--data",
            self.data,
            "--model",
            self.model,
            "--seeds",
            str(self.seed),
            "--device",
            device,
        ]
        arguments += ["--preset", self.preset] if self.preset else []
        arguments += ["--quick"] if self.quick else []
        return arguments + settings
