"""A GPU without a GPU: tensors that hold no numbers, on a device that can't be mixed with others.

The device is one that Python registers, because fake tensors on cuda need a build of torch with CUDA. It is
registered for the whole process: import this in a process of its own only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("gpu")
GPU = torch.device("gpu:0")


FOUND = 3
"""How many elements of any mask are true."""
READ = {Tensor.__int__: FOUND, Tensor.__float__: 1.0, Tensor.item: FOUND}
"""What the program gets where it reads a number of a fake tensor."""


def _without_masks(index: Any) -> Any:
    """Return an index with numbers in the place of each mask."""
    parts = index if isinstance(index, tuple) else (index,)
    found: list[Any] = []
    for part in parts:
        if isinstance(part, Tensor) and part.dtype == torch.bool:
            found += [torch.empty(FOUND, dtype=torch.int64, device=part.device) for _ in range(part.dim())]
        else:
            found.append(part)
    return tuple(found)


def _made(data: Any, dtype: torch.dtype | None) -> Tensor:
    """Return a tensor on the GPU, of the shape and the type of torch.tensor(data, dtype=dtype)."""
    made = torch.tensor(data, dtype=dtype)
    return torch.empty(made.shape, dtype=made.dtype, device=GPU)


class _Missing(TorchFunctionMode):
    """Stands in for what fake tensors can't do: deepcopy, torch.tensor, masks, reading numbers.

    truth: what bool of a tensor gives.
    """

    def __init__(self, truth: bool) -> None:
        super().__init__()
        self._truth = truth

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.__bool__:
            return self._truth
        if func is Tensor.tolist:
            return list(range(len(args[0])))
        if func in READ:
            return READ[func]
        if func in (Tensor.nonzero, torch.nonzero):
            return torch.empty(FOUND, args[0].dim(), dtype=torch.int64, device=args[0].device)
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            one, index, *value = args
            return func(one, _without_masks(index), *value)
        if func is torch.tensor and kwargs.get("device") == GPU:
            return _made(args[0], kwargs.get("dtype"))
        if func is Tensor.new_tensor and args[0].device == GPU:
            return _made(args[1], kwargs.get("dtype", args[0].dtype))
        if func is Tensor.__deepcopy__:
            one, memo = args
            copied = one.detach().clone()
            kept = nn.Parameter(copied, one.requires_grad) if isinstance(one, nn.Parameter) else copied
            return memo.setdefault(id(one), kept)
        return func(*args, **kwargs)


@contextmanager
def fake_gpu(*, truth: bool = False) -> Iterator[None]:
    """Make every tensor that is created inside a fake one. An operation on two devices raises an error.

    Where a shape depends on numbers, as that of nonzero, FOUND elements are found. truth: what
    bool of a tensor gives.
    """
    with FakeTensorMode(), _Missing(truth):
        yield


def to_gpu(network: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Move a network of fake tensors to the GPU, in place. Module.to would swap them, which fails."""
    for module in network.modules():
        for name, one in module._parameters.items():
            if one is not None:
                moved = torch.empty_like(one, device=GPU, dtype=dtype)
                module._parameters[name] = nn.Parameter(moved, one.requires_grad)
        for name, one in module._buffers.items():
            if one is not None:
                kept = one.is_floating_point() and name not in getattr(module, "exact", ())
                module._buffers[name] = torch.empty(one.shape, device=GPU, dtype=dtype if kept else one.dtype)
    return network


def assert_on_gpu(*values: Any, dtype: torch.dtype | None = None) -> None:
    """Whether all tensors in these values are on the GPU, and have this type if one is given."""
    tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
    assert tensors
    for tensor in tensors:
        assert tensor.device == GPU, tensor
        assert dtype is None or tensor.dtype == dtype, tensor
