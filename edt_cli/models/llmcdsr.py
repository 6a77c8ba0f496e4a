"""LLMCDSR (Xin et al., TOIS '25): generated items recall real items, which augment histories.

- Candidate-free generation: an LLM generates items that a user may like in another domain. This is done before
  training, in `edt_cli/augmentation`; the model gets the text vectors as `ModelInputs.generated`.
- Collaborative-textual contrastive pre-training: `CollaborativeText`, trained before the rest and then frozen.
- Relevance-aware meta recall network: `MetaRecall`, and the bilevel step in `LLMCDSR.own_loss`.

The recommender is a plain model on any backbone. Evaluation uses the original histories only; a recalled item is an
input of training, never a target.

Differences from the released code:
- Its contrastive loss pairs each text with the item vector of the previous id (item ids start at 1, its text rows
  at 0); here each text is paired with its item. It contrasts the negatives of a batch as well, here only its items.
- It pre-trains each domain separately, until that domain's last training items are no longer ranked better. Here
  all domains are trained together, with early stopping on the validation set, as for all models.
- It generates only for users of a single domain. For users of several domains, the augmenter generates for their
  minority domain, and items of the user are not recalled: an item inserted before itself would reveal the target.
- Its virtual step is always Adam's first step (`virtual = "adam"`), whose derivative is largest where gradients are
  smallest. `virtual = "sgd"` is the plain step of meta-learning.
- In its virtual step all input vectors of a noisy row are constants, including those of the user's items. Here only
  those of the recalled items are, and their gradient passes to the recall network.
- Its random positions are among all items of a user, here among the newest `max_length`.
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
from edt_cli.models.phase_names import PREPARATION
from edt_cli.models.phases import Phase
from edt_cli.models.plain import PlainModel
from edt_cli.models.positions import Objective
from edt_cli.models.sequential import NextItemPhase, SequentialModel
from edt_cli.models.typed import Layer, ModuleList

POOL = 8
"""Batches of random rows from which one with rows of similar length is taken."""
ADAM_BETAS = (0.9, 0.98)
ADAM_EPSILON = 1e-8 / (1 - ADAM_BETAS[1]) ** 0.5
"""Epsilon in Adam's first step lr g / (|g| + epsilon).

