"""Run a sweep: every level of a list, before and after training."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path

import pandas as pd

from sparsity.base.errors import InputError
from sparsity.data.dataset import Dataset
from sparsity.engines.table import TORCH
from sparsity.evaluation.average_precision import AveragePrecision
from sparsity.pruning.criterion import Criterion
from sparsity.pruning.method import Method
from sparsity.pruning.pruner import Pruner
from sparsity.sweeping.defaults import BATCH_SIZES, BOOTSTRAP
from sparsity.sweeping.finetuning import Finetuning
from sparsity.sweeping.session import open_session, pruner_of
from sparsity.sweeping.settings import SweepSettings
from sparsity.sweeping.store import Store
from sparsity.sweeping.table import Sweep
from sparsity.sweeping.trainings import open_trainings
from sparsity.sweeping.workers import HireWorkers
from sparsity.validation.metrics import Metrics
from sparsity.validation.settings import ValidationSettings
from sparsity.yolo.network import Network


def sweep(
    network: Network,
    data: str | PathLike[str] | Dataset,
    amounts: Sequence[float],
    *,
    scopes: Sequence[str] = ("layer",),
    methods: Sequence[Method | Criterion | str] | None = None,
    pruner: Pruner | None = None,
    settings: ValidationSettings | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    engines: Sequence[str] = (TORCH,),
    compact: bool = False,
    bootstrap: int = BOOTSTRAP,
    save: str = "",
    finetune: Finetuning | None = None,
    workers: HireWorkers | None = None,
    folder: str | PathLike[str] | None = None,
    weights: str = "",
    progress: bool = False,
) -> pd.DataFrame:
    """Validate the network at each amount of sparsity in one pass over the images, and measure latency.

    network: as load returns it, fused; copies of it are pruned. data: as for validate.
    amounts: fractions in [0, 1); the dense baseline is added and comes first. scopes: allocations for
    pruning by magnitude: "layer", "global", "lamp", "erk". methods: used instead of scopes: Method("obs"),
    "obs", or a criterion object of your own.
    pruner: a Pruner of the network, with calibration images if a method needs them, layers to keep, a
    pattern. settings: how each level is validated.
    batch_sizes: the batch sizes at which latency is measured; () for no latency.
    engines: each level is validated and timed in each of them: torch, onnxruntime, openvino, sparse. An
    engine that needs images gets those of the pruner.
    compact: whether dead channels are removed from each level; see compacting.compact.
    bootstrap: the number of resamples of the images for the intervals of AP; 0 for no intervals.
    save: which pruned networks are kept in folder, as levels/KEY/network.safetensors: "" for none, "all", or
    "best" for that with the largest sparsity that keeps 95% of the dense AP.
    finetune: how each level is trained after pruning; it is measured before and after. None: no training.
    workers: compute the levels, such as ray_workers(ClusterSettings("auto")); None: this process does.
    folder: where each finished level is written. An unfinished sweep in it is resumed. With None, nothing is
    kept. weights: the network's name in the rows. progress: whether bars are shown.
    Returns a row for each method and amount; see make_frame for the columns.
    Raises InputError for an argument that can't be used, or where folder holds a sweep with other settings.
    """
    if methods is None:
        methods = [Method("l1", scope) for scope in scopes]
    settings = settings or ValidationSettings()
    wanted = SweepSettings(
        amounts,
        methods,
        batch_sizes,
        settings,
        engines,
        compact,
        bootstrap=bootstrap,
        save=save,
        finetune=finetune,
    )
    if save and folder is None:
        raise InputError(f"`save` is {save!r}, but `folder` is None; a folder for the networks is expected")
    with ExitStack() as stack:
        if folder is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sweep-"))
        place = Path(folder)
        return run_sweep(
            network,
            data,
            wanted,
            place,
            pruner=pruner,
            hire=workers,
            weights=weights,
            progress=progress,
        ).frame


def run_sweep(
    network: Network,
    data: str | PathLike[str] | Dataset,
    wanted: SweepSettings,
    folder: Path,
    *,
    pruner: Pruner | None = None,
    hire: HireWorkers | None = None,
    weights: str = "",
    command: str = "",
    title: str = "",
    progress: bool = False,
    say: Callable[[str], None] = lambda _line: None,
    on_level: Callable[[Metrics, AveragePrecision], None] = lambda _metrics, _own: None,
    then: Callable[[Sweep], None] = lambda _sweep: None,
) -> Sweep:
    """Run a sweep as sweep does, and return it with all that a report needs.

    hire: gives workers that compute the levels elsewhere; None: this process does.
    command, title: stored with the figures. then: called with the finished sweep, while the folder is still
    locked against other sweeps. say: called with each line to print. on_level: called with each level as
    soon as it is finished: its metrics, and the family's own metric by class.
    """
    pruner = pruner_of(network, pruner, progress=progress)
    levels = wanted.plan()
    for level in levels:
        if level.amount:
            pruner.check(level.method, level.amount)
    trainings = None
    if wanted.finetune is not None:
        trainings = open_trainings(
            wanted.finetune, pruner, Store(folder), levels, wanted.engines[0], progress=progress, say=say
        )
    session = open_session(
        pruner,
        data,
        wanted,
        folder,
        asked={"amounts": sorted({level.amount for level in levels})},
        about={"weights": weights, "command": command, "title": title},
        trainings=trainings,
        hire=hire,
        progress=progress,
        say=say,
        on_level=on_level,
    )
    with session as opened:
        opened.measure(levels)
        result = opened.collect(levels)
        then(result)
        opened.store.clear()
    return result
