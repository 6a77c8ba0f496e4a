"""The systems by name: who wrote which paper, what each needs, and how one is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edt_cli.config import ModelSettings, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from edt_cli.config import TrainingSettings
    from edt_cli.data.dataset import TrainingView
    from edt_cli.models.batch import ItemTable
    from edt_cli.models.sequential import SequentialModel

Need = Literal["item text", "generated items", "user profiles"]


@dataclass(frozen=True)
class System:
    """`preset`: its own settings. `trained`: whether there is anything to train."""

    name: str
    title: str
    paper: str
    year: int | None
    preset: str
    trained: bool = True


SYSTEMS = {
    system.name: system
    for system in (
        System("llm-edt", "LLM-EDT", "Liu et al., SIGIR", 2026, "paper"),
        System("sasrec", "SASRec", "Kang and McAuley, ICDM", 2018, "sasrec"),
        System("gru4rec", "GRU4Rec", "Hidasi et al., ICLR", 2016, "gru4rec"),
        System("bert4rec", "BERT4Rec", "Sun et al., CIKM", 2019, "bert4rec"),
        System("popularity", "Popularity", "", None, "popularity", trained=False),
        System("item-knn", "Item-kNN", "Sarwar et al., WWW", 2001, "item-knn", trained=False),
    )
}


def system(name: str) -> System:
    if name not in SYSTEMS:
        raise UsageError(f"unknown model {name!r}; there are: {', '.join(SYSTEMS)}")
    return SYSTEMS[name]


def needs(s: ModelSettings) -> list[Need]:
    """What the pipeline must make before this model can be trained."""
    if not system(s.name).trained:
        return []
    if s.name == "llm-edt":
        return ["item text", "generated items", "user profiles"]
    return ["item text"] if s.encoder != "id" else []


def make_model(
    s: ModelSettings,
    t: TrainingSettings,
    table: ItemTable,
    profiles: Tensor | None,
    view: TrainingView | None = None,
) -> SequentialModel:
    """A model with fresh weights, on the table's device. `view`: what a memory is made of, where s.memory."""
    from edt_cli.models.llm_edt import LLMEDT
    from edt_cli.models.memory import Memory
    from edt_cli.models.sequential import SequentialModel

    memory = Memory(view, table, s) if s.memory and view is not None else None
    if s.name == "llm-edt":
        model: SequentialModel = LLMEDT(
            table, s, memory, profiles=profiles, alpha=t.alpha, align_temperature=t.align_temperature
        )
    else:
        model = SequentialModel(table, s, memory)
    return model.to(table.domain_of.device)
