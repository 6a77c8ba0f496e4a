"""The systems by name: who wrote which paper, what each needs, and how one is made.

Others than those here come by the entry-point group `edt.models`, each a `System`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from edt_cli.config import (
    ModelSettings,
    Section,
    Settings,
    UsageError,
    UserError,
    load_settings,
    preset_name,
    preset_names,
    validated,
)

if TYPE_CHECKING:
    from edt_cli.models.inputs import ModelInputs
    from edt_cli.models.scorers import Recommender
    from edt_cli.models.sequential import SequentialModel

Need = Literal["item text", "generated items", "user profiles"]
LLM_STAGES: dict[Need, str] = {"generated items": "augmentation", "user profiles": "profiling"}
"""What an LLM makes, and the section of the settings that it is made by."""
GROUP = "edt.models"
Made = TypeVar("Made")
OURS = "llm-edt"
"""The method that the others are rivals of."""


@dataclass(frozen=True, kw_only=True)
class System:
    """A system by its name.

    preset: its own settings, by name or as a file. model: its class, "module:Class", imported when used: a
    `SequentialModel`, or for a system that is not `trained` a `Recommender`, each made of `ModelInputs`. needs:
    beyond what its item encoder needs. augmented: generated items stand in its rows where the augmenter put them;
    else it is handed them as they are, and its rows are what happened.
    """

    name: str
    title: str
    preset: str | Path
    paper: str = ""
    year: int | None = None
    model: str = "edt_cli.models.plain:PlainModel"
    needs: tuple[Need, ...] = ()
    augmented: bool = True
    trained: bool = True

    @property
    def preset_name(self) -> str:
        return preset_name(self.preset)


BUILT_IN = (
    System(
        name=OURS,
        title="LLM-EDT",
        paper="Liu et al., SIGIR",
        year=2026,
        preset="best",
        model="edt_cli.models.llm_edt:LLMEDT",
        needs=("item text", "generated items", "user profiles"),
    ),
    System(
        name="sasrec",
        title="SASRec",
        paper="Kang and McAuley, ICDM",
        year=2018,
        preset="sasrec",
    ),
    System(
        name="gru4rec",
        title="GRU4Rec",
        paper="Hidasi et al., ICLR",
        year=2016,
        preset="gru4rec",
        model="edt_cli.models.plain:BiasedModel",
    ),
    System(
        name="bert4rec",
        title="BERT4Rec",
        paper="Sun et al., CIKM",
        year=2019,
        preset="bert4rec",
        model="edt_cli.models.plain:BiasedModel",
    ),
    System(
        name="c2dsr",
        title="C2DSR",
        paper="Cao et al., CIKM",
        year=2022,
        preset="c2dsr",
        model="edt_cli.models.c2dsr:C2DSR",
    ),
    System(
        name="tricdr",
        title="TriCDR",
        paper="Ma et al., TOIS",
        year=2024,
        preset="tricdr",
        model="edt_cli.models.tricdr:TriCDR",
    ),
    System(
        name="syncrec",
        title="SyNCRec",
        paper="Park et al., SIGIR",
        year=2024,
        preset="syncrec",
        model="edt_cli.models.syncrec:SyNCRec",
    ),
    System(
        name="abxi",
        title="ABXI",
        paper="Bian et al., WWW",
        year=2025,
        preset="abxi",
        model="edt_cli.models.abxi:ABXI",
    ),
    System(
        name="llmcdsr",
        title="LLMCDSR",
        paper="Xin et al., TOIS",
        year=2025,
        preset="llmcdsr",
        model="edt_cli.models.llmcdsr:LLMCDSR",
        needs=("item text", "generated items"),
        augmented=False,
    ),
    System(
        name="llm-esr",
        title="LLM-ESR",
        paper="Liu et al., NeurIPS",
        year=2024,
        preset="llm-esr",
        model="edt_cli.models.llm_esr:LLMESR",
        needs=("item text", "user profiles"),
    ),
    System(
        name="llm4cdsr",
        title="LLM4CDSR",
        paper="Liu et al., SIGIR",
        year=2025,
        preset="llm4cdsr",
        model="edt_cli.models.llm4cdsr:LLM4CDSR",
        needs=("item text", "user profiles"),
    ),
    System(
        name="popularity",
        title="Popularity",
        preset="popularity",
        model="edt_cli.models.popularity:Popularity",
        trained=False,
    ),
    System(
        name="item-knn",
        title="Item-kNN",
        paper="Sarwar et al., WWW",
        year=2001,
        preset="item-knn",
        model="edt_cli.models.item_knn:ItemKNN",
        trained=False,
    ),
    System(
        name="content-knn",
        title="Content-kNN",
        preset="content-knn",
        model="edt_cli.models.content_knn:ContentKNN",
        needs=("item text",),
        trained=False,
    ),
)


def systems() -> dict[str, System]:
    """Every system by name, the built-in ones first; one that is installed beside them cannot take their names."""
    return _found()[0]


def broken() -> dict[str, str]:
    """Installed systems that cannot be had, and why not. Whatever is wrong with one takes no other away."""
    return _found()[1]


@cache
def _found() -> tuple[dict[str, System], dict[str, str]]:
    found, bad = {one.name: one for one in BUILT_IN}, {}
    for entry in entry_points(group=GROUP):
        if entry.name in found:
            continue
        try:
            made = entry.load()
            if not isinstance(made, System) or made.name != entry.name:
                raise TypeError(f"{entry.value} is no System of that name")
            found[made.name] = made
        except Exception as error:
            bad[entry.name] = _reason(error)
    return found, bad


def _reason(error: Exception) -> str:
    return (f"{type(error).__name__}: {error}".splitlines() or [""])[0][:300]


def system(name: str) -> System:
    """Errors: UsageError for a name that there is not; UserError for a system that cannot be loaded."""
    if name in broken():
        raise UserError(f"the model {name!r} cannot be loaded ({broken()[name]})")
    if name not in systems():
        raise UsageError(f"unknown model {name!r}; there are: {', '.join(systems())}")
    return systems()[name]


def is_trained(name: str) -> bool:
    """Whether a system has weights to train; one whose package is gone had."""
    return name not in systems() or systems()[name].trained


def title_of(name: str) -> str:
    """A system as tables call it; its name where its package is gone."""
    return systems()[name].title if name in systems() else name


def presets_of(name: str) -> dict[str, Settings]:
    """The presets of a system by name, its default first; none where its package is gone or they cannot be read."""
    if name not in systems():
        return {}
    default = systems()[name].preset_name
    found = {one: preset_settings(name, one) for one in (default, *preset_names())}
    return {one: s for one, s in found.items() if s is not None and (one == default or s.model.name == name)}


def preset_settings(model: str, preset: str) -> Settings | None:
    """What a preset by itself says, as a run of `model` may name it; None for one that is not there (any more)."""
    known = systems().get(model)
    return _read_preset(known.preset if known is not None and preset == known.preset_name else preset)


@cache
def _read_preset(preset: str | Path) -> Settings | None:
    try:
        return load_settings(preset, environment={})
    except UserError:
        return None


def needs(s: ModelSettings) -> list[Need]:
    """What the pipeline must make before this model can be trained, or asked where nothing is trained."""
    known = system(s.name)
    by_text: tuple[Need, ...] = ("item text",) if known.trained and s.encoder != "id" else ()
    return list(dict.fromkeys((*by_text, *known.needs)))


def asks_llm(s: ModelSettings) -> bool:
    """Whether an LLM has a part in this model: it generates items, or writes profiles."""
    return bool(LLM_STAGES.keys() & set(needs(s)))


def has_llm(s: Settings) -> bool:
    """Whether one had its part in a run of these settings: a stage that the model needs is not switched off."""
    return any(getattr(s, stage).enabled for need, stage in LLM_STAGES.items() if need in needs(s.model))


def model_class(name: str) -> type[SequentialModel]:
    """Imports torch. Errors: UsageError for a system without anything to train; UserError for one of another
    package whose class is not there or is no model."""
    from edt_cli.models.sequential import SequentialModel

    if not system(name).trained:
        raise UsageError(f"{name} has nothing to train")

    def checked(found: type[SequentialModel]) -> type[SequentialModel]:
        if not issubclass(found, SequentialModel):
            raise TypeError(f"{found.__name__} is no SequentialModel")
        return found

    return _loaded(name, checked)


def without_training(given: ModelInputs) -> Recommender:
    """A system that is not trained. Errors: UserError for one of another package that cannot be made."""
    recommender: Recommender = _loaded(given.model.name, lambda found: found(given))
    return recommender


def _loaded(name: str, then: Callable[[Any], Made]) -> Made:
    """`then` of a system's class. Errors: UserError where it is of another package and fails."""
    known = system(name)
    module, _, attribute = known.model.partition(":")
    try:
        return then(getattr(import_module(module), attribute))
    except Exception as error:
        if known in BUILT_IN:
            raise
        raise UserError(f"the model {name!r} cannot be loaded ({_reason(error)})") from None


def options_of(name: str, values: Mapping[str, Any]) -> Section:
    """The settings that a system has to itself, validated. Errors: UsageError for one that it does not have."""
    from edt_cli.models.inputs import NoOptions

    kind = model_class(name).Options if system(name).trained else NoOptions
    unknown = [option for option in values if option not in kind.model_fields]
    if unknown:
        has = f"it has: {', '.join(kind.model_fields)}" if kind.model_fields else "it has none of its own"
        raise UsageError(f"{name} has no option {unknown[0]!r}; {has}")
    return validated(kind, values)


def checked(s: Settings) -> Settings:
    """The same, with its options as numbers and truth values where they came as text. Errors: UsageError for an
    option that the system does not have, and for settings that do not go together in it."""
    options = options_of(s.model.name, s.options)
    if system(s.model.name).trained:
        model_class(s.model.name).check(s, options)
    return s.changed(options={name: getattr(options, name) for name in s.options})


def make_model(given: ModelInputs) -> SequentialModel:
    """A model with fresh weights, on the table's device."""
    return model_class(given.model.name)(given).to(given.table.domain_of.device)
