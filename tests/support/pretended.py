"""A second device without hardware: tensors that say they are elsewhere, and are computed here.

Where one meets a tensor of the CPU it is an error, as with a GPU, and code that asks where a tensor is goes the way
that it would go with a GPU. There is no float64, as on Apple's. torch lets a backend be written in Python
so from 2.10 on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("pretended")
DEVICE = torch.device("pretended", 0)
COPIES = ("_to_copy", "copy_")
BY_INDEX = ("index", "index_put", "index_put_", "_index_put_impl_")
"""The index alone may lie on the CPU."""


class There(Tensor):
    """Of DEVICE; `here` has the values."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> There:
        with torch.inference_mode(False):  # which keeps no tensor of another class
            made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
                cls,
                here.size(),
                strides=here.stride(),
                storage_offset=here.storage_offset(),
                dtype=here.dtype,
                device=DEVICE,
                requires_grad=False,
            )
        made.here = here
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"There({self.here})"

    def tolist(self) -> Any:
        return self.here.tolist()

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(operator, args, kwargs or {})


class Pretended(TorchDispatchMode):
    """While it lasts, DEVICE is there."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(operator, args, kwargs or {})


def computed(operator: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = operator.overloadpacket.__name__
    checked = (args[0], *args[2:]) if name in BY_INDEX and isinstance(args[0], There) else args
    given = [one for one in tree_leaves((checked, kwargs)) if isinstance(one, Tensor)]
    there = [one for one in given if isinstance(one, There)]
    here = [tuple(one.shape) for one in given if not isinstance(one, There) and one.dim()]
    if there and here and name not in COPIES:
        raise RuntimeError(f"{operator}: tensors of {DEVICE} and of the CPU, {here}")
    elsewhere, target = bool(there), kwargs.get("device")
    if target is not None:
        elsewhere = torch.device(target).type == DEVICE.type
        kwargs = {**kwargs, "device": torch.device("cpu")}
    args_here, kwargs_here = tree_map_only(There, lambda one: one.here, (args, kwargs))
    out = operator(*args_here, **kwargs_here)
    if elsewhere and any(isinstance(one, Tensor) and one.dtype == torch.float64 for one in tree_leaves(out)):
        raise TypeError(f"{operator}: {DEVICE} has no float64")
    if name.endswith("_"):
        return args[0]
    return tree_map_only(Tensor, There, out) if elsewhere else out
