"""C2DSR (Cao et al., CIKM 2022): contrastive infomax between what one domain and what all domains say of a user.

A graph encoder and self-attention read the mixed sequence and each domain's own; the next item is predicted from
the mixed state alone and from the sum of both; the infomax ties a domain's prototype to the others' mixed one.

Where this departs from the public code, which pads and keeps each domain's items at their mixed places:
- padding is not attended to, and there is no class for it in the softmax;
- the softmax has no bias, as in the paper, and by default samples its negatives (all: `training.negatives` at least
  as large as a domain); the losses are means over real positions, all of them instead of the last ten;
- the graph has no bias either: it adds one vector to every item, which is what positions do;
- attention blocks are SASRec's own (the code normalises queries, but not keys and values);
- with three domains and more "the other domain" is all the others.
The graphs hold training prefixes only. A prefix's own next item is an edge too, as in the paper: what a training
position is told there is missing at evaluation.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from edt_cli.config import Section
from edt_cli.data.dataset import Sequences
from edt_cli.models.backbones import SASRec
from edt_cli.models.batch import Batch, domain_rows, mean_state
from edt_cli.models.domain_sequences import domain_positions, domain_sequence, next_of_domain
from edt_cli.models.encoders import make_encoder
from edt_cli.models.inputs import ModelInputs
from edt_cli.models.layers import Dropout
from edt_cli.models.losses import mean
from edt_cli.models.positions import Objective
from edt_cli.models.sequential import SequentialModel
from edt_cli.models.typed import Layer, ModuleList


class Options(Section):
    graph_layers: int = Field(1, ge=0, description="depth of the graph encoder")
    balance: float = Field(0.7, ge=0, le=1, description="lambda: of the next-item losses; the infomax has the rest")


class C2DSR(SequentialModel):
    """The base's `encoder` is W, the matrix of the softmax; items go in by vectors of their own, for the mixed
    sequence and for their domain's."""

    Options = Options

    def __init__(self, given: ModelInputs) -> None:
        super().__init__(given)
        s, own = given.model, given.options
        assert isinstance(own, Options)
        self.balance = own.balance
        self.starts = given.table.domains.starts.tolist()
        nothing = Sequences(np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64))
        prefixes = nothing if given.view is None else given.view.prefixes
        self.mixed_items = GraphEncoder(given, prefixes, own.graph_layers)
        self.own_items = GraphEncoder(given, domain_rows(prefixes, given.table), own.graph_layers)
        self.mixed = SASRec(s)
        self.own = ModuleList(SASRec(s) for _ in range(self.domains))
        self.discriminators = ModuleList(Discriminator(s.hidden) for _ in range(self.domains))

    def encode_positions(self, batch: Batch) -> Tensor:
        """h + h^d, d the domain asked for: the mixed state, and that after the last item of d if there is one."""
        states = self.mixed(self.mixed_items(batch.items), batch.lengths)
        return states + domain_positions(batch, self.domain_of, self.domains, self._encode_own)[0]

    def encode_last(self, batch: Batch) -> Tensor:
        states = self.mixed.last(self.mixed_items(batch.items), batch.lengths)
        asked = batch.domains[:, 0]
        items, lengths, _ = domain_sequence(batch.items, self.domain_of, asked)
        x = self.own_items(items)
        for domain, encoder in enumerate(self.own):
            rows = torch.nonzero(asked == domain).squeeze(1)
            states = states.index_add(0, rows, encoder.last(x[rows], lengths[rows]))
        return states

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """lambda (L_single + L_cross) + (1 - lambda) L_infomax.

        Cross: the next item of the mixed sequence from h. Single: the next item of the same domain from h + h^d,
        both after the item before it in that domain, as the paper pairs them.
        """
        corrupted = [self._corrupted(batch.items, domain) for domain in range(self.domains)]
        every = torch.cat([batch.items, *corrupted])
        mixed, *false = self.mixed(self.mixed_items(every), batch.lengths.repeat(1 + self.domains)).chunk(
            1 + self.domains
        )
        of_item = self.domain_of[batch.items]
        own, _ = domain_positions(replace(batch, domains=of_item), self.domain_of, self.domains, self._encode_own)
        following = next_of_domain(batch.items, self.domain_of, self.domains)
        known = following > 0

        cross = self.before_targets(batch, self.encode_items(batch.items), mixed)
        single = self.at_places(batch, known, (mixed + own)[known], self.encode_items(following[known]), following)
        infomax = [
            discriminator(*self._prototypes(own, mixed, false[domain], known, of_item == domain))
            for domain, discriminator in enumerate(self.discriminators)
        ]
        return {
            "single": self.balance * mean(objective(single, self.encode_items)),
            "cross": self.balance * mean(objective(cross, self.encode_items)),
            "infomax": (1 - self.balance) * torch.stack(infomax).sum(),
        }

    def _encode_own(self, domain: int, items: Tensor, lengths: Tensor) -> Tensor:
        return self.own[domain](self.own_items(items), lengths)

    def _corrupted(self, items: Tensor, domain: int) -> Tensor:
        """[B, L]: each item of `domain` replaced by a random one of that domain's."""
        first, end = self.starts[domain], self.starts[domain + 1]
        other = torch.randint(first, max(first + 1, end), items.shape, device=items.device)
        return torch.where((self.domain_of[items] == domain) & (items > 0), other, items)

    def _prototypes(
        self, own: Tensor, mixed: Tensor, false: Tensor, known: Tensor, inside: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[U, D] each, of the users with items on both sides: the domain's own prototype, the other domains' by the
        mixed sequence, and that by one in which this domain's items are random."""
        here, others = known & inside, known & ~inside
        users = here.any(1) & others.any(1)
        of_own, of_others, of_false = (
            mean_state(states[users], places[users])
            for states, places in ((own, here), (mixed, others), (false, others))
        )
        return of_own, of_others, of_false


class Discriminator(Layer):
    """Infomax of one domain: a bilinear score must tell true pairs of prototypes from corrupted ones."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(hidden, hidden) * 2**0.5 / hidden)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, own: Tensor, true: Tensor, false: Tensor) -> Tensor:
        """[U, D] each -> scalar: -log sigmoid(D(own, true)) - log(1 - sigmoid(D(own, false))), the mean."""
        asked = own @ self.weight
        score_true, score_false = ((asked * other).sum(1) + self.bias for other in (true, false))
        return mean(F.softplus(-score_true) + F.softplus(score_false))


class GraphEncoder(Layer):
    """An item's own vector e, and the mean g over layers of what follows it: A^k e, A the row-normalised counts of
    the items that come next. Only what a batch's items can reach is computed."""

    def __init__(self, given: ModelInputs, rows: Sequences, layers: int) -> None:
        super().__init__()
        self.embed = make_encoder(given.table, given.model)
        self.layers = layers
        self.drop = Dropout(given.model.dropout)
        for name, values in transitions(rows, len(given.table.domain_of)).items():
            self.register_buffer(name, values, persistent=False)

    starts: Tensor
    following: Tensor
    share: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        """long [...] -> g + e [..., D]; zero for padding."""
        unique, place = torch.unique(ids, return_inverse=True)
        layers = self._propagated(unique, self.layers)
        return F.embedding(place, torch.stack(layers).mean(0) + layers[0])

    def _propagated(self, ids: Tensor, depth: int) -> list[Tensor]:
        """e, A e, .., A^depth e at `ids` [n]: [n, D] each. Dropout stands before each product."""
        if depth == 0:
            return [self.embed(ids)]
        first, counts = self.starts[ids], self.starts[ids + 1] - self.starts[ids]
        begin = counts.cumsum(0) - counts
        edges = torch.arange(int(counts.sum()), device=ids.device) + torch.repeat_interleave(first - begin, counts)
        near, place = torch.unique(self.following[edges], return_inverse=True)
        share = self.share[edges]
        return [self.embed(ids)] + [
            F.embedding_bag(place, self.drop(x), begin, mode="sum", per_sample_weights=share.to(x.dtype))
            for x in self._propagated(near, depth - 1)
        ]


def transitions(rows: Sequences, items: int) -> dict[str, Tensor]:
    """What comes right after each item, in compressed rows: item i's are following[starts[i]:starts[i + 1]], and
    `share` is how often it was each of them."""
    joined = rows.users[1:] == rows.users[:-1]
    pairs, counts = np.unique(rows.items[:-1][joined] * items + rows.items[1:][joined], return_counts=True)
    sources, following = pairs // items, pairs % items
    starts = np.searchsorted(sources, np.arange(items + 1))
    share = counts / np.bincount(sources, counts, minlength=items)[sources]
    return {
        "starts": torch.from_numpy(starts),
        "following": torch.from_numpy(following),
        "share": torch.from_numpy(share).float(),
    }
