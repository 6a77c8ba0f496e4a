"""The registry of systems: names, papers, requirements, and how a model is made.

Other packages add systems through the entry-point group `edt.models`, each a `System`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
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
    alternatives,
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
"""Inputs made by an LLM, and the section of the settings that controls each."""
GROUP = "edt.models"
"""Entry-point group of systems from other packages."""
Made = TypeVar("Made")
OURS = "llm-edt"
"""Name of the paper's method; all other systems are baselines."""


@dataclass(frozen=True, kw_only=True)
class System:
    """A system that can be trained or evaluated.

    Attributes:
        name: What settings and the command line call it.
        title: What tables call it.
        preset: Its default settings, the name of a preset or a file.
        paper: Authors and venue.
        year: Year of the paper.
        model: Its class as "module:Class", imported when used: a `SequentialModel`, or a `Recommender` for a system
            that is not `trained`. Both are built from `ModelInputs`.
        needs: Inputs that it needs besides those of its item encoder.
        augmented: Whether generated items are inserted into its sequences, as the augmenter placed them. If not, it
            gets them as `ModelInputs.generated`, and its sequences are the original ones.
        trained: Whether it has weights to train.
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
    """Return all systems by name, the built-in ones first; an installed system cannot replace a built-in one."""
    return _installed()[0]


def broken() -> dict[str, str]:
    """Return the installed systems that cannot be loaded, each with the reason; all others still work."""
    return _installed()[1]


@cache
def _installed() -> tuple[dict[str, System], dict[str, str]]:
    known, failed = {system.name: system for system in BUILT_IN}, {}
    for entry in entry_points(group=GROUP):
        if entry.name in known:
            continue
        try:
            made = entry.load()
            if not isinstance(made, System) or made.name != entry.name:
                raise TypeError(f"{entry.value} is no System of that name")
            known[made.name] = made
        except Exception as error:
            failed[entry.name] = _reason(error)
    return known, failed


def _reason(error: Exception) -> str:
    return (f"{type(error).__name__}: {error}".splitlines() or [""])[0][:300]


def system(name: str) -> System:
    """Return the system of this name.

    Raises:
        UsageError: If there is no such system.
        UserError: If the system is installed but cannot be loaded.
    """
    if name in broken():
        raise UserError(f"the model {name!r} cannot be loaded ({broken()[name]})")
    if name not in systems():
        raise UsageError(f"unknown model {name!r}; {alternatives(name, systems())}")
    return systems()[name]


def is_trained(name: str) -> bool:
    """Return whether a system has weights to train; True if its package is no longer installed."""
    return name not in systems() or systems()[name].trained


def title_of(name: str) -> str:
    """Return a system's name in tables; its plain name if its package is no longer installed."""
    return systems()[name].title if name in systems() else name


def presets_of(name: str) -> dict[str, Settings]:
    """Return the presets of a system by name, its default first.

    Presets that cannot be read are left out; a system whose package is no longer installed has none.
    """
    if name not in systems():
        return {}
    default = systems()[name].preset_name
    presets = {preset: preset_settings(name, preset) for preset in (default, *preset_names())}
    return {
        preset: s for preset, s in presets.items() if s is not None and (preset == default or s.model.name == name)
    }


def preset_settings(model: str, preset: str) -> Settings | None:
    """Return the settings of a preset as named in a run of `model`; None if it does not exist (any more)."""
    known = systems().get(model)
    return _read_preset(known.preset if known is not None and preset == known.preset_name else preset)


@cache
def _read_preset(preset: str | Path) -> Settings | None:
    try:
        return load_settings(preset, environment={})
    except UserError:
        return None


def needs(s: ModelSettings) -> list[Need]:
    """Return the inputs that must be made before this model can be trained, or used if it is not trained."""
    known = system(s.name)
    by_text: tuple[Need, ...] = ("item text",) if known.trained and s.encoder != "id" else ()
    return list(dict.fromkeys((*by_text, *known.needs)))


def asks_llm(s: ModelSettings) -> bool:
    """Return whether this model uses an LLM's output: generated items or user profiles."""
    return bool(LLM_STAGES.keys() & set(needs(s)))


