"""LLMCDSR (Xin et al., TOIS '25): what an LLM thinks of leads to real items, noise in a history that helps.

- Candidate-free generation: what an LLM thinks that a user would have in another domain. Made before training, in
  `augmentation`; here come the texts' vectors, as `ModelInputs.generated`.
- Collaborative-textual contrastive pre-training: `CollaborativeText`, trained before the rest, and frozen then.
- Relevance-aware meta recall network: `MetaRecall`, and the bilevel step in `LLMCDSR.own_loss`.
The recommender is a plain one on any backbone. Evaluation is on true histories alone; a recalled item is an input
of training, never a target.

Where the released code differs, or this house decides:
- Its contrastive loss takes the item vector of the number before (items count from 1, its text rows from 0); here
  each its own. It contrasts the negatives of a batch too, here its items.
- It pre-trains each domain by itself, until that domain's last training items are ranked no better. Here all learn
  at once, and what counts is validation, as everywhere.
- It generates for users of one domain. Where users are in several, the augmenter asks for their minority domain,
  and what a user has had is not recalled: an item right before itself would tell training its own target.
- Its virtual step is the first one of Adam, whatever came before (`virtual = "adam"`), whose derivative is largest
  where gradients are smallest. `virtual = "sgd"` is the plain step of meta-learning.
- In its virtual step all input vectors of a noisy row are constants, also those of the row's own items; here only
  those of recalled ones, which is what lets their gradient reach the recall network.
- Its random places are among all of a user's items, here among the newest `max_length`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from edt_cli.config import Section, Settings
from edt_cli.models.backbones import make_backbone
from edt_cli.models.batch import Batch, ItemTable
from edt_cli.models.domain_sequences import domain_positions, domain_sequence
from edt_cli.models.encoders import IdEncoder
from edt_cli.models.inputs import GeneratedItems, ModelInputs, mixed_only
from edt_cli.models.kernels import linear, twice_differentiable
from edt_cli.models.layers import Linear
from edt_cli.models.losses import mean, two_views
from edt_cli.models.phases import PREPARATION, Phase
from edt_cli.models.plain import PlainModel
from edt_cli.models.positions import Objective
from edt_cli.models.sequential import NextItemPhase, SequentialModel
from edt_cli.models.typed import Layer, ModuleList

POOL = 8
ADAM_BETAS = (0.9, 0.98)
ADAM_EPSILON = 1e-8 / (1 - ADAM_BETAS[1]) ** 0.5
"""In Adam's first step, lr g / (|g| + epsilon), where 1e-8 is added to the moment before its correction."""


class LLMCDSROptions(Section):
    recalled: int = Field(10, ge=1, description="k: real items that a user's generated ones lead to")
    noisy: int = Field(32, ge=1, description="users with recalled items beside a batch")
    overlapped: int = Field(128, ge=1, description="users of several domains that a virtual step is judged by")
    meta_lr: float = Field(1e-3, gt=0, description="of the recall network")
    virtual: Literal["adam", "sgd"] = Field("adam", description="the virtual step of the recommender")
    virtual_lr: float = Field(1e-3, gt=0, description="of the virtual step")
    contrast: float = Field(0.1, ge=0, description="weight of the contrastive loss in the preparation")
    temperature: float = Field(1.0, gt=0, description="of the contrastive loss")


@dataclass(frozen=True, kw_only=True)
class Drawn(Batch):
    """questions: long [Q], whose generated items lead to noise; overlapped: users of several domains."""

    questions: Tensor
    overlapped: Batch


@dataclass(frozen=True, kw_only=True)
class Noisy(Batch):
    """Rows with recalled items in them. recalled: long [B, k]; sought: [B, D], what they are nearest to; which:
    long [B, L], the one of them that stands there, -1 for none."""

    recalled: Tensor
    sought: Tensor
    which: Tensor


