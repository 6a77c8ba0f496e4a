"""What a model's items take of the memory of each device, with the id table whole or shared out (`--shard-items`).

    python tests/benchmarks/item_memory.py                     5 million items, sasrec-ce and best
    python tests/benchmarks/item_memory.py --items 50000000 --presets sasrec-ce --devices 1 8 64

Computed, not measured: each preset's model is made for 1,000 and for 2,000 items, all of them in training, and what
it has more of the second time, per item, is what an item costs. Of the id table that is the weight, its gradient and
AdamW's two moments, in float32; of all else (text vectors, numbers of rows and domains) the tensor itself, which
every device has whole.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch

from edt_cli.config import Settings, load_settings
from edt_cli.data.dataset import Domains, Sequences
from edt_cli.models.batch import item_table
from edt_cli.models.encoders import IdEncoder
from edt_cli.models.inputs import ModelInputs
from edt_cli.models.systems import make_model, options_of
from edt_cli.training.sizes import TEXT_WIDTH

COPIES = 4
"""The weight, its gradient, and two moments."""


def held(settings: Settings, items: int) -> tuple[int, int]:
    """Return the bytes of a model's id tables with their copies, and of all else that it has of items."""
    domains = Domains(("a", "b"), np.array([1, 1 + items // 2, 1 + items]))
    sequences = Sequences(np.array([0, items]), np.arange(1, items + 1))
    needs_text = settings.model.encoder != "id"
    vectors = np.random.default_rng(0).standard_normal((items + 1, TEXT_WIDTH), dtype=np.float32)
    table = item_table(domains, sequences, vectors=vectors if needs_text else None)
    options = options_of(settings.model.name, settings.options)
    model = make_model(ModelInputs(table, settings.model, settings.training, options, sequences))
    ids = [module.weight for module in model.modules() if isinstance(module, IdEncoder)]
    others = {
        tensor.data_ptr(): tensor for tensor in (*model.buffers(), *vars(model.table).values()) if is_tensor(tensor)
    }
    return COPIES * sum(map(size, ids)), sum(map(size, others.values()))


def is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def size(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=5_000_000)
    parser.add_argument("--presets", nargs="+", default=["sasrec-ce", "best"])
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    asked = parser.parse_args()
    sys.stdout.write(f"{asked.items:,} items, GB a device: the id table with gradient and moments + all else\n")
    for preset in asked.presets:
        small, large = (held(load_settings(preset), items) for items in (1000, 2000))
        ids, others = ((two - one) / 1000 * asked.items / 1e9 for one, two in zip(small, large, strict=True))
        cells = [f"{devices}: {ids / devices:.2f} + {others:.2f}" for devices in asked.devices]
        sys.stdout.write(f"{preset:12} {'   '.join(cells)}\n")


if __name__ == "__main__":
    main()
