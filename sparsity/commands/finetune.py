"""The command finetune: train a pruned checkpoint with its zeros kept, by labels or by a teacher."""

from argparse import Namespace
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

from sparsity.base.progress import say
from sparsity.base.run_folders import run_folder
from sparsity.commands.announcement import announce, warn_of_max_det, warn_of_trained_size
from sparsity.commands.opening import ensure_teacher
from sparsity.commands.options import read_options, read_training
from sparsity.data.downloads import ensure_data, ensure_weights
from sparsity.pruning.zeros import count_sparsity
from sparsity.report.scales import write_scales
from sparsity.report.training import write_training
from sparsity.report.validation import format_model, format_sparsity
from sparsity.timing.layer_prices import layer_prices
from sparsity.training.preparation import Material, from_main_process, join_processes, make_run
from sparsity.training.run import Run
from sparsity.training.tracking import check_tracker
from sparsity.validation.counting import counting_of
from sparsity.validation.settings import ValidationSettings

FEWEST_STEPS = 100
"""A training of fewer optimiser steps gets a warning."""


def run(args: Namespace, line: str) -> None:
    """Train as the flags say; write the networks and a row for each epoch."""
    options = read_options(args)
    if args.demo and args.cfg:
        args.weights = ""
    settings = read_training(args)
    check_tracker(args.log_with)
    validation = replace(options.settings, batch_size=ValidationSettings.batch_size)
    material = Material(
        weights=args.weights,
        cfg=args.cfg,
        data=args.data,
        images=args.images,
        teacher=args.teacher,
        ignore_names=args.ignore_names,
        head=args.head,
    )
    processes = join_processes(options.settings)
    is_main = processes.is_main_process
    tell = say if is_main else _keep_quiet
    announce("finetune", args, options.settings, tell, processes=processes.num_processes)

    place = run_folder(options.project, options.name, exist_ok=options.exist_ok, resume=args.resume)
    with place if is_main else nullcontext(args.resume) as own_folder:
        folder = from_main_process(own_folder)
        material = replace(
            material,
            weights=ensure_weights(args.weights, progress=True) if args.weights else "",
            teacher=ensure_teacher(args.teacher),
            data=ensure_data(args.data, progress=True) if args.data else "",
        )
        training = make_run(
            material,
            settings,
            validation,
            folder,
            resuming=bool(args.resume),
            log_with=args.log_with,
            price_curves=lambda network, imgsz: layer_prices(network, imgsz=imgsz, progress=True),
            progress=is_main,
        )
        training.command = line
        if args.resume:
            training.resume()
        counted = count_sparsity(training.trainer.average.network)
        tell(format_model(counted))
        tell(format_sparsity(counted))
        _warn_of_few_steps(training, tell)
        network = training.trainer.network
        warn_of_max_det(counting_of(network), validation.max_det, tell)
        warn_of_trained_size(network.trained_with, settings.imgsz, tell)
        tell(f"Training into {folder}; if it is stopped, --resume {folder} goes on")
        training.run(progress=True, say=tell, on_epoch=lambda: write_scales(folder, training.scales))
        if is_main:
            write_training(folder, training.rows)
        tell(f"Results saved to {folder}")


def _warn_of_few_steps(training: Run, tell: Callable[[str], None]) -> None:
    """Print a warning where the training has so few steps that it may do harm."""
    steps, settings = training.trainer.steps, training.settings
    if steps < FEWEST_STEPS:
        tell(
            f"WARNING: {steps} optimiser steps in all ({settings.epochs} epochs, up to "
            f"{settings.accumulate * settings.batch_size} images a step) are few, and can make the network "
            f"worse; {FEWEST_STEPS} or more are advised: give a smaller --nominal-batch or more --epochs"
        )


def _keep_quiet(_line: str) -> None:
    """Print nothing: only the main process of a training prints."""
