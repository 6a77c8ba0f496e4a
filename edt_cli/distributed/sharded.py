"""Tables whose rows are shared out to the processes, with what the optimiser keeps of them; in one process none is.

torch's own ways do not fit a table of ids: RowwiseParallel wants as many ids in each process and as many look-ups,
and FSDP gathers the whole table for each step. Here a process fetches the rows that its share of a batch needs, and
sends their gradients back. Processes look up as often as their share asks for, so that every look-up is a round of
all of them, in which those that have finished their loss give rows and take none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from edt_cli.distributed.group import group_of, process, processes

CPU = torch.device("cpu")
FINISHED = -1
"""In place of a table's number: nothing is asked for any more in this step."""


class ShardedRows:
    """The rows of a table, of which each process has a block of the same size.

    Attributes:
        number: Of the table, among those of its model.
        weight: This process's block, float32 [block, D]; the last block ends with rows that nobody reads.
        count: Rows of the table.
        block: Rows of a block.
        whole: All rows, in the CPU's memory, outside of training: before it, for validation, and after it.
        mean: The mean of all rows.
    """

    def __init__(self, weight: nn.Parameter, exchange: Exchange) -> None:
        """Keep this process's block of a table in `weight`, and all of it as `whole`."""
        self.exchange, self.number = exchange, len(exchange.tables)
        self.weight, self.count = weight, len(weight)
        self.block = -(-len(weight) // processes())
        self.have(weight.detach())
        weight.data = self.own(weight.detach())
        weight.rows = self  # type: ignore[attr-defined]
        exchange.tables.append(self)

    def have(self, whole: Tensor | None) -> None:
        """Keep all rows in the CPU's memory, or none."""
        self.whole = None if whole is None else whole.cpu()
        if self.whole is not None:
            self.mean = self.whole.mean(0)

    def own(self, table: Tensor) -> Tensor:
        """Return this process's block of a table of all rows."""
        part = table[process() * self.block : (process() + 1) * self.block]
        return F.pad(part, (0, 0) * (table.dim() - 1) + (0, self.block - len(part))).clone()

    def lookup(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vectors [..., D] at `rows` (long [...]), and the mean of all [D], without a gradient."""
        device = self.weight.device
        if self.whole is not None:
            return F.embedding(rows.cpu(), self.whole).to(device), self.mean.to(device)
        unique, inverse = torch.unique(rows, return_inverse=True)
        vectors = self.exchange.fetch(self, unique)
        if self.weight.requires_grad and torch.is_grad_enabled():
            self.exchange.fetched.append((self, unique, vectors.requires_grad_()))
        return F.embedding(inverse, vectors), self.mean

    def gathered(self, part: Tensor) -> Tensor | None:
        """Return all rows of what each process has its block of, in the leader and on the CPU; None elsewhere."""
        part = part.detach().cpu().contiguous()
        parts = None if process() else [torch.empty_like(part) for _ in range(processes())]
        dist.gather(part, parts, 0, group=group_of(CPU))
        return None if parts is None else torch.cat(parts)[: self.count]


class Exchange:
    """What the processes tell each other of the sharded tables of a model."""

    def __init__(self) -> None:
        self.tables: list[ShardedRows] = []
        self.fetched: list[tuple[ShardedRows, Tensor, Tensor]] = []
        """Of this step: the table, the rows that were fetched, and their vectors, whose gradients are due."""

    def begin(self) -> None:
        """Begin a step of all processes."""
        self.fetched = []
        for table in self.tables:
            table.have(None)
            total = table.weight.detach().sum(0)
            dist.all_reduce(total, group=group_of(total.device))
            table.mean = total / table.count

    def finish(self) -> None:
        """Give rows to the others until all have finished their loss."""
        nothing = torch.zeros(0, dtype=torch.long)
        while self._round(FINISHED, nothing) is not None:
            pass

    def fetch(self, table: ShardedRows, rows: Tensor) -> Tensor:
        """Return the vectors [n, D] of distinct, ascending rows of a table (long [n])."""
        vectors = self._round(table.number, rows)
        assert vectors is not None
        return vectors

    def _round(self, number: int, rows: Tensor) -> Tensor | None:
        """Ask for rows of a table, and give the others what they ask for; None once all have finished."""
        block = self.tables[number].block
        asked = torch.bincount(rows.cpu() // block, minlength=processes())
        header = torch.cat([torch.tensor([number]), asked])
        headers = [torch.empty_like(header) for _ in range(processes())]
        dist.all_gather(headers, header, group=group_of(CPU))
        numbers, counts = (part.tolist() for part in torch.stack(headers).split([1, processes()], 1))
        of_whom = [self.tables[one] for (one,) in numbers]
        if all(one == FINISHED for (one,) in numbers):
            return None
        wanted = [count[process()] for count in counts]
        ids = _sent(rows % block, asked.tolist(), wanted)
        width = self.tables[number].weight.shape[1]
        answers = [
            table.weight.detach()[part].flatten() for table, part in zip(of_whom, ids.split(wanted), strict=True)
        ]
        sizes = [count * width for count in asked.tolist()]
        vectors = _sent(torch.cat(answers), [len(answer) for answer in answers], sizes)
        return vectors.view(-1, width)

    def collect(self) -> None:
        """Send the gradients of what was fetched to whom the rows belong: their mean over the processes."""
        for table in self.tables:
            if not table.weight.requires_grad:
                continue
            of_table = [(rows, vectors) for other, rows, vectors in self.fetched if other is table]
            parts = [(rows, vectors.grad) for rows, vectors in of_table if vectors.grad is not None]
            device, width = table.weight.device, table.weight.shape[1]
            rows = torch.cat([torch.zeros(0, dtype=torch.long, device=device), *(rows for rows, _ in parts)])
            sums = torch.cat([table.weight.new_zeros(0, width), *(gradient for _, gradient in parts)])
            order = torch.argsort(rows, stable=True)
            sent = torch.bincount(rows.cpu() // table.block, minlength=processes())
            all_sent = [torch.empty_like(sent) for _ in range(processes())]
            dist.all_gather(all_sent, sent, group=group_of(CPU))
            due = [int(count[process()]) for count in all_sent]
            at = _sent(rows[order] % table.block, sent.tolist(), due)
            flat = _sent(sums[order].flatten(), (sent * width).tolist(), [count * width for count in due])
            gradient = torch.zeros_like(table.weight).index_add_(0, at, flat.view(-1, width))
            table.weight.grad = gradient / processes()
        self.fetched = []


def _sent(values: Tensor, sizes: list[int], due: list[int]) -> Tensor:
    """Send `sizes[i]` of the values to process i, and return the `due[i]` values that come from each, joined."""
    out = values.new_empty(sum(due))
    dist.all_to_all_single(out, values.contiguous(), due, sizes, group=group_of(values.device))
    return out


def shard(weights: Iterable[nn.Parameter]) -> list[ShardedRows]:
    """Share out the rows of tables, in their order, to the processes that train together.

    Args:
        weights: Tables with all their rows, the same in all processes.
    """
    exchange = Exchange()
    return [ShardedRows(weight, exchange) for weight in weights]


def rows_of(weight: nn.Parameter) -> ShardedRows | None:
    """Return the rows that a parameter is a block of; None for a parameter that all processes have."""
    rows: ShardedRows | None = getattr(weight, "rows", None)
    return rows


def exchange_of(weights: Iterable[nn.Parameter]) -> Exchange | None:
    """Return what exchanges the sharded tables among some parameters; None if none is sharded."""
    return next((rows.exchange for weight in weights if (rows := rows_of(weight)) is not None), None)


def whole_size(weight: nn.Parameter) -> int:
    """Return how many numbers a parameter has in all processes together."""
    rows = rows_of(weight)
    return weight.numel() if rows is None else rows.count * weight.shape[1]


def gather_tables(weights: Iterable[nn.Parameter]) -> None:
    """Let the leader have all rows of the sharded tables, until the next step."""
    for weight in weights:
        if (rows := rows_of(weight)) is not None:
            rows.have(rows.gathered(weight))


def gathered_states(kind: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what an optimiser keeps of sharded tables, all rows, in the leader; nothing in the others.

    Args:
        kind: Beginning of the names, which are `KIND.NUMBER.NAME` with the number of the parameter.
        optimizer: The optimiser.
    """
    out = {}
    for number, weight, rows in _sharded(optimizer):
        for name, value in optimizer.state.get(weight, {}).items():
            if torch.is_tensor(value) and value.shape == weight.shape:
                whole = rows.gathered(value)
                if whole is not None:
                    out[f"{kind}.{number}.{name}"] = whole
    return out


def own_states(optimizer: torch.optim.Optimizer, states: dict[int, dict[str, Tensor]]) -> None:
    """Cut what an optimiser kept of whole tables, by number of the parameter, down to this process's blocks."""
    for number, _, rows in _sharded(optimizer):
        of_table = states.get(number, {})
        of_table |= {name: rows.own(value) for name, value in of_table.items() if value.dim()}


def _sharded(optimizer: torch.optim.Optimizer) -> Iterator[tuple[int, nn.Parameter, ShardedRows]]:
    """Yield the sharded parameters of an optimiser with their numbers in its state."""
    every = [weight for group in optimizer.param_groups for weight in group["params"]]
    for number, weight in enumerate(every):
        if (rows := rows_of(weight)) is not None:
            yield number, weight, rows
