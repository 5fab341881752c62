"""Compiles the kernels for this CPU, and stores the machine code in the user's cache folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import llvmlite
import numba
import numpy as np
from numba import njit

from sparsity.base.files import cache_folder
from sparsity.base.progress import say
from sparsity.sparse_engine import kernels
from sparsity.sparse_engine.machine import MACHINE, OPTIONS
from sparsity.sparse_engine.operations import WIDTH
from sparsity.sparse_engine.private_folder import make_private, open_private

_LOCK = Lock()


def load_kernels(arena: type) -> Callable[..., None]:
    """Return kernels.run_program as machine code, for an arena of this type: float32 or int32.

    It comes from the cache folder, or is compiled, which takes some seconds.
    """
    with _LOCK:
        return _load(arena)


@cache
def _load(arena: type) -> Callable[..., None]:
    try:
        folder = _folder()
        if reason := open_private(folder):
            say(f"WARNING: {reason}; the machine code there is not used, it is compiled in memory")
        else:
            return _load_cached(folder, arena)
    except Exception:
        # The cache can't be written, or a file in it is damaged: compile without a cache.
        pass
    fresh = njit(kernels.run_program, **OPTIONS)
    _compile(fresh, arena)
    return fresh


def _load_cached(folder: Path, arena: type) -> Callable[..., None]:
    """Return the function from the folder, or compile it and store it there.

    The folder must be private: numba's files are pickles, which run code when they are read.
    """
    cached = njit(kernels.run_program, **OPTIONS)
    with _caching_into(folder):
        cached.enable_caching()
    if not Path(cached._cache.cache_path).is_relative_to(folder):
        raise OSError(f"numba caches elsewhere than in {folder}")
    _compile(cached, arena)
    make_private(folder)
    return cached


def _compile(function: Callable[..., None], arena: type) -> None:
    """Make numba compile the function, by calling it with an empty program."""
    memory = np.zeros(0, arena)
    floats, ints = np.zeros(0, np.float32), np.zeros(0, np.int32)
    program, counters = np.zeros((0, WIDTH), np.int64), np.zeros(0, np.int64)
    tables = (floats, ints, counters, floats, np.zeros((0, 3), np.int32), ints)
    function(program, 1, counters, 1, memory, floats, memory, floats, floats, tables)


def _folder() -> Path:
    """Return the cache folder for this source, these versions and this machine.

    numba's own cache checks one source file only; this folder's name depends on all of them.
    """
    folder = cache_folder()
    if folder is None:
        raise OSError("no home folder")
    return folder / "engine" / describe_engine()


def describe_engine() -> str:
    """Return a digest of the engine's source, of numba's and LLVM's versions, and of this machine."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {MACHINE}".encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def _caching_into(folder: Path) -> Iterator[None]:
    """Let numba use this folder for functions whose caching is enabled inside the context."""
    config: ModuleType | Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        config.CACHE_DIR = before
