"""What the tests of sweeps share."""

import multiprocessing
import time
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest


@pytest.fixture
def processes(monkeypatch, request) -> BaseContext:
    """Return a context whose processes start with all imports done, so that a kill hits the work itself."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([request.module.__name__])
    first = context.Process(target=time.sleep, args=(0,))
    first.start()
    first.join()
    return context
