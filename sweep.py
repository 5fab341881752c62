"""Prune a YOLOv5 or YOLOv8 checkpoint at many sparsities, validate each, and time it.

python sweep.py 0.1:0.9
"""

import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sparsity import cli
from sparsity.evaluation.average_precision import AveragePrecision
from sparsity.levels import parse_levels
from sparsity.metrics import Metrics
from sparsity.opening import open_data, open_network
from sparsity.progress import say
from sparsity.pruning.method import Method
from sparsity.report.single import format_table
from sparsity.report.sweep import format_sweep, write_sweep
from sparsity.runs import run_folder
from sparsity.sweeping.store import read_settings
from sparsity.sweeping.sweep import SweepSettings, run_sweep

GUIDE = Path(__file__).parent / "results" / "reference" / "guide_yolov5x.csv"


def main() -> None:
    """Flags in, tables and files out."""
    parser = cli.Parser(description=__doc__.splitlines()[0])
    cli.add_sweep_flags(parser)
    cli.add_method_flags(parser)
    cli.add_shared_flags(parser)
    parser.set_defaults(name="sweep")
    args = parser.parse_args()
    options, pruning = cli.read_options(args), cli.read_pruning(args)
    wanted = SweepSettings(
        parse_levels(args.levels),
        pruning.methods,
        cli.read_batch_sizes(args.batch_sizes),
        options.settings,
        cli.read_engines(args.engines),
        args.compact,
        bootstrap=args.bootstrap,
    )
    cli.announce("sweep", args, wanted.validation)
    if args.resume:
        read_settings(args.resume)

    place = run_folder(options.project, options.name, exist_ok=options.exist_ok, resume=args.resume)
    with place as folder:
        network = open_network(options.weights)
        dataset, _ = open_data(options.data, network, options.settings)
        command = shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])
        print(f"Sweeping into {folder}; if it is stopped, --resume {folder} goes on")
        done = run_sweep(
            network,
            dataset,
            wanted,
            folder,
            pruner=cli.make_pruner(network, pruning, wanted.validation),
            weights=options.weights,
            command=command,
            title=args.title,
            then=lambda finished: write_sweep(folder, finished, GUIDE, args.title),
            progress=True,
            say=say,
            **({"on_level": partial(_show, dataset.names)} if options.verbose else {}),
        )
        print("\n" + format_sweep(done) + "\n")
        print(f"Results saved to {folder}")


def _show(names: Sequence[str], metrics: Metrics, own: AveragePrecision) -> None:
    """Print a level's classes."""
    table = format_table(own, metrics.images, names, verbose=True)
    say(f"\n{Method(metrics.criterion, metrics.scope).label} {metrics.amount:g}\n{table}")


if __name__ == "__main__":
    cli.run(main)