class LLMCDSR(PlainModel):
    """Without generated items the recommender alone; without users of several domains the recall network stays as
    it starts, with the mean of a user's generated items."""

    Options = LLMCDSROptions

    @classmethod
    def check(cls, s: Settings, options: Section) -> None:
        mixed_only(s)

    def __init__(self, given: ModelInputs) -> None:
        super().__init__(given)
        assert isinstance(given.options, LLMCDSROptions)
        self.own = given.options
        self.space: CollaborativeText | None = None
        self.recall: MetaRecall | None = None
        if given.generated is None or given.sequences is None:
            return
        self.space = CollaborativeText(given)
        self.recall = MetaRecall(given.generated, given.table, self.settings.hidden)
        self.rows = given.on_device
        several = (given.sequences.domain_counts(given.table.domains) > 0).sum(1) > 1
        self.register_buffer("several", torch.from_numpy(np.flatnonzero(several)), persistent=False)

    several: Tensor

    def phases(self, given: ModelInputs) -> list[Phase]:
        if self.space is None:
            return super().phases(given)
        space = self.space
        return [
            NextItemPhase(space, given, PREPARATION),
            NextItemPhase(self, given, enter=lambda: space.requires_grad_(False)),
        ]

    def prepare_batch(self, batch: Batch) -> Batch:
        """Draws what the bilevel step and the shared one then both learn from."""
        if self.recall is None:
            return batch
        questions = torch.arange(len(self.recall.users), device=batch.rows.device)
        questions = self._draw(questions, self.rows.lengths[self.recall.users], self.own.noisy)
        if not len(self.several):
            return Drawn(**_parts(batch), questions=questions, overlapped=batch)
        overlapped = self._draw(self.several, self.rows.lengths[self.several], self.own.overlapped)
        return Drawn(**_parts(batch), questions=questions, overlapped=self.rows.batch(overlapped))

    def _draw(self, numbers: Tensor, lengths: Tensor, count: int) -> Tensor:
        """`count` of them, or all: each as likely, and of like length, so that padding is small."""
        pool = torch.randperm(len(numbers), device=numbers.device)[: POOL * count]
        chunks = pool[lengths[pool].argsort()].split(count)
        return numbers[chunks[int(torch.randint(len(chunks), ()))]]

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """The next item, over the batch and the noisy rows beside it."""
        noise = (Batch(**_parts(self.noise(batch))),) if isinstance(batch, Drawn) else ()
        return {"next_item": self(objective, batch, *noise)}

    def forward(self, objective: Objective, *batches: Batch) -> Tensor:
        """The next-item loss, the mean over the positions of all batches."""
        at = (self.training_positions(batch)[0] for batch in batches)
        return mean(torch.cat([objective(one, self.encode_items) for one in at]))

    def own_parameters(self) -> list[nn.Parameter]:
        return [] if self.recall is None or not len(self.several) else list(self.recall.parameters())

    def own_optimizer(self) -> torch.optim.Optimizer | None:
        learned = self.own_parameters()
        return torch.optim.Adam(learned, lr=self.own.meta_lr, betas=ADAM_BETAS) if learned else None

    def own_loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """theta' = theta - lr step(grad L(theta; batch and noise)), and L(theta'; overlapped users), which tells
        the recall network, through theta', whether its noise has helped."""
        assert isinstance(batch, Drawn)
        parts = {"encoder", "backbone"}
        theta = {name: value for name, value in self.named_parameters() if name.split(".")[0] in parts}
        with twice_differentiable():
            loss = self(objective, batch, self.noise(batch))
            gradients = torch.autograd.grad(loss, list(theta.values()), create_graph=True, materialize_grads=True)
            virtual = {
                name: value - self.own.virtual_lr * self._direction(gradient)
                for (name, value), gradient in zip(theta.items(), gradients, strict=True)
            }
            return {"meta": functional_call(self, virtual, (objective, batch.overlapped))}

    def _direction(self, gradient: Tensor) -> Tensor:
        return gradient if self.own.virtual == "sgd" else gradient / (gradient.abs() + ADAM_EPSILON)

    def noise(self, batch: Drawn) -> Noisy:
        """The users of `questions`, with recalled items at random places."""
        assert self.recall is not None and self.space is not None
        rows = self.rows.batch(self.recall.users[batch.questions])
        sought = self.recall(batch.questions, self.space)
        recalled = self.recall.nearest(sought, batch.questions, self.space, rows.items, self.own.recalled)
        chance = torch.rand(recalled.shape, device=recalled.device)
        places = torch.minimum((chance * rows.lengths[:, None]).long(), rows.lengths[:, None] - 1)
        rows, which = inserted(rows, recalled, places, self.domain_of, self.settings.max_length)
        return Noisy(**_parts(rows), recalled=recalled, sought=sought, which=which)

    def embed(self, batch: Batch) -> Tensor:
        x = super().embed(batch)
        if not isinstance(batch, Noisy):
            return x
        recalled = straight_through(self.encode_items(batch.recalled), batch.sought)
        put = batch.which >= 0
        return x.masked_scatter(put.unsqueeze(-1), recalled[torch.nonzero(put)[:, 0], batch.which[put]])


