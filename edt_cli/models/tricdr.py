"""TriCDR (Ma et al., "Triple Sequence Learning for Cross-domain Recommendation", TOIS 2024).

A user's mixed, source and target sequences have one encoder each. Triple cross-domain attention (TCA), with the
target state and the mean mixed state as queries, aggregates all three. Triple contrastive learning (TCL) pulls the
three aggregated vectors together and keeps them apart.

The paper and its public code have one target domain and a separate model for it. Here each domain is the target
when it is queried, and all others are its source. Encoders and item vectors belong to a domain, whichever role it
has; the layers on top of them (`Target`) exist once for each target. Other differences from the public code:
- The code loops over positions and builds five vectors for each pair. The first layer is linear in four of them, so
  here only one is built, for all positions at once.
- A position without an earlier source (or target) item gets zero. The code takes the mean of that whole sequence,
  including later items and padding.
- Padding is not attended to, positions count from the first item, and attention blocks are those of SASRec (the
  code normalises queries, but not keys and values).
- Encoders start from SASRecs trained on each sequence, as in the code (`warm = false`: from random weights), but
  these are trained all at once, with one validation.
- The contrast of a batch is among users with both source and target items before their last target.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from edt_cli.config import Section
from edt_cli.models.backbones import SASRec
from edt_cli.models.batch import Batch, last_state
from edt_cli.models.domain_sequences import at_positions, domain_positions, domain_sequence, packed
from edt_cli.models.encoders import make_encoder
from edt_cli.models.inputs import ModelInputs
from edt_cli.models.kernels import linear
from edt_cli.models.layers import Linear
from edt_cli.models.losses import mean, nt_xent
from edt_cli.models.phase_names import PREPARATION
from edt_cli.models.phases import Phase
from edt_cli.models.positions import Objective
from edt_cli.models.sequential import NextItemPhase, SequentialModel
from edt_cli.models.typed import ModuleList, Sequential


class Options(Section):
    """Options of TriCDR."""

    warm: bool = Field(True, description="train the encoders of the three sequences separately first")
    scale: float = Field(5.0, gt=0, description="factor on the cosine of state and item in a score")
    coarse: float = Field(
        0.1, ge=0, description="weight of the coarse-grained contrast, which makes the three sequences similar"
    )
    coarse_temperature: float = Field(0.1, gt=0, description="temperature of the coarse-grained contrast")
    mixed_source: float = Field(
        1.0, ge=0, description="weight of the pair mixed and source in the coarse-grained contrast"
    )
    mixed_target: float = Field(
        1.0, ge=0, description="weight of the pair mixed and target in the coarse-grained contrast"
    )
    source_target: float = Field(
        1.0, ge=0, description="weight of the pair source and target in the coarse-grained contrast"
    )
    fine: float = Field(
        10.0,
        ge=0,
        description="weight of the fine-grained contrast, which keeps the source nearer to the mixed sequence",
    )
    margin: float = Field(4.0, ge=0, description="margin of the fine-grained contrast")


class Separate(SequentialModel):
    """A SASRec for the mixed sequence and one for each domain sequence, trained separately.

    A score is the sum of the scores of the mixed SASRec and that of the queried domain. The base's `encoder` holds
    the item vectors of the domain sequences; the mixed sequence has separate ones.
    """

    def __init__(self, given: ModelInputs) -> None:
        super().__init__(given)
        s = given.model
        self.mixed_items = make_encoder(given.table, s)
        self.mixed = SASRec(s)
        self.own = ModuleList(SASRec(s) for _ in range(self.domains))

    @property
    def width(self) -> int:
        return 2 * self.settings.hidden

    def encode_items(self, ids: Tensor) -> Tensor:
        return torch.cat([self.mixed_items(ids), self.encoder(ids)], -1)

    def encode_positions(self, batch: Batch) -> Tensor:
        mixed, of_domain, _ = self._states(batch)
        return torch.cat([mixed, of_domain], -1)

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        mixed, of_domain, present = self._states(batch)
        real = batch.targets > 0
        terms = {}
        for name, items, states, mask in (
            ("mixed", self.mixed_items, mixed, real),
            ("own", self.encoder, of_domain, real & present),
        ):
            positive = items(batch.targets[mask])
            at = self.select_positions(batch, mask, states[mask], positive, batch.targets)
            terms[name] = mean(objective(at, items))
        return terms

    def _states(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the states after each mixed position.

        Returns:
            [B, L, D] of the mixed sequence; [B, L, D] of the domain queried at each position; and bool [B, L],
            whether that domain has an item so far.
        """

        def encode(domain: int, items: Tensor, lengths: Tensor) -> Tensor:
            return self.own[domain](self.encoder(items), lengths)

        mixed = self.mixed(self.mixed_items(batch.items), batch.lengths)
        return mixed, *domain_positions(batch, self.domain_of, self.domains, encode)


