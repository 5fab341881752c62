"""Price curves of layers by their time in the sparse engine, for the budget latency."""

from __future__ import annotations

from importlib import import_module

import torch
from torch import nn

from sparsity.base.errors import InputError
from sparsity.base.optional import optional_module
from sparsity.base.progress import progress_bar
from sparsity.pruning.price_curves import PriceCurve
from sparsity.yolo.network import Network

ASKED_BY = "`budget` latency"


def check_engine_of_budget() -> None:
    """Raise InputError where numba, which the sparse engine needs, is missing."""
    optional_module("numba", ASKED_BY)


def layer_prices(
    network: nn.Module, *, imgsz: int = 640, threads: int | None = None, progress: bool = False
) -> dict[str, PriceCurve]:
    """Return the time of each Conv2d in the sparse engine by its density: seconds for one image.

    The times of the other operations are divided equally among the curves. They change no allocation; with
    them, the sum of all curves is the time of the network.
    imgsz: the side of the image in pixels. threads: None for torch.get_num_threads(). The first call on a
    machine measures for about a minute; the times are then stored in the user's cache folder.
    Pass it to a Pruner: Pruner(network, price_curves=partial(layer_prices, imgsz=640)).
    Raises InputError where numba is missing, or for a network that the engine does not run.
    """
    check_engine_of_budget()
    if not isinstance(network, Network):
        raise InputError(f"{ASKED_BY}: the network is a {type(network).__name__}; a detector is expected")
    stored_times = import_module("sparsity.sparse_engine.stored_times")
    with progress_bar(desc="Timing layers", unit="step", shown=progress, leave=False) as bar:

        def tick(done: int, todo: int) -> None:
            bar.total = todo
            bar.update(done - bar.n)

        try:
            times = stored_times.find_layer_times(
                network, imgsz, threads or torch.get_num_threads(), tick=tick
            )
        except InputError as error:
            reason = str(error).split("; `engine`")[0]
            raise InputError(f"{ASKED_BY}: {reason}; another `budget` is expected") from error
    share = times.rest / len(times.layers)
    return {
        name: PriceCurve(times.densities, tuple(share + second for second in seconds))
        for name, seconds in times.layers.items()
    }