class MetaRecall(Layer):
    """How relevant each generated item is: w_d . p(e), by softmax over a user's. w_d starts at zero, their mean."""

    def __init__(self, generated: GeneratedItems, table: ItemTable, hidden: int) -> None:
        super().__init__()
        self.relevance = nn.Parameter(torch.zeros(len(table.domains), hidden))
        for name in ("users", "domains", "items", "vectors"):
            self.register_buffer(name, getattr(generated, name), persistent=False)
        self.register_buffer("seen", table.seen, persistent=False)
        self.register_buffer("domain_of", table.domain_of, persistent=False)

    users: Tensor
    domains: Tensor
    items: Tensor
    vectors: Tensor
    seen: Tensor
    domain_of: Tensor

    def forward(self, questions: Tensor, space: CollaborativeText) -> Tensor:
        """[Q, D]: what a user's generated items amount to in the collaborative space of their domain."""
        items, domains = self.items[questions], self.domains[questions]
        projected = space.project(self.vectors[items], domains)
        relevance = (projected * self.relevance[domains].unsqueeze(1)).sum(-1)
        weights = relevance.masked_fill(items == 0, float("-inf")).softmax(1)
        return (weights.unsqueeze(-1) * projected).sum(1)

    @torch.no_grad()
    def nearest(self, sought: Tensor, questions: Tensor, space: CollaborativeText, had: Tensor, k: int) -> Tensor:
        """long [Q, k]: the items of the domain, of those in training, with the highest cosine; 0 where there are
        fewer. had: long [Q, L], items that are none of them."""
        cosines = linear(sought, space.directions())
        wanted = self.seen & (self.domain_of == self.domains[questions, None])
        cosines = cosines.masked_fill(~wanted, float("-inf")).scatter(1, had, float("-inf"))
        best = cosines.topk(min(k, len(self.seen) - 1), 1)
        return torch.where(best.values > float("-inf"), best.indices, 0)


