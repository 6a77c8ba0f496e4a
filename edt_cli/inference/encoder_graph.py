"""A trained model as a graph without shapes that depend on data: histories in, user vectors out."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edt_cli.config import UserError
from edt_cli.models.batch import Batch
from edt_cli.models.departures import ResidualAdapter
from edt_cli.models.encoders import ItemEncoder
from edt_cli.models.llm_edt import LLMEDT
from edt_cli.models.plain import BiasedModel, PlainModel
from edt_cli.models.sequential import SequentialModel
from edt_cli.models.threads import DomainThreads, ThreadedModel
from edt_cli.models.typed import Layer

KINDS = (PlainModel, BiasedModel, LLMEDT)
"""Classes of models that have a graph."""


class UserEncoder(nn.Module):
    """The user vectors of a trained model; their products with item vectors are its scores."""

    def __init__(self, model: SequentialModel) -> None:
        """Take the layers of a model over, with its item encoder and its threads in a form that can be exported.

        Raises:
            UserError: If there is no graph for this kind of model.
        """
        super().__init__()
        if type(model) not in KINDS:
            raise UserError(
                f"{model.settings.name} has no ONNX graph: sasrec, gru4rec, bert4rec and llm-edt have one"
            )
        self.model = copy.copy(model).eval()
        modules = {**model._modules, "encoder": VectorTable(model)}
        if isinstance(model, ThreadedModel):
            modules["threads"] = AllThreads(model.threads)
        self.model._modules = modules

    def forward(self, items: Tensor, domains: Tensor) -> Tensor:
        """Return the vectors [B, D] of B users.

        Args:
            items: Long [B, L], the numbers of a user's items, oldest first, 0 after the last.
            domains: Long [B], the number of the domain that each user is asked for.
        """
        model, lengths = self.model, (items > 0).sum(1)
        if isinstance(model, ThreadedModel) and (model.domain_backbone is not None or model.fine_tuned):
            states = model.backbone.last(model.encode_items(items), lengths)
            mask = (model.domain_of[items] == domains[:, None]) & (items > 0)
            of_domain, counts = selected(items, mask), mask.sum(1)
            backbone = model.domain_backbone or model.backbone
            domain_states = backbone.last(model.encode_items(of_domain), counts)
            return model.add_threads(states, domain_states, counts > 0, domains)
        queried = domains[:, None].expand_as(items)
        return model.encode_last(Batch(rows=domains, items=items, lengths=lengths, targets=items, domains=queried))


def selected(items: Tensor, mask: Tensor) -> Tensor:
    """Move the items of `mask` (bool [B, L]) to the left in their order, [B, L] -> [B, L]; 0 after the last.

    It is `domain_sequence` without cutting the result to its longest row, whose length depends on the data.
    """
    at = torch.where(mask, mask.cumsum(1) - 1, items.shape[1])
    # All others are written to one column more, which is dropped.
    return F.pad(torch.zeros_like(items), (0, 1)).scatter(1, at, items)[:, :-1]


class VectorTable(ItemEncoder):
    """The vectors of a model's item encoder, looked up."""

    def __init__(self, model: SequentialModel) -> None:
        super().__init__()
        with torch.no_grad():
            vectors = model.encoder(torch.arange(len(model.domain_of), device=model.domain_of.device))
        self.register_buffer("vectors", vectors)

    vectors: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.vectors)


class AllThreads(Layer):
    """`DomainThreads` with every adapter applied to every row, of which one is taken."""

    def __init__(self, threads: DomainThreads) -> None:
        super().__init__()
        self.adapters = threads.adapters

    def forward(self, domain_states: Tensor, present: Tensor, domains: Tensor) -> Tensor:
        out = torch.zeros_like(domain_states)
        for domain, adapter in enumerate(self.adapters):
            mask = ((domains == domain) & present).unsqueeze(-1)
            if isinstance(adapter, ResidualAdapter):
                mapped = adapter(domain_states)
            else:  # what it does itself depends on the number of rows
                mapped = adapter.outer(adapter.inner(domain_states))
            out = torch.where(mask, mapped, out)
        return out
