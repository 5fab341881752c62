"""The kernels, compiled for this CPU; the machine code is kept in the user's cache folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import llvmlite
import numba
import numpy as np
from numba import njit

from sparsity.base.files import cache_folder
from sparsity.sparse_engine import kernels
from sparsity.sparse_engine.machine import MACHINE
from sparsity.sparse_engine.operations import WIDTH

_LOCK = Lock()


def load_kernels() -> Callable[..., None]:
    """kernels.run_program as machine code: from the cache, or compiled, which takes some seconds."""
    with _LOCK:
        return _load()


@lru_cache(maxsize=1)
def _load() -> Callable[..., None]:
    try:
        kept = njit(kernels.run_program, **kernels.OPTIONS)
        with _caching_into(_folder()):
            kept.enable_caching()
        _compile(kept)
        return kept
    except Exception:
        # A cache that can't be written, or holds a damaged file, is as good as none.
        fresh = njit(kernels.run_program, **kernels.OPTIONS)
        _compile(fresh)
        return fresh


def _compile(function: Callable[..., None]) -> None:
    """Have numba compile it, by a program without operations."""
    floats, ints = np.zeros(0, np.float32), np.zeros(0, np.int32)
    program, counters = np.zeros((0, WIDTH), np.int64), np.zeros(0, np.int64)
    tables = (floats, ints, counters, floats, np.zeros((0, 3), np.int32), ints)
    function(program, 1, counters, 1, floats, floats, floats, floats, floats, tables)


def _folder() -> Path:
    """A folder for this very source, these versions, this width of vectors: numba itself sees one file."""
    folder = cache_folder()
    if folder is None:
        raise OSError("no home folder")
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {MACHINE}".encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return folder / "engine" / digest.hexdigest()[:16]


@contextmanager
def _caching_into(folder: Path) -> Iterator[None]:
    """Have numba keep in the folder what is said to be cached inside."""
    config: ModuleType | Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        config.CACHE_DIR = before