class CollaborativeText(SequentialModel):
    """Collaborative-textual contrastive pre-training: SASRec in each domain by itself, and a projection of text
    into the space of its item vectors, learned by contrast of the two views of an item."""

    def __init__(self, given: ModelInputs) -> None:
        s = given.model.model_copy(update={"encoder": "id", "backbone": "sasrec", "heads": 1})
        super().__init__(replace(given, model=s))
        assert given.table.text is not None and isinstance(given.options, LLMCDSROptions)
        self.own = given.options
        self.register_buffer("text", given.table.text, persistent=False)
        self.backbones = ModuleList(make_backbone(s) for _ in range(self.domains))
        self.projections = ModuleList(
            Linear(given.table.text.shape[1], s.hidden, bias=False) for _ in range(self.domains)
        )
        for projection in self.projections:
            nn.init.xavier_normal_(projection.weight)
        self._directions: tuple[int, Tensor] | None = None

    text: Tensor

    def project(self, text: Tensor, domains: Tensor) -> Tensor:
        """[Q, n, d_L] and long [Q] -> [Q, n, D]."""
        weights = torch.stack([projection.weight for projection in self.projections])
        return text @ weights[domains].transpose(1, 2)

    @torch.no_grad()
    def directions(self) -> Tensor:
        """[1 + N, D]: unit vectors of all items, computed once for as long as the weights stay as they are."""
        assert isinstance(self.encoder, IdEncoder)
        version = self.encoder.weight._version
        if self._directions is None or self._directions[0] != version:
            everything = torch.arange(len(self.domain_of), device=self.domain_of.device)
            self._directions = version, F.normalize(self.encode_items(everything), dim=1)
        return self._directions[1]

    def encode_positions(self, batch: Batch) -> Tensor:
        def encode(domain: int, items: Tensor, lengths: Tensor) -> Tensor:
            return self.backbones[domain](self.encode_items(items), lengths)

        return domain_positions(batch, self.domain_of, self.domains, encode)[0]

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        next_item, contrast = [], []
        for domain, (backbone, projection) in enumerate(zip(self.backbones, self.projections, strict=True)):
            items, lengths, _ = domain_sequence(batch.items, self.domain_of, torch.full_like(batch.rows, domain))
            targets = F.pad(items[:, 1:], (0, 1))
            x = self.encode_items(items)
            own = Batch(
                rows=batch.rows, items=items, lengths=lengths, targets=targets, domains=self.domain_of[targets]
            )
            next_item.append(mean(objective(self.before_targets(own, x, backbone(x, lengths)), self.encode_items)))
            unique = items.unique()
            told = unique[self.text[unique].abs().sum(1) > 0]
            contrast.append(two_views(projection(self.text[told]), self.encode_items(told), self.own.temperature))
        contrasted = self.own.contrast * torch.stack(contrast).sum()
        return {"next_item": torch.stack(next_item).sum(), "contrast": contrasted}


def straight_through(recalled: Tensor, sought: Tensor) -> Tensor:
    """recalled [Q, k, D] as they are, without a gradient of their own; `sought` [Q, D] takes the mean of theirs."""
    return recalled.detach() + (sought - sought.detach()).unsqueeze(1) / recalled.shape[1]


def inserted(
    rows: Batch, recalled: Tensor, places: Tensor, domain_of: Tensor, max_length: int
) -> tuple[Batch, Tensor]:
    """Rows with recalled items (long [B, k], 0 for none) before the item at their place (long [B, k]), the newest
    `max_length` of it all; none of them is a target. Also long [B, L]: which of the k stands there, -1 for none.

    Several in one place stand in the order of `recalled`, the nearest first.
    """
    k, longest = recalled.shape[1], rows.items.shape[1]
    everything = torch.cat([recalled, rows.items], 1)
    steps = torch.arange(longest, device=places.device).expand(len(places), longest)
    keys = torch.cat([2 * places, 2 * steps + 1], 1).masked_fill(everything == 0, 2 * longest)
    order = keys.argsort(dim=1, stable=True)
    total = (everything > 0).sum(1)
    lengths = total.clamp_max(max_length)
    steps = torch.arange(max(1, int(lengths.max())), device=places.device)
    which = order.gather(1, (total - lengths)[:, None] + steps)
    items = everything.gather(1, which)
    put = (which < k) & (items > 0)
    targets = F.pad(items[:, 1:].masked_fill(put[:, 1:], 0), (0, 1))
    noisy = Batch(
        rows=rows.rows, items=items, lengths=lengths, targets=targets, domains=domain_of[targets], inserted=put
    )
    return noisy, torch.where(put, which, -1)


def _parts(batch: Batch) -> dict[str, Any]:
    """What is common to all batches."""
    return {field.name: getattr(batch, field.name) for field in fields(Batch)}