class TriCDR(Separate):
    """The model; `encoder`, the vectors of source and target items, also scores the candidates."""

    Options = Options

    def __init__(self, given: ModelInputs) -> None:
        super().__init__(given)
        assert isinstance(given.options, Options)
        self.options = given.options
        self.targets = ModuleList(Target(given.model.hidden) for _ in range(self.domains))
        self.warm = Separate(given) if self.options.warm else None

    def phases(self, given: ModelInputs) -> list[Phase]:
        if self.warm is None:
            return super().phases(given)
        return [NextItemPhase(self.warm, given, PREPARATION), NextItemPhase(self, given, enter=self._start_warm)]

    def _start_warm(self) -> None:
        """Copy the weights that `Separate` has learned, and drop it."""
        if self.warm is not None:
            self.load_state_dict(self.warm.state_dict(), strict=False)
            self.warm = None

    @property
    def width(self) -> int:
        return self.settings.hidden

    def encode_items(self, ids: Tensor) -> Tensor:
        return F.normalize(self.encoder(ids), dim=-1)

    def encode_positions(self, batch: Batch) -> Tensor:
        return self._gathered(batch, batch.items > 0)[0]

    def encode_last(self, batch: Batch) -> Tensor:
        steps = torch.arange(batch.items.shape[1], device=batch.items.device)
        return last_state(self._gathered(batch, steps == batch.lengths[:, None] - 1)[0], batch.lengths)

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """Return L_rec and the two contrasts of TCL.

        The contrasts use the output of TCA before each user's last item of each domain.
        """
        states, triples = self._gathered(batch, batch.targets > 0)
        at = self.before_targets(batch, self.encode_items(batch.items), states)
        options = self.options
        coarse = torch.stack([self._coarse(*triple) for triple in triples]).mean()
        fine = torch.stack([self._fine(*triple) for triple in triples]).mean()
        return {
            "next_item": mean(objective(at, self.encode_items)),
            "coarse": options.coarse * coarse,
            "fine": options.fine * fine,
        }

    def _coarse(self, mixed: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Contrast each pair of the three vectors of a user, [U, D] each, against those of other users."""
        o, t = self.options, self.options.coarse_temperature
        pairs = (
            (o.mixed_source, nt_xent(mixed, source, t)),
            (o.mixed_target, nt_xent(mixed, target, t)),
            (o.source_target, nt_xent(source, target, t)),
        )
        return sum((w * loss for w, loss in pairs), mixed.new_zeros(())) / max(1e-12, sum(w for w, _ in pairs))

    def _fine(self, mixed: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Return the mean of max(0, |source - mixed| - |source - target| + margin) over [U, D] each."""
        near, far = (torch.linalg.vector_norm(source - other + 1e-6, dim=1) for other in (mixed, target))
        return mean(F.relu(near - far + self.options.margin))

    def _gathered(self, batch: Batch, mask: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
        """Apply TCA at the positions of `mask` (bool [B, L]).

        Returns:
            The states [B, L, D], zero elsewhere; and for each target domain the projections [U, D] of the outputs
            of TCA over the mixed, source and target sequence at its last position in each row.
        """
        of_item, steps = self.domain_of[batch.items], torch.arange(batch.items.shape[1], device=batch.items.device)
        mixed = self.mixed(self.mixed_items(batch.items), batch.lengths)
        average = mixed.cumsum(1) / (steps + 1).unsqueeze(1)
        newest = [self._newest(batch, domain) for domain in range(self.domains)]
        of_domain = torch.zeros_like(mixed)
        for domain, states in enumerate(newest):
            of_domain = torch.where((of_item == domain).unsqueeze(-1), states, of_domain)

        out = torch.zeros_like(mixed)
        triples: list[tuple[Tensor, Tensor, Tensor]] = []
        for domain, target in enumerate(self.targets):
            queried = mask & (batch.domains == domain)
            order, counts = packed(queried)
            before = steps[:, None] <= order[:, None, :]
            inside, outside = (before & side.unsqueeze(2) for side in (of_item == domain, of_item != domain))
            query, over = at_positions(newest[domain], order), at_positions(average, order)
            gathered = (
                *target.attend(query, over, mixed, before),
                *target.attend(query, over, of_domain, outside, inside),
            )
            states = F.normalize(target.fuse(torch.cat(gathered, -1)), dim=-1)
            within = torch.arange(order.shape[1], device=order.device) < counts[:, None]
            out[queried] = self.options.scale * states[within].to(out.dtype)
            both = last_state((inside.any(1) & outside.any(1)).unsqueeze(-1), counts).squeeze(1)
            last = [last_state(states, counts)[both] for states in gathered]
            of_mixed, of_source, of_target = (
                project(states) for project, states in zip(target.projections, last, strict=True)
            )
            triples.append((of_mixed, of_source, of_target))
        return out, triples

    def _newest(self, batch: Batch, domain: int) -> Tensor:
        """Return the state after the last item of `domain` at or before each position, [B, L, D]; zero if none."""
        items, lengths, index = domain_sequence(batch.items, self.domain_of, torch.full_like(batch.rows, domain))
        return at_positions(self.own[domain](self.encoder(items), lengths), index)


class Target(nn.Module):
    """Layers of one target domain: attention (TCA), fusion of its outputs, and projections for TCL."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.pair = Linear(5 * hidden, 80)
        self.score = Sequential(nn.PReLU(), Linear(80, 40), nn.PReLU(), Linear(40, 1))
        self.fuse = Sequential(Linear(3 * hidden, hidden), nn.LeakyReLU(), Linear(hidden, hidden))
        self.projections = ModuleList(
            Sequential(Linear(hidden, hidden), nn.ReLU(), Linear(hidden, hidden)) for _ in range(3)
        )

    def attend(self, query: Tensor, over: Tensor, facts: Tensor, *visible: Tensor) -> list[Tensor]:
        """TCA: attention of Q queries over L facts.

        The weight of a fact f is softmax MLP([f, q, f * q, q - f, o]).

        Args:
            query: q, [B, Q, D], target states.
            over: o, [B, Q, D], mean mixed states.
            facts: f, [B, L, D].
            *visible: Masks, bool [B, L, Q]; each gives one result.

        Returns:
            [B, Q, D] for each mask, zero where nothing is visible.
        """
        of_fact, of_query, of_product, of_difference, of_mean = self.pair.weight.chunk(5, 1)
        pairs = linear(facts.unsqueeze(2) * query.unsqueeze(1), of_product)
        pairs = pairs + linear(facts, of_fact - of_difference).unsqueeze(2)
        pairs = pairs + (linear(query, of_query + of_difference) + linear(over, of_mean, self.pair.bias)).unsqueeze(
            1
        )
        scores = self.score(pairs).squeeze(-1)
        return [
            (scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(1) * mask).transpose(1, 2) @ facts
            for mask in visible
        ]
