"""The command sweep: prune at many sparsities, validate each, and time it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from sparsity.base.files import writing_into
from sparsity.base.progress import say
from sparsity.base.run_folders import run_folder
from sparsity.cluster.opening import ray_workers
from sparsity.commands.amount_lists import parse_levels
from sparsity.commands.announcement import announce
from sparsity.commands.opening import describe_depthwise, make_pruner, open_data, open_network, with_files
from sparsity.commands.options import (
    Options,
    Pruning,
    read_batch_sizes,
    read_cluster,
    read_engines,
    read_finetuning,
    read_found_files,
    read_options,
    read_pruning,
    read_search,
)
from sparsity.data.dataset import Dataset
from sparsity.engines.table import ENGINES, TORCH, check_images, need_images
from sparsity.evaluation.average_precision import AveragePrecision
from sparsity.pruning.method import Method
from sparsity.report.sweep import format_sweep, write_sweep
from sparsity.report.validation import format_saved, format_table
from sparsity.sweeping.example import write_examples
from sparsity.sweeping.example_choice import make_examples
from sparsity.sweeping.search import FOLDER as SEARCHED
from sparsity.sweeping.search import Search, SearchSettings, run_search, save_found
from sparsity.sweeping.settings import SweepSettings
from sparsity.sweeping.store import read_prices
from sparsity.sweeping.sweep import run_sweep
from sparsity.sweeping.table import Sweep
from sparsity.timing.latency import Rounds
from sparsity.validation.metrics import Metrics

CRITERION, BATCH_SIZES, CALIB_IMAGES, SECONDS = "l1", "1,32", 64, 20.0
"""The defaults of the flags without --demo."""
DEMO_CRITERION, DEMO_BATCH_SIZES, DEMO_ENGINES = "l1,obs", "1", f"{TORCH},sparse"
DEMO_CALIB_IMAGES = 16
"""obs takes most of the time of the demo, and its images half of that."""
DEMO_SECONDS = 8.0
"""The time for latency with --demo, so that a sweep of nine levels takes less than three minutes."""


def run(args: Namespace, line: str) -> None:
    """Sweep or search as the flags say; print a table, write tables, JSON, plots and a page."""
    chosen = resolve(args)
    asked, options, pruning = read_search(args), read_options(args), read_pruning(args)
    cluster = read_cluster(args)
    files = read_found_files(args, pruning)
    wanted = _read_sweep(args, asked, options, pruning)
    check_images(wanted.engines, bool(pruning.calib))
    announce("sweep", args, wanted.validation)
    if chosen:
        print(f"Chosen for the demo: {' '.join(chosen)}\n")
    # Times that are measured again would differ, and so would the levels.
    prices = read_prices(args.resume) if args.resume else None

    place = run_folder(options.project, options.name, exist_ok=options.exist_ok, resume=args.resume)
    with place as folder:
        network = open_network(options.weights, options.head)
        dataset, _ = open_data(options, network, options.settings)
        wanted = replace(wanted, finetune=wanted.finetune and with_files(wanted.finetune))
        if kept := describe_depthwise(network, pruning):
            print(kept)
        print(f"Sweeping into {folder}; if it is stopped, --resume {folder} goes on")
        images = need_images(wanted.engines)
        given = {
            "pruner": make_pruner(network, pruning, wanted.validation, prices, with_images=images),
            "hire": ray_workers(cluster) if cluster else None,
            "weights": options.weights,
            "command": line,
            "title": args.title,
            "progress": True,
            "say": say,
            **({"on_level": partial(_show, dataset.names)} if options.verbose else {}),
        }
        if asked is None:
            write = partial(_write, folder, wanted, dataset, args.title)
            done = run_sweep(network, dataset, wanted, folder, then=write, **given)
            print("\n" + format_sweep(done) + "\n")
        else:
            write = partial(_write_search, folder, asked, files, args.title)
            run_search(network, dataset, asked, wanted, folder, then=write, **given)
        print(f"Results saved to {folder}")


def _read_sweep(
    args: Namespace, asked: SearchSettings | None, options: Options, pruning: Pruning
) -> SweepSettings:
    """Return the settings of the sweep; a search has no amounts."""
    return SweepSettings(
        parse_levels(args.levels) if asked is None else (),
        pruning.methods,
        read_batch_sizes(args.batch_sizes),
        options.settings,
        read_engines(args.engines),
        args.compact,
        rounds=Rounds(args.seconds),
        bootstrap=args.bootstrap,
        save=args.save_networks,
        finetune=read_finetuning(args, options),
    )


def _write_search(
    folder: Path, asked: SearchSettings, files: Sequence[Path], title: str, done: Search
) -> None:
    """Write the reports of a search, print what was found, and save its network."""
    write_sweep(folder, done.sweep, title=title)
    if done.tried is not None:
        write_sweep(folder / SEARCHED, done.tried, title=title)
    print("\n" + format_sweep(done.sweep) + "\n")
    for method, one in done.found.items():
        print(
            f"{method}: the largest sparsity found that keeps {asked.keep_ap:g} of the dense AP is "
            f"{one.amount:g}: AP {one.AP:.3f}, {one.AP / one.dense_AP:.1%} of {one.dense_AP:.3f}, change "
            f"{one.AP - one.dense_AP:+.3f} (95% interval {one.change_low:+.3f} to {one.change_high:+.3f})"
        )
    for method, share in done.lost.items():
        print(f"{method}: no sparsity was found; the smallest, {asked.amount(1):g}, keeps {share:.1%}")
    for file in files if done.found else ():
        save_found(done, file)
        print(format_saved(file, int8=""))


def _write(folder: Path, wanted: SweepSettings, dataset: Dataset, title: str, finished: Sweep) -> None:
    """Write the files of a finished sweep into its folder."""
    with writing_into(folder):
        write_examples(folder, make_examples(folder, wanted.plan(), dataset))
    write_sweep(folder, finished, title=title)


def resolve(args: Namespace) -> list[str]:
    """Set the flags that were not given to their defaults, which --demo changes.

    Returns the flags that --demo has set, as a user gives them.
    """
    plain = {
        "criterion": CRITERION,
        "engines": TORCH,
        "batch_sizes": BATCH_SIZES,
        "calib_images": CALIB_IMAGES,
        "seconds": SECONDS,
    }
    demo = {
        "criterion": DEMO_CRITERION,
        "engines": _demo_engines(args),
        "batch_sizes": DEMO_BATCH_SIZES,
        "calib_images": DEMO_CALIB_IMAGES,
        "seconds": DEMO_SECONDS,
    }
    missing = [name for name in plain if getattr(args, name) is None]
    for name in missing:
        setattr(args, name, demo[name] if args.demo else plain[name])
    return [f"--{name.replace('_', '-')} {demo[name]}" for name in missing] if args.demo else []


def _demo_engines(args: Namespace) -> str:
    """Return the engines of the demo: the sparse one too, where numba is installed and a CPU is used."""
    possible = args.device in ("", "cpu") and not args.half
    return DEMO_ENGINES if possible and find_spec(ENGINES["sparse"].package) else TORCH


def _show(names: Sequence[str], metrics: Metrics, own: AveragePrecision) -> None:
    """Print a row for each class of a level."""
    table = format_table(own, metrics.images, names, verbose=True)
    say(f"\n{Method(metrics.criterion, metrics.scope, metrics.budget).label} {metrics.amount:g}\n{table}")
