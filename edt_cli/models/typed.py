"""torch's modules with type annotations for call results and list elements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar, overload

import torch
from torch import Tensor, nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)


class Layer(nn.Module):
    """A module that returns one tensor."""

    __call__: Callable[..., Tensor]


class LayerNorm(Layer, nn.LayerNorm):
    pass


class Embedding(Layer, nn.Embedding):
    pass


class Sequential(Layer, nn.Sequential):
    pass


class ModuleList(nn.ModuleList, Generic[AnyModule]):
    if TYPE_CHECKING:

        def __init__(self, modules: Iterable[AnyModule]) -> None: ...

        def __iter__(self) -> Iterator[AnyModule]: ...

        @overload
        def __getitem__(self, idx: slice) -> ModuleList[AnyModule]: ...

        @overload
        def __getitem__(self, idx: int) -> AnyModule: ...

        def __getitem__(self, idx: int | slice) -> nn.Module: ...


class Function(torch.autograd.Function):
    """An operator that returns one tensor."""

    apply: ClassVar[Callable[..., Tensor]]
