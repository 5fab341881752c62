"""The command val: prune a checkpoint, validate it and save it."""

import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sparsity.base.run_folders import run_folder
from sparsity.channels.compacting import compact
from sparsity.commands.announcement import announce
from sparsity.commands.method_lists import read_method
from sparsity.commands.opening import describe_depthwise, make_pruner, open_data, open_network
from sparsity.commands.options import (
    read_amount,
    read_exported,
    read_options,
    read_pruning,
    read_saving,
    read_speedup,
)
from sparsity.engines.table import SPARSE, check_images, need_images
from sparsity.evaluation.coco import format_figures
from sparsity.formats.half import round_to_half
from sparsity.formats.saving import save
from sparsity.formats.sizes import measure_sizes
from sparsity.pruning.budgets import LATENCY, WEIGHTS
from sparsity.pruning.method import Method
from sparsity.pruning.pruner import Pruner
from sparsity.pruning.zeros import count_sparsity, layer_sparsity
from sparsity.report import validation as report
from sparsity.timing.latency import Latency, Rounds
from sparsity.timing.networks import time_networks
from sparsity.timing.speedup import prune_to_speedup
from sparsity.validation.inputs import Detectable
from sparsity.validation.run_files import write_run
from sparsity.validation.settings import ValidationSettings
from sparsity.validation.validate import Origin, Validation, validate
from sparsity.yolo.network import Network

ROUNDS = Rounds(seconds=10.0, least=10)
"""How often a speedup is measured."""


def run(args: Namespace, _line: str) -> None:
    """Prune, validate and save as the flags say; print tables, write files."""
    speedup = read_speedup(args)
    options, amount = read_options(args), read_amount(args.sparsity)
    pruning, files = read_pruning(args), read_saving(args)
    method = read_method(args.criterion, args.scope, args.budget, args.reconstruct)
    how = (
        args.criterion != "l1",
        args.scope,
        args.budget != WEIGHTS,
        args.pattern,
        args.keep,
        args.depthwise,
        args.reconstruct,
    )
    exported = read_exported(options, amount, speedup, *how, args.compact, files)
    learns = need_images([options.settings.engine])
    check_images([options.settings.engine], bool(pruning.calib))
    announce("val", args, options.settings)

    with run_folder(options.project, options.name, exist_ok=options.exist_ok) as folder:
        network = exported or open_network(options.weights, options.head)
        if exported:
            print(f"An ONNX file, run by {options.settings.engine}")
            print(report.format_model(count_sparsity(exported)))
        dataset, settings = open_data(options, network, options.settings)
        dense, origin, images = network, Origin(options.weights), ()
        if not exported:
            pruner = make_pruner(network, pruning, settings, with_images=learns or bool(args.int8))
            images, origin = pruner.calibration, replace(origin, amount=amount)
            if (amount or speedup) and (kept := describe_depthwise(network, pruning)):
                print(kept)
            faster = partial(_prune_to_speedup, speedup=speedup, imgsz=settings.imgsz) if speedup else None
            network, origin = _prune(network, pruner, method, origin, args.compact, faster)
        if files:
            # As the saved files keep it, so that the figures are theirs.
            network = round_to_half(network)
            print("Rounded to half precision, as it is saved")
            of_onnx = {"static_imgsz": args.static_imgsz, "opset": args.opset}
            if args.int8:
                of_onnx |= {"int8_images": images, "int8": args.int8}
            of_form = {".onnx": of_onnx, ".c": {"imgsz": settings.imgsz}}
            _save(network, dense, files, of_form, args.int8)

        calibration = images if learns else ()
        done = validate(network, dataset, settings, origin=origin, calibration=calibration, progress=True)
        write_run(folder, done.metrics, layer_sparsity(network), done.results, dataset.annotations)
        _print(done, network, settings, verbose=options.verbose)
        print(f"Results saved to {folder}")


def _save(
    network: Network,
    dense: Network,
    files: Sequence[Path],
    of_form: Mapping[str, Mapping[str, Any]],
    int8: str,
) -> None:
    for file in files:
        save(network, file, **of_form.get(file.suffix, {}))
        print(report.format_saved(file, int8=int8))
    print(report.format_sizes(measure_sizes(network, measure_sizes(dense))))


def _print(done: Validation, network: Detectable, settings: ValidationSettings, *, verbose: bool) -> None:
    count = len(done.dataset.images)
    print(report.format_table(done.own, count, done.dataset.names, verbose=verbose))
    if verbose:
        print("\n" + report.format_layers(layer_sparsity(network)) + "\n")
    print(report.format_speed(done.metrics) + "\n")
    print(format_figures(done.figures) + "\n")
    if not settings.single_cls and settings.max_det == ValidationSettings.max_det:
        print(report.format_guide(done.metrics), end="")


def _prune_to_speedup(pruner: Pruner, method: Method, *, speedup: float, imgsz: int) -> tuple[Network, float]:
    """Return a network pruned to a speedup in the sparse engine, and the amount."""

    def measure(networks: Sequence[Network]) -> list[Latency]:
        return time_networks(networks, [SPARSE] * len(networks), imgsz, ROUNDS)

    found = prune_to_speedup(pruner, method, speedup, measure, print)
    return found.network, found.amount


def _prune(
    network: Network,
    pruner: Pruner,
    method: Method,
    origin: Origin,
    compacting: bool,
    to_speedup: Callable[[Pruner, Method], tuple[Network, float]] | None,
) -> tuple[Network, Origin]:
    """Return the pruned network, and its origin for the row of figures."""
    start = time.perf_counter()
    origin = replace(origin, scope=method.scope, criterion=method.name, budget=method.budget, **pruner.rules)
    if to_speedup:
        network, amount = to_speedup(pruner, method)
        origin = replace(origin, amount=amount)
    elif origin.amount:
        network = pruner.prune(method, origin.amount)
    if origin.amount:
        seconds = time.perf_counter() - start
        counted = report.format_sparsity(count_sparsity(network))
        print(f"Pruning ({method.label}, {origin.amount:g})... {counted}, {seconds:.1f} s")
    if method.budget == LATENCY:
        predicted, dense = pruner.price(network) * 1e3, pruner.price() * 1e3
        origin = replace(origin, predicted_ms=predicted)
        print(f"Predicted in the sparse engine... {predicted:.2f} ms, before pruning {dense:.2f} ms")
    if compacting:
        made = compact(network)
        network, removed = made.network, made.channels_before - made.channels_after
        origin = replace(origin, channels_removed=removed)
        print(
            f"Dead channels... {removed} of {made.channels_before} removed; "
            f"{made.weights_after} of {made.weights_before} Conv2d weights are left"
        )
    return network, origin
