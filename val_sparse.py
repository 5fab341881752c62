"""Prune a YOLOv5 or YOLOv8 checkpoint, validate it and save it.

python val_sparse.py --weights yolov5x.pt --sparsity 0.3
"""

import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from sparsity import cli
from sparsity.compacting import compact
from sparsity.evaluation.coco import format_figures
from sparsity.formats.half import round_to_half
from sparsity.opening import open_data, open_network
from sparsity.pruning.apply import count_sparsity, layer_sparsity
from sparsity.report import single as report
from sparsity.run_files import write_run
from sparsity.runs import run_folder
from sparsity.saving import save
from sparsity.sizes import measure_sizes
from sparsity.validation import Detectable, Origin, Validation, ValidationSettings, validate
from sparsity.yolo.network import Network

GUIDE = Path(__file__).parent / "results" / "reference" / "guide_yolov5x.csv"


def main() -> None:
    """Flags in, tables and files out."""
    parser = cli.Parser(description=__doc__.splitlines()[0])
    cli.add_shared_flags(parser)
    cli.add_amount_flag(parser)
    cli.add_method_flags(parser)
    cli.add_compact_flag(parser)
    cli.add_saving_flags(parser)
    cli.add_engine_flag(parser)
    args = parser.parse_args()
    options, amount = cli.read_options(args), cli.read_amount(args.sparsity)
    pruning, files = cli.read_pruning(args), cli.read_saving(args)
    how = (args.criterion != "l1", args.scope, args.pattern, args.keep)
    exported = cli.read_exported(options, amount, *how, args.compact, files)
    cli.announce("val_sparse", args, options.settings)

    with run_folder(options.project, options.name, exist_ok=options.exist_ok) as folder:
        network = exported or open_network(options.weights)
        if exported:
            print(report.format_model(count_sparsity(exported)))
        dataset, settings = open_data(options.data, network, options.settings)
        dense, origin = network, Origin(options.weights)
        if not exported:
            network, origin = _prune(network, args, pruning, settings, replace(origin, amount=amount))
        if files:
            # As the saved files keep it, so that the figures are theirs.
            network = round_to_half(network)
            print("Rounded to half precision, as it is saved")
            images = cli.read_images(network, pruning, settings) if args.int8 else ()
            _save(network, dense, files, images)

        done = validate(network, dataset, settings, origin=origin, progress=True)
        write_run(folder, done.metrics, layer_sparsity(network), done.predictions, dataset.annotations)
        _print(done, network, settings, verbose=options.verbose)
        print(f"Results saved to {folder}")


def _save(network: Network, dense: Network, files: Sequence[Path], int8_images: Sequence[Tensor]) -> None:
    for file in files:
        save(network, file, int8_images=int8_images)
        print(report.format_saved(file, int8=bool(int8_images)))
    print(report.format_sizes(measure_sizes(network, measure_sizes(dense))))


def _print(done: Validation, network: Detectable, settings: ValidationSettings, *, verbose: bool) -> None:
    count = len(done.dataset.images)
    print(report.format_table(done.own, count, done.dataset.names, verbose=verbose))
    if verbose:
        print("\n" + report.format_layers(layer_sparsity(network)) + "\n")
    print(report.format_speed(done.metrics) + "\n")
    print(format_figures(done.figures) + "\n")
    if not settings.single_cls and settings.max_det == ValidationSettings.max_det:
        print(report.format_guide(done.metrics, GUIDE), end="")


def _prune(
    network: Network, args: Namespace, pruning: cli.Pruning, settings: ValidationSettings, origin: Origin
) -> tuple[Network, Origin]:
    """The network as the flags have it pruned, and that in words for its row."""
    pruner, method = cli.make_pruner(network, pruning, settings), pruning.method
    start = time.perf_counter()
    origin = replace(origin, scope=method.scope, criterion=method.criterion, **pruner.rules)
    if origin.amount:
        network = pruner.prune(method, origin.amount)
        seconds = time.perf_counter() - start
        counted = report.format_sparsity(count_sparsity(network))
        print(f"Pruning ({method.label}, {origin.amount:g})... {counted}, {seconds:.1f} s")
    if args.compact:
        made = compact(network)
        network, removed = made.network, made.channels_before - made.channels_after
        origin = replace(origin, channels_removed=removed)
        print(
            f"Dead channels... {removed} of {made.channels_before} went; "
            f"{made.weights_after} of {made.weights_before} Conv2d weights are left"
        )
    return network, origin


if __name__ == "__main__":
    cli.run(main)