def has_llm(s: Settings) -> bool:
    """Return whether a run with these settings uses an LLM's output: a stage that the model needs is enabled."""
    return any(getattr(s, stage).enabled for need, stage in LLM_STAGES.items() if need in needs(s.model))


def model_class(name: str) -> type[SequentialModel]:
    """Import and return the class of a trained system; this imports torch.

    Raises:
        UsageError: If the system has nothing to train.
        UserError: If it comes from another package and its class is missing or not a `SequentialModel`.
    """
    from edt_cli.models.sequential import SequentialModel

    if not system(name).trained:
        raise UsageError(f"{name} has nothing to train")

    def checked(kind: type[SequentialModel]) -> type[SequentialModel]:
        if not issubclass(kind, SequentialModel):
            raise TypeError(f"{kind.__name__} is no SequentialModel")
        return kind

    return _loaded(name, checked)


def without_training(given: ModelInputs) -> Recommender:
    """Make a system that is not trained.

    Raises:
        UserError: If it comes from another package and cannot be made.
    """
    recommender: Recommender = _loaded(given.model.name, lambda kind: kind(given))
    return recommender


def _loaded(name: str, then: Callable[[Any], Made]) -> Made:
    """Import a system's class and return `then` of it.

    Raises:
        UserError: If the system comes from another package and this fails.
    """
    known = system(name)
    module, _, attribute = known.model.partition(":")
    try:
        return then(getattr(import_module(module), attribute))
    except Exception as error:
        if known in BUILT_IN:
            raise
        raise UserError(f"the model {name!r} cannot be loaded ({_reason(error)})") from None


def options_of(name: str, values: Mapping[str, Any]) -> Section:
    """Return the validated options of a system, its section `[options]`.

    Raises:
        UsageError: If the system does not have one of the options, or a value is invalid.
    """
    from edt_cli.models.inputs import NoOptions

    kind = model_class(name).Options if system(name).trained else NoOptions
    unknown = [option for option in values if option not in kind.model_fields]
    if unknown:
        has = alternatives(unknown[0], kind.model_fields, "it has") if kind.model_fields else "it has no options"
        raise UsageError(f"{name} has no option {unknown[0]!r}; {has}")
    return validated(kind, values)


def checked(s: Settings) -> Settings:
    """Return the settings with validated options: numbers and booleans where they were given as text.

    Raises:
        UsageError: If the system does not have an option, or does not support the combination of settings.
    """
    options = options_of(s.model.name, s.options)
    if system(s.model.name).trained:
        model_class(s.model.name).check(s, options)
    return s.changed(options={name: getattr(options, name) for name in s.options})


def check_processes(name: str) -> None:
    """Check that several processes can train a system together.

    Raises:
        UsageError: If it has nothing to train, or a second optimiser.
    """
    from edt_cli.models.sequential import SequentialModel

    if model_class(name).own_optimizer is not SequentialModel.own_optimizer:
        raise UsageError(
            f"{name} has a second optimiser, so that it is trained in one process: leave out --devices"
        )


def limited(s: Settings, epochs: int, *, but: Collection[str] = ()) -> Settings:
    """Return settings in which no phase has more than so many epochs, except where an option in `but` says so."""
    limits: dict[str, int] = {}
    if system(s.model.name).trained:
        limits = model_class(s.model.name).limit_epochs(options_of(s.model.name, s.options), epochs)
    options = {name: value for name, value in limits.items() if name not in but}
    return s.changed(training={"epochs": min(epochs, s.training.epochs)}, options=options)


def make_model(given: ModelInputs, *, sharded: bool = False) -> SequentialModel:
    """Make a model with newly initialised weights, on the device of the item table.

    Args:
        given: What it is made of.
        sharded: Whether the processes that train together share out its tables of ids before they are moved there.

    Raises:
        UsageError: If it has no table of ids, or needs all of a gradient in one process.
    """
    model = model_class(given.model.name)(given)
    if sharded:
        from edt_cli.models.encoders import shard_ids

        if given.training.clip_norm is not None:
            raise UsageError("training.clip_norm needs the whole gradient in one process: leave out --shard-items")
        if not shard_ids(model):
            raise UsageError(f"{given.model.name} has no table of ids here: leave out --shard-items")
    return model.to(given.table.domain_of.device)
