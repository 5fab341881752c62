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


def _found(one: Tensor) -> Tensor:
    """Stand in for nonzero."""
    return torch.empty(FOUND, one.dim(), dtype=torch.int64, device=one.device)


def _counts(one: Tensor, *, minlength: int) -> Tensor:
    """Stand in for bincount, of numbers below minlength."""
    return torch.empty(minlength, dtype=torch.int64, device=one.device)


def _pieces(one: Tensor, sizes: Any, dim: int = 0) -> Sequence[Tensor]:
    """Stand in for split. Sizes in a list are numbers that were read: each piece has FOUND elements."""
    if isinstance(sizes, int) or dim:
        return one.split(sizes, dim)
    return [one.new_empty(FOUND, *one.shape[1:]) for _ in sizes]


def _copy(one: Tensor, memo: dict[int, Any]) -> Tensor:
    """Stand in for deepcopy."""
    copied = one.detach().clone()
    kept = nn.Parameter(copied, one.requires_grad) if isinstance(one, nn.Parameter) else copied
    return memo.setdefault(id(one), kept)


STAND_INS: dict[Callable[..., Any], Callable[..., Any]] = {
    Tensor.tolist: lambda one: list(range(len(one))),
    Tensor.nonzero: _found,
    torch.nonzero: _found,
    torch.bincount: _counts,
    torch.split: _pieces,
    torch.equal: lambda _one, _other: True,  # Loops up to a fixed point end.
    Tensor.__deepcopy__: _copy,
    **{read: lambda _one, number=number: number for read, number in READ.items()},
}
"""What fake tensors can't do, and what does it here."""


def _check_devices(func: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> None:
    """Raise RuntimeError for a mix of devices that a GPU refuses and fake tensors let pass.

    These are convolutions, and indices on a GPU for a tensor that is elsewhere.
    """
    devices = [leaf.device for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    if func in (torch.conv1d, torch.conv2d, torch.conv_transpose2d):
        mixed = len(set(devices)) > 1
    else:
        mixed = func in (Tensor.__getitem__, Tensor.__setitem__) and devices[0] != GPU and GPU in devices
    if mixed:
        raise RuntimeError(f"{func.__name__}: tensors on the same device are expected; they are on {devices}")


class _Missing(TorchFunctionMode):
    """Stands in for what fake tensors can't do: STAND_INS, masks, torch.tensor.

    truth: what bool of a tensor gives.
    """

    def __init__(self, truth: bool) -> None:
        super().__init__()
        self._truth = truth

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        _check_devices(func, args, kwargs)
        if func is Tensor.__bool__:
            return self._truth
        if func in STAND_INS:
            return STAND_INS[func](*args, **kwargs)
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            one, index, *value = args
            return func(one, _without_masks(index), *value)
        if func is torch.tensor and kwargs.get("device") == GPU:
            return _made(args[0], kwargs.get("dtype"))
        if func is Tensor.new_tensor and args[0].device == GPU:
            return _made(args[1], kwargs.get("dtype", args[0].dtype))
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
