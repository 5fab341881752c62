"""Run a sweep: latency in turns, accuracy in one pass over the images, evaluations in parallel."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from sparsity.base.devices import describe_environment, package_version, select_device
from sparsity.base.errors import InputError
from sparsity.base.files import writing_into
from sparsity.data.dataset import Dataset
from sparsity.engines.table import ENGINES, TORCH, check_images, engine_packages, need_images
from sparsity.evaluation.average_precision import AveragePrecision
from sparsity.pruning.budgets import LATENCY
from sparsity.pruning.criterion import Criterion
from sparsity.pruning.method import Method
from sparsity.pruning.price_curves import as_record
from sparsity.pruning.pruner import Pruner
from sparsity.sweeping.collecting import collect
from sparsity.sweeping.copies import Copies
from sparsity.sweeping.defaults import BATCH_SIZES, BOOTSTRAP
from sparsity.sweeping.job import Job
from sparsity.sweeping.networks import chosen, keeper, save_networks
from sparsity.sweeping.settings import SweepSettings
from sparsity.sweeping.store import PRICES, Store
from sparsity.sweeping.table import Sweep
from sparsity.validation.detector import Lanes
from sparsity.validation.inputs import fit, read_data
from sparsity.validation.metrics import Metrics
from sparsity.validation.run_files import write_annotations
from sparsity.validation.settings import ValidationSettings
from sparsity.validation.setup import describe_setup
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
    folder: where each finished level is written. An unfinished sweep in it is resumed. With None, nothing is
    kept. weights: the network's name in the rows. progress: whether bars are shown.
    Returns a row for each method and amount; see make_frame for the columns.
    Raises InputError for an argument that can't be used, or where folder holds a sweep with other settings.
    """
    if methods is None:
        methods = [Method("l1", scope) for scope in scopes]
    settings = settings or ValidationSettings()
    wanted = SweepSettings(
        amounts, methods, batch_sizes, settings, engines, compact, bootstrap=bootstrap, save=save
    )
    if save and folder is None:
        raise InputError(f"`save` is {save!r}, but `folder` is None; a folder for the networks is expected")
    with ExitStack() as stack:
        if folder is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sweep-"))
        place = Path(folder)
        return run_sweep(
            network, data, wanted, place, pruner=pruner, weights=weights, progress=progress
        ).frame


def run_sweep(
    network: Network,
    data: str | PathLike[str] | Dataset,
    wanted: SweepSettings,
    folder: Path,
    *,
    pruner: Pruner | None = None,
    weights: str = "",
    command: str = "",
    title: str = "",
    progress: bool = False,
    say: Callable[[str], None] = lambda _line: None,
    on_level: Callable[[Metrics, AveragePrecision], None] = lambda _metrics, _own: None,
    then: Callable[[Sweep], None] = lambda _sweep: None,
) -> Sweep:
    """Run a sweep as sweep does, and return it with all that a report needs.

    command, title: stored with the figures. then: called with the finished sweep, while the folder is still
    locked against other sweeps. say: called with each line to print. on_level: called with each level as
    soon as it is finished: its metrics, and the family's own metric by class.
    """
    pruner = pruner or Pruner(network, progress=progress)
    if pruner.network is not network:
        raise InputError("`pruner` is a pruner of another network; a pruner of `network` itself is expected")
    settings = fit(wanted.validation, network)
    device = select_device(settings.device)
    levels = wanted.plan()
    for level in levels:
        if level.amount:
            pruner.check(level.method, level.amount)
    if not isinstance(data, Dataset):
        data = read_data(data, network, settings, progress=progress)
    about = {
        "weights": weights,
        "data": data.name,
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": command,
        "title": title,
        "environment": describe_environment(device, engine_packages()),
    }
    check_images(wanted.engines, bool(pruner.calibration))
    if any(method.budget == LATENCY for method in wanted.methods):
        about[PRICES] = as_record(pruner.price_curves())
    store = Store(folder)
    with store.locked():
        identity = _identity(pruner, data, wanted, settings)
        about = store.begin(identity, about)
        with writing_into(folder):
            write_annotations(folder, data.annotations)
        with Lanes(device) as lanes:
            job = Job(pruner, data, wanted, settings, levels, store, about, progress, say, on_level)
            keep = keeper(wanted.save, store, levels)
            copies = Copies(pruner, levels, lanes, settings, say, compact=wanted.compact, on_pruned=keep)
            job.run(copies)
            result = collect(store, levels, wanted, settings, about, identity, progress)
            save_networks(store, chosen(wanted.save, result.frame, levels), copies.network, say)
        then(result)
        store.clear()
    return result


def _identity(
    pruner: Pruner,
    dataset: Dataset,
    wanted: SweepSettings,
    settings: ValidationSettings,
) -> dict[str, Any]:
    """Return the settings that must be equal to resume a sweep, as JSON values."""
    return {
        "amounts": sorted({level.amount for level in wanted.plan()}),
        "engines": [
            f"{name} {package_version(ENGINES[name].package)}" for name in dict.fromkeys(wanted.engines)
        ],
        "compact": wanted.compact,
        "methods": [method.label for method in dict.fromkeys(wanted.methods)],
        **({"engine_calibration": pruner.describe_images()} if need_images(wanted.engines) else {}),
        **pruner.identity(wanted.methods),
        "batch_sizes": list(wanted.batch_sizes),
        **describe_setup(pruner.network, dataset, settings),
    }
