"""TriCDR (Ma et al., "Triple Sequence Learning for Cross-domain Recommendation", TOIS 2024).

A user's mixed, source and target sequences have an encoder each; attention led by the target state and by the mean
mixed one gathers what counts from all three (TCA); contrast between the three gathered vectors draws them together
and keeps them apart (TCL).

The paper and its public code have one target domain and a model for it. Here every domain is the target where it is
asked for, and all others are its source: encoders and item vectors are a domain's own whichever role it has, what
stands upon them (`Target`) is there once for each target. Other departures from the public code:
- the code loops over positions and builds five vectors for each pair; the first layer is linear in four of
  them, so that here only one is built, for all positions at once;
- a position without a source (or target) item before it gathers zero, where the code takes the mean of that whole
  sequence, later items and padding included;
- padding is not attended to, positions count from the first item, and attention blocks are SASRec's own (the code
  normalises queries, but not keys and values);
- encoders start from SASRecs that were trained for each sequence, as there (`warm = false`: afresh), but from all
  at once, with one validation;
- a batch's contrast is among users with both source and target items before their last target.
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
from edt_cli.models.phases import PREPARATION, Phase
from edt_cli.models.positions import Objective
from edt_cli.models.sequential import NextItemPhase, SequentialModel
from edt_cli.models.typed import ModuleList, Sequential


class Options(Section):
    warm: bool = Field(True, description="the three sequences' encoders are trained by themselves first")
    scale: float = Field(5.0, gt=0, description="a score is this times the cosine of state and item")
    coarse: float = Field(0.1, ge=0, description="weight of coarse-grained contrast: the three alike")
    coarse_temperature: float = Field(0.1, gt=0, description="of the coarse-grained contrast")
    mixed_source: float = Field(1.0, ge=0, description="share of this pair in coarse-grained contrast")
    mixed_target: float = Field(1.0, ge=0, description="share of this pair in coarse-grained contrast")
    source_target: float = Field(1.0, ge=0, description="share of this pair in coarse-grained contrast")
    fine: float = Field(10.0, ge=0, description="weight of fine-grained contrast: the source nearer to the mixed")
    margin: float = Field(4.0, ge=0, description="of fine-grained contrast")


class Separate(SequentialModel):
    """A SASRec for the mixed sequence and one for each domain's own. A score is the sum of what the mixed one and
    that of the domain asked for say; each learns by itself.

    The base's `encoder` holds the vectors of a domain's own sequence; the mixed one has others.
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
        mixed, own, _ = self._states(batch)
        return torch.cat([mixed, own], -1)

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        mixed, own, present = self._states(batch)
        real = batch.targets > 0
        terms = {}
        for name, items, states, places in (
            ("mixed", self.mixed_items, mixed, real),
            ("own", self.encoder, own, real & present),
        ):
            positive = items(batch.targets[places])
            at = self.at_places(batch, places, states[places], positive, batch.targets)
            terms[name] = mean(objective(at, items))
        return terms

    def _states(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """After each mixed position: [B, L, D] of the mixed sequence; [B, L, D] of the domain that is asked for
        there, and bool [B, L], whether it has had an item."""

        def encode(domain: int, items: Tensor, lengths: Tensor) -> Tensor:
            return self.own[domain](self.encoder(items), lengths)

        mixed = self.mixed(self.mixed_items(batch.items), batch.lengths)
        return mixed, *domain_positions(batch, self.domain_of, self.domains, encode)


class TriCDR(Separate):
    """The vectors of source and target items, `encoder`, score too."""

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
        """From what `Separate` has learned, which is of no more use then."""
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
        """L_rec + the two contrasts of TCL, on what TCA gathered before each user's last item of each domain."""
        states, triples = self._gathered(batch, batch.targets > 0)
        at = self.before_targets(batch, self.encode_items(batch.items), states)
        own = self.options
        coarse = torch.stack([self._coarse(*triple) for triple in triples]).mean()
        fine = torch.stack([self._fine(*triple) for triple in triples]).mean()
        return {
            "next_item": mean(objective(at, self.encode_items)),
            "coarse": own.coarse * coarse,
            "fine": own.fine * fine,
        }

    def _coarse(self, mixed: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """[U, D] each: every two of the three agree on whose they are."""
        o, t = self.options, self.options.coarse_temperature
        pairs = (
            (o.mixed_source, nt_xent(mixed, source, t)),
            (o.mixed_target, nt_xent(mixed, target, t)),
            (o.source_target, nt_xent(source, target, t)),
        )
        return sum((w * loss for w, loss in pairs), mixed.new_zeros(())) / max(1e-12, sum(w for w, _ in pairs))

    def _fine(self, mixed: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """[U, D] each: max(0, |source - mixed| - |source - target| + margin)."""
        near, far = (torch.linalg.vector_norm(source - other + 1e-6, dim=1) for other in (mixed, target))
        return mean(F.relu(near - far + self.options.margin))

    def _gathered(self, batch: Batch, places: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
        """States at `places` (bool [B, L]), zero elsewhere: [B, L, D]. And for each target domain the projections
        [U, D] of what its last place in each row gathered from the mixed, source and target sequence."""
        of_item, steps = self.domain_of[batch.items], torch.arange(batch.items.shape[1], device=batch.items.device)
        mixed = self.mixed(self.mixed_items(batch.items), batch.lengths)
        average = mixed.cumsum(1) / (steps + 1).unsqueeze(1)
        newest = [self._newest(batch, domain) for domain in range(self.domains)]
        own = torch.zeros_like(mixed)
        for domain, states in enumerate(newest):
            own = torch.where((of_item == domain).unsqueeze(-1), states, own)

        out = torch.zeros_like(mixed)
        triples: list[tuple[Tensor, Tensor, Tensor]] = []
        for domain, target in enumerate(self.targets):
            asked = places & (batch.domains == domain)
            order, counts = packed(asked)
            before = steps[:, None] <= order[:, None, :]
            inside, outside = (before & side.unsqueeze(2) for side in (of_item == domain, of_item != domain))
            query, over = at_positions(newest[domain], order), at_positions(average, order)
            gathered = (
                *target.attend(query, over, mixed, before),
                *target.attend(query, over, own, outside, inside),
            )
            states = F.normalize(target.fuse(torch.cat(gathered, -1)), dim=-1)
            within = torch.arange(order.shape[1], device=order.device) < counts[:, None]
            out[asked] = self.options.scale * states[within].to(out.dtype)
            both = last_state((inside.any(1) & outside.any(1)).unsqueeze(-1), counts).squeeze(1)
            last = [last_state(one, counts)[both] for one in gathered]
            of_mixed, of_source, of_target = (
                project(one) for project, one in zip(target.projections, last, strict=True)
            )
            triples.append((of_mixed, of_source, of_target))
        return out, triples

    def _newest(self, batch: Batch, domain: int) -> Tensor:
        """[B, L, D]: the state after the last item of `domain` at or before each position, zero without one."""
        items, lengths, place = domain_sequence(batch.items, self.domain_of, torch.full_like(batch.rows, domain))
        return at_positions(self.own[domain](self.encoder(items), lengths), place)


class Target(nn.Module):
    """What is there for one target domain: its attention, the fusion of what it gathers, the projections of TCL."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.pair = Linear(5 * hidden, 80)
        self.score = Sequential(nn.PReLU(), Linear(80, 40), nn.PReLU(), Linear(40, 1))
        self.fuse = Sequential(Linear(3 * hidden, hidden), nn.LeakyReLU(), Linear(hidden, hidden))
        self.projections = ModuleList(
            Sequential(Linear(hidden, hidden), nn.ReLU(), Linear(hidden, hidden)) for _ in range(3)
        )

    def attend(self, query: Tensor, over: Tensor, facts: Tensor, *visible: Tensor) -> list[Tensor]:
        """TCA: what Q queries gather from L facts, for each mask of `visible` (bool [B, L, Q]): [B, Q, D] each,
        zero where nothing is visible.

        query, over: [B, Q, D], the target state and the mean mixed one; facts: [B, L, D]. A fact f weighs
        softmax MLP([f, q, f * q, q - f, o]).
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
