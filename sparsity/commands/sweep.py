"""The command sweep: prune at many sparsities, validate each, and time it."""

from argparse import Namespace
from collections.abc import Sequence
from functools import partial

from sparsity.base.progress import say
from sparsity.base.run_folders import run_folder
from sparsity.commands.amount_lists import parse_levels
from sparsity.commands.announcement import announce
from sparsity.commands.opening import make_pruner, open_data, open_network
from sparsity.commands.options import read_batch_sizes, read_engines, read_options, read_pruning
from sparsity.evaluation.average_precision import AveragePrecision
from sparsity.pruning.method import Method
from sparsity.report.sweep import format_sweep, write_sweep
from sparsity.report.validation import format_table
from sparsity.sweeping.settings import SweepSettings
from sparsity.sweeping.store import read_settings
from sparsity.sweeping.sweep import run_sweep
from sparsity.validation.metrics import Metrics


def run(args: Namespace, line: str) -> None:
    """Sweep as the flags say; print a table, write CSV, JSON, plots and a page."""
    options, pruning = read_options(args), read_pruning(args)
    wanted = SweepSettings(
        parse_levels(args.levels),
        pruning.methods,
        read_batch_sizes(args.batch_sizes),
        options.settings,
        read_engines(args.engines),
        args.compact,
        bootstrap=args.bootstrap,
    )
    announce("sweep", args, wanted.validation)
    if args.resume:
        read_settings(args.resume)

    place = run_folder(options.project, options.name, exist_ok=options.exist_ok, resume=args.resume)
    with place as folder:
        network = open_network(options.weights)
        dataset, _ = open_data(options.data, network, options.settings)
        print(f"Sweeping into {folder}; if it is stopped, --resume {folder} goes on")
        done = run_sweep(
            network,
            dataset,
            wanted,
            folder,
            pruner=make_pruner(network, pruning, wanted.validation),
            weights=options.weights,
            command=line,
            title=args.title,
            then=lambda finished: write_sweep(folder, finished, title=args.title),
            progress=True,
            say=say,
            **({"on_level": partial(_show, dataset.names)} if options.verbose else {}),
        )
        print("\n" + format_sweep(done) + "\n")
        print(f"Results saved to {folder}")


def _show(names: Sequence[str], metrics: Metrics, own: AveragePrecision) -> None:
    """Print a row for each class of a level."""
    table = format_table(own, metrics.images, names, verbose=True)
    say(f"\n{Method(metrics.criterion, metrics.scope).label} {metrics.amount:g}\n{table}")
