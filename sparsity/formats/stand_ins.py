"""Modules that are written under the name of a class, which need not be installed."""

from __future__ import annotations

import io
import pickle
from functools import cache
from types import SimpleNamespace

import torch
from torch import nn


class StandIn(nn.Module):
    """Holds the parts of the class that it stands for, but cannot compute."""


def stand_in(module: str, name: str, **parts: object) -> StandIn:
    """Return a module with these parts (submodules and plain attributes) that is written as module.name."""
    instance = _stand_in_class(module, name)()
    for key, part in parts.items():
        setattr(instance, key, part)
    return instance


def saved(root: object) -> memoryview:
    """Return what torch.save writes for root, with stand-ins under the names of their classes."""
    buffer = io.BytesIO()
    torch.save(root, buffer, pickle_module=SimpleNamespace(__name__=__name__, Pickler=_Pickler))
    return buffer.getbuffer()


@cache
def _stand_in_class(module: str, name: str) -> type[StandIn]:
    return type(name, (StandIn,), {"__module__": module})


class _Pickler(pickle._Pickler):
    """Writes a stand-in's class by its name only.

    It extends the pickler in Python. The one in C imports every class that it writes, to check that it
    exists.
    """

    def save_global(self, obj: object, name: str | None = None) -> None:
        if isinstance(obj, type) and issubclass(obj, StandIn):
            self.write(pickle.GLOBAL + f"{obj.__module__}\n{obj.__name__}\n".encode())
            self.memoize(obj)
        else:
            super().save_global(obj, name)
