"""C2DSR (Cao et al., CIKM 2022): contrastive infomax across domains.

A graph encoder and self-attention encode the mixed sequence and each domain sequence. The next item is predicted
from the mixed state alone and from the sum of both states. The infomax objective ties the prototype of a domain to
the mixed prototype of the other domains.

Differences from the public code, which pads domain sequences so that items keep their mixed positions:
- Padding is not attended to, and the softmax has no class for it.
- The softmax has no bias, as in the paper, and by default samples its negatives (to use all items, set
  `training.negatives` at least as large as a domain). Losses are means over all real positions, not the last ten.
- The graph has no bias either: it would add the same vector to every item, as positions already do.
- Attention blocks are those of SASRec (the code normalises queries, but not keys and values).
- With three or more domains, "the other domain" is all other domains.

The graphs are built from training prefixes only. The next item of a training position is an edge too, as in the
paper: this information is missing at evaluation.
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
    """Options of C2DSR."""

    graph_layers: int = Field(1, ge=0, description="depth of the graph encoder")
    balance: float = Field(
        0.7,
        ge=0,
        le=1,
        description="lambda: weight of the next-item losses; the infomax loss has weight 1 - lambda",
    )


class C2DSR(SequentialModel):
    """The model; the base's `encoder` is W, the softmax matrix.

    Input vectors of items are separate, for the mixed sequence (`mixed_items`) and for domain sequences
    (`own_items`).
    """

    Options = Options

    def __init__(self, given: ModelInputs) -> None:
        super().__init__(given)
        s, options = given.model, given.options
        assert isinstance(options, Options)
        self.balance = options.balance
        self.starts = given.table.domains.starts.tolist()
        empty = Sequences(np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64))
        prefixes = empty if given.view is None else given.view.prefixes
        self.mixed_items = GraphEncoder(given, prefixes, options.graph_layers)
        self.own_items = GraphEncoder(given, domain_rows(prefixes, given.table), options.graph_layers)
        self.mixed = SASRec(s)
        self.own = ModuleList(SASRec(s) for _ in range(self.domains))
        self.discriminators = ModuleList(Discriminator(s.hidden) for _ in range(self.domains))

    def encode_positions(self, batch: Batch) -> Tensor:
        """Return h + h^d, [B, L, D].

        h is the mixed state, h^d the state after the last item of the queried domain d, zero if there is none.
        """
        states = self.mixed(self.mixed_items(batch.items), batch.lengths)
        return states + domain_positions(batch, self.domain_of, self.domains, self._encode_own)[0]

    def encode_last(self, batch: Batch) -> Tensor:
        states = self.mixed.last(self.mixed_items(batch.items), batch.lengths)
        domains = batch.domains[:, 0]
        items, lengths, _ = domain_sequence(batch.items, self.domain_of, domains)
        x = self.own_items(items)
        for domain, encoder in enumerate(self.own):
            rows = torch.nonzero(domains == domain).squeeze(1)
            states = states.index_add(0, rows, encoder.last(x[rows], lengths[rows]))
        return states

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """Return the terms of lambda (L_single + L_cross) + (1 - lambda) L_infomax.

        Cross: the next item of the mixed sequence is predicted from h. Single: the next item of the same domain is
        predicted from h + h^d, both taken after the previous item of that domain, as the paper pairs them.
        """
        corrupted = [self._corrupted(batch.items, domain) for domain in range(self.domains)]
        every = torch.cat([batch.items, *corrupted])
        mixed, *false = self.mixed(self.mixed_items(every), batch.lengths.repeat(1 + self.domains)).chunk(
            1 + self.domains
        )
        of_item = self.domain_of[batch.items]
        of_domain, _ = domain_positions(
            replace(batch, domains=of_item), self.domain_of, self.domains, self._encode_own
        )
        following = next_of_domain(batch.items, self.domain_of, self.domains)
        known = following > 0

        cross = self.before_targets(batch, self.encode_items(batch.items), mixed)
        single = self.select_positions(
            batch, known, (mixed + of_domain)[known], self.encode_items(following[known]), following
        )
        infomax = [
            discriminator(*self._prototypes(of_domain, mixed, false[domain], known, of_item == domain))
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
        """Replace each item of `domain` by a random item of that domain, [B, L]."""
        first, end = self.starts[domain], self.starts[domain + 1]
        other = torch.randint(first, max(first + 1, end), items.shape, device=items.device)
        return torch.where((self.domain_of[items] == domain) & (items > 0), other, items)

    def _prototypes(
        self, of_domain: Tensor, mixed: Tensor, false: Tensor, known: Tensor, inside: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return three prototypes of each user with items inside and outside the domain, [U, D] each.

        They are the mean domain state over the domain's items, the mean mixed state over the other domains' items,
        and the latter with this domain's items replaced by random ones.
        """
        here, others = known & inside, known & ~inside
        users = here.any(1) & others.any(1)
        inner, outer, corrupted = (
            mean_state(states[users], mask[users])
            for states, mask in ((of_domain, here), (mixed, others), (false, others))
        )
        return inner, outer, corrupted


class Discriminator(Layer):
    """Infomax of one domain: a bilinear score of pairs of prototypes, true or corrupted."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(hidden, hidden) * 2**0.5 / hidden)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, domain: Tensor, true: Tensor, false: Tensor) -> Tensor:
        """Return the loss of the prototypes of U users, [U, D] each -> scalar.

        It is the mean of -log sigmoid(D(domain, true)) - log(1 - sigmoid(D(domain, false))).
        """
        projected = domain @ self.weight
        score_true, score_false = ((projected * other).sum(1) + self.bias for other in (true, false))
        return mean(F.softplus(-score_true) + F.softplus(score_false))


class GraphEncoder(Layer):
    """The sum of an item's vector e and g, the mean over layers k of A^k e.

    A holds the row-normalised counts of the items that come next. Only the items that a batch can reach are
    computed.
    """

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
        """Return g + e for item ids, long [...] -> [..., D]; zero for padding."""
        unique, inverse = torch.unique(ids, return_inverse=True)
        layers = self._propagated(unique, self.layers)
        return F.embedding(inverse, torch.stack(layers).mean(0) + layers[0])

    def _propagated(self, ids: Tensor, depth: int) -> list[Tensor]:
        """Return e, A e, .., A^depth e at `ids` [n], [n, D] each; dropout is applied before each product."""
        if depth == 0:
            return [self.embed(ids)]
        first, counts = self.starts[ids], self.starts[ids + 1] - self.starts[ids]
        begin = counts.cumsum(0) - counts
        edges = torch.arange(int(counts.sum()), device=ids.device) + torch.repeat_interleave(first - begin, counts)
        near, inverse = torch.unique(self.following[edges], return_inverse=True)
        share = self.share[edges]
        return [self.embed(ids)] + [
            F.embedding_bag(inverse, self.drop(x), begin, mode="sum", per_sample_weights=share.to(x.dtype))
            for x in self._propagated(near, depth - 1)
        ]


def transitions(rows: Sequences, items: int) -> dict[str, Tensor]:
    """Count which items come right after each item, as a sparse matrix in compressed rows.

    Item i is followed by following[starts[i]:starts[i + 1]]; `share` is the relative frequency of each.
    """
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