Here 1e-8 is added to the moment before its correction.
"""


class LLMCDSROptions(Section):
    """Options of LLMCDSR."""

    recalled: int = Field(10, ge=1, description="k, the number of real items that a user's generated items recall")
    noisy: int = Field(32, ge=1, description="number of users with recalled items that are added to a batch")
    overlapped: int = Field(
        128, ge=1, description="number of users of several domains that a virtual step is evaluated on"
    )
    meta_lr: float = Field(1e-3, gt=0, description="learning rate of the recall network")
    virtual: Literal["adam", "sgd"] = Field("adam", description="optimiser of the recommender's virtual step")
    virtual_lr: float = Field(1e-3, gt=0, description="learning rate of the virtual step")
    contrast: float = Field(0.1, ge=0, description="weight of the contrastive loss in the preparation")
    temperature: float = Field(1.0, gt=0, description="temperature of the contrastive loss")


@dataclass(frozen=True, kw_only=True)
class Drawn(Batch):
    """A batch with the random draws of a training step.

    Attributes:
        pairs: Long [Q], the pairs of user and domain (rows of `GeneratedItems`) whose items recall noise.
        overlapped: A batch of users of several domains.
    """

    pairs: Tensor
    overlapped: Batch


@dataclass(frozen=True, kw_only=True)
class Noisy(Batch):
    """A batch with recalled items inserted.

    Attributes:
        recalled: Long [B, k], the recalled items.
        query: [B, D], the vector that they are nearest to.
        which: Long [B, L], the index among the k recalled items at each position, -1 for an original item.
    """

    recalled: Tensor
    query: Tensor
    which: Tensor


class LLMCDSR(PlainModel):
    """The recommender with the recall network.

    Without generated items it is the recommender alone. Without users of several domains the recall network is not
    trained, and gives the mean of a user's generated items.
    """

    Options = LLMCDSROptions

    @classmethod
    def check(cls, s: Settings, options: Section) -> None:
        mixed_only(s)

    def __init__(self, given: ModelInputs) -> None:
        super().__init__(given)
        assert isinstance(given.options, LLMCDSROptions)
        self.options = given.options
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
        """Draw the users that both the bilevel step and the shared step learn from."""
        if self.recall is None:
            return batch
        pairs = torch.arange(len(self.recall.users), device=batch.rows.device)
        pairs = self._draw(pairs, self.rows.lengths[self.recall.users], self.options.noisy)
        if not len(self.several):
            return Drawn(**_parts(batch), pairs=pairs, overlapped=batch)
        overlapped = self._draw(self.several, self.rows.lengths[self.several], self.options.overlapped)
        return Drawn(**_parts(batch), pairs=pairs, overlapped=self.rows.batch(overlapped))

    def _draw(self, candidates: Tensor, lengths: Tensor, count: int) -> Tensor:
        """Draw `count` candidates, or all if there are fewer.

        Each is equally likely, but they have similar lengths, so that there is little padding.
        """
        pool = torch.randperm(len(candidates), device=candidates.device)[: POOL * count]
        chunks = pool[lengths[pool].argsort()].split(count)
        return candidates[chunks[int(torch.randint(len(chunks), ()))]]

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """Return the next-item loss over the batch and the noisy rows."""
        noise = (Batch(**_parts(self.noise(batch))),) if isinstance(batch, Drawn) else ()
        return {"next_item": self(objective, batch, *noise)}

    def forward(self, objective: Objective, *batches: Batch) -> Tensor:
        """Return the mean next-item loss over the positions of all batches."""
        each = (self.training_positions(batch)[0] for batch in batches)
        return mean(torch.cat([objective(at, self.encode_items) for at in each]))

    def own_parameters(self) -> list[nn.Parameter]:
        return [] if self.recall is None or not len(self.several) else list(self.recall.parameters())

    def own_optimizer(self) -> torch.optim.Optimizer | None:
        parameters = self.own_parameters()
        return torch.optim.Adam(parameters, lr=self.options.meta_lr, betas=ADAM_BETAS) if parameters else None

    def own_loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """Return L(theta'; overlapped users), where theta' = theta - lr step(grad L(theta; batch and noise)).

        Through theta' its gradient shows the recall network whether the noise has helped.
        """
        assert isinstance(batch, Drawn)
        parts = {"encoder", "backbone"}
        theta = {name: value for name, value in self.named_parameters() if name.split(".")[0] in parts}
        with twice_differentiable():
            loss = self(objective, batch, self.noise(batch))
            gradients = torch.autograd.grad(loss, list(theta.values()), create_graph=True, materialize_grads=True)
            virtual = {
                name: value - self.options.virtual_lr * self._direction(gradient)
                for (name, value), gradient in zip(theta.items(), gradients, strict=True)
            }
            return {"meta": functional_call(self, virtual, (objective, batch.overlapped))}

    def _direction(self, gradient: Tensor) -> Tensor:
        return gradient if self.options.virtual == "sgd" else gradient / (gradient.abs() + ADAM_EPSILON)

    def noise(self, batch: Drawn) -> Noisy:
        """Return the users of `batch.pairs`, with recalled items at random positions."""
        assert self.recall is not None and self.space is not None
        rows = self.rows.batch(self.recall.users[batch.pairs])
        query = self.recall(batch.pairs, self.space)
        recalled = self.recall.nearest(query, batch.pairs, self.space, rows.items, self.options.recalled)
        chance = torch.rand(recalled.shape, device=recalled.device)
        positions = torch.minimum((chance * rows.lengths[:, None]).long(), rows.lengths[:, None] - 1)
        rows, which = inserted(rows, recalled, positions, self.domain_of, self.settings.max_length)
        return Noisy(**_parts(rows), recalled=recalled, query=query, which=which)

    def embed(self, batch: Batch) -> Tensor:
        x = super().embed(batch)
        if not isinstance(batch, Noisy):
            return x
        recalled = straight_through(self.encode_items(batch.recalled), batch.query)
        mask = batch.which >= 0
        return x.masked_scatter(mask.unsqueeze(-1), recalled[torch.nonzero(mask)[:, 0], batch.which[mask]])


class MetaRecall(Layer):
    """The recall network: a mean of generated items, weighted by relevance.

    The weights are the softmax of w_d . p(e) over a user's items. w_d starts at zero, which gives the plain mean.
    """

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

    def forward(self, pairs: Tensor, space: CollaborativeText) -> Tensor:
        """Return the weighted mean of the generated items of each pair, [Q, D].

        It is a vector in the collaborative space of the pair's domain.
        """
        items, domains = self.items[pairs], self.domains[pairs]
        projected = space.project(self.vectors[items], domains)
        relevance = (projected * self.relevance[domains].unsqueeze(1)).sum(-1)
        weights = relevance.masked_fill(items == 0, float("-inf")).softmax(1)
        return (weights.unsqueeze(-1) * projected).sum(1)

    @torch.no_grad()
    def nearest(self, query: Tensor, pairs: Tensor, space: CollaborativeText, seen: Tensor, k: int) -> Tensor:
        """Return the k training items of the domain with the highest cosine, long [Q, k]; 0 where there are fewer.

        Args:
            query: [Q, D], vectors in the collaborative space.
            pairs: Long [Q], rows of `GeneratedItems`, which give the domain.
            space: The collaborative space.
            seen: Long [Q, L], items to leave out.
            k: The number of items.
        """
        cosines = linear(query, space.directions())
        wanted = self.seen & (self.domain_of == self.domains[pairs, None])
        cosines = cosines.masked_fill(~wanted, float("-inf")).scatter(1, seen, float("-inf"))
        best = cosines.topk(min(k, len(self.seen) - 1), 1)
        return torch.where(best.values > float("-inf"), best.indices, 0)


class CollaborativeText(SequentialModel):
    """Collaborative-textual contrastive pre-training.

    A SASRec for each domain, and a projection of text vectors into the space of its item vectors, trained by a
    contrast between the two views of an item.
    """

    def __init__(self, given: ModelInputs) -> None:
        s = given.model.model_copy(update={"encoder": "id", "backbone": "sasrec", "heads": 1})
        super().__init__(replace(given, model=s))
        assert given.table.text is not None and isinstance(given.options, LLMCDSROptions)
        self.options = given.options
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
        """Project text vectors [Q, n, d_L] into the item spaces of `domains` (long [Q]), [Q, n, D]."""
        weights = torch.stack([projection.weight for projection in self.projections])
        return text @ weights[domains].transpose(1, 2)

    @torch.no_grad()
    def directions(self) -> Tensor:
        """Return unit vectors of all items, [1 + N, D], computed again only when the weights have changed."""
        assert isinstance(self.encoder, IdEncoder)
        version = self.encoder.weight._version
        if self._directions is None or self._directions[0] != version:
            ids = torch.arange(len(self.domain_of), device=self.domain_of.device)
            self._directions = version, F.normalize(self.encode_items(ids), dim=1)
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
            of_domain = Batch(
                rows=batch.rows, items=items, lengths=lengths, targets=targets, domains=self.domain_of[targets]
            )
            next_item.append(
                mean(objective(self.before_targets(of_domain, x, backbone(x, lengths)), self.encode_items))
            )
            unique = items.unique()
            with_text = unique[self.text[unique].abs().sum(1) > 0]
            contrast.append(
                two_views(projection(self.text[with_text]), self.encode_items(with_text), self.options.temperature)
            )
        contrasted = self.options.contrast * torch.stack(contrast).sum()
        return {"next_item": torch.stack(next_item).sum(), "contrast": contrasted}


def straight_through(recalled: Tensor, query: Tensor) -> Tensor:
    """Return `recalled` [Q, k, D] unchanged, but pass the mean of their gradients to `query` [Q, D] instead."""
    return recalled.detach() + (query - query.detach()).unsqueeze(1) / recalled.shape[1]


def inserted(
    rows: Batch, recalled: Tensor, positions: Tensor, domain_of: Tensor, max_length: int
) -> tuple[Batch, Tensor]:
    """Insert recalled items into the rows, and keep the newest `max_length` items.

    Several items at one position keep the order of `recalled`, the nearest first.

    Args:
        rows: The original rows.
        recalled: Long [B, k], the items to insert, 0 for none. They are not targets.
        positions: Long [B, k]; each is inserted before the item at its position.
        domain_of: Long [1 + N], the domain of each item.
        max_length: The maximum length of a row.

    Returns:
        The new rows, and long [B, L]: the index among the k recalled items at each position, -1 for an original
        item.
    """
    k, longest = recalled.shape[1], rows.items.shape[1]
    merged = torch.cat([recalled, rows.items], 1)
    steps = torch.arange(longest, device=positions.device).expand(len(positions), longest)
    keys = torch.cat([2 * positions, 2 * steps + 1], 1).masked_fill(merged == 0, 2 * longest)
    order = keys.argsort(dim=1, stable=True)
    total = (merged > 0).sum(1)
    lengths = total.clamp_max(max_length)
    steps = torch.arange(max(1, int(lengths.max())), device=positions.device)
    which = order.gather(1, (total - lengths)[:, None] + steps)
    items = merged.gather(1, which)
    mask = (which < k) & (items > 0)
    targets = F.pad(items[:, 1:].masked_fill(mask[:, 1:], 0), (0, 1))
    noisy = Batch(
        rows=rows.rows, items=items, lengths=lengths, targets=targets, domains=domain_of[targets], inserted=mask
    )
    return noisy, torch.where(mask, which, -1)


def _parts(batch: Batch) -> dict[str, Any]:
    """Return the fields of the base class `Batch`."""
    return {field.name: getattr(batch, field.name) for field in fields(Batch)}
