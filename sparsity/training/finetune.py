"""Prunes a checkpoint and trains it, as one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from os import PathLike
from pathlib import Path

import pandas as pd

from sparsity.base.arguments import require_location
from sparsity.base.errors import InputError
from sparsity.base.files import writing_into
from sparsity.training.preparation import Location, Material, PricesAt, join_processes, make_run
from sparsity.training.run import ABOUT
from sparsity.training.settings import TrainingSettings
from sparsity.validation.settings import ValidationSettings


def finetune(
    weights: Location = "",
    data: Location = "",
    settings: TrainingSettings | None = None,
    *,
    folder: str | PathLike[str],
    cfg: str = "",
    images: Location = "",
    teacher: Location = "",
    ignore_names: bool = False,
    head: str = "",
    price_curves: PricesAt | None = None,
    log_with: str = "",
    validation: ValidationSettings | None = None,
    resume: bool = False,
    progress: bool = False,
    say: Callable[[str], None] = lambda _line: None,
) -> pd.DataFrame:
    """Prune a checkpoint and train it; its zeros stay zero.

    weights: the path of a checkpoint that is not fused. cfg: a size such as yolov5n instead, to start from
    random weights. data: a data yaml or folder with labelled images for training and validation.
    images: a folder of images without labels, for distillation, instead of data or in addition to it.
    teacher: the path of the dense checkpoint to distil from. ignore_names: see read_dataset.
    head: the branch of a YOLO26's head that is validated; "" for the one that runs by default.
    price_curves: takes the fused network and the side of images in pixels, and returns the time of each
    Conv2d by its density, by name (see PriceCurve). Budget "latency" needs it.
    log_with: the tracker that logs the settings and the row of each epoch, by accelerate: tensorboard, wandb,
    mlflow or trackio, whose package must be installed; "" for none.
    settings: how much is pruned, and how the rest is trained. validation: how each epoch is validated; imgsz
    is that of settings. None for the defaults.
    folder: gets best.pt, last.pt and epochs.csv, and what is needed to resume. It is made if it is missing.
    resume: whether to go on with the training that was stopped in folder.
    progress: whether bars are shown. say: called with each line about the progress.
    Returns a row for each epoch, with the columns of EpochRow.
    Raises InputError for arguments that can't be used, or where folder holds a training and resume is not
    set.
    """
    settings, validation = settings or TrainingSettings(), validation or ValidationSettings()
    require_location(weights, "weights")
    require_location(folder, "folder")
    place = Path(folder)
    material = Material(weights, cfg, data, images, teacher, ignore_names, head)
    if not resume and (place / ABOUT).exists():
        raise InputError(f"{place}: holds a training; set `resume` to go on with it, or give another folder")
    join_processes(validation)
    with writing_into(place):
        place.mkdir(parents=True, exist_ok=True)
    run = make_run(
        material,
        settings,
        validation,
        place,
        resuming=resume,
        price_curves=price_curves,
        log_with=log_with,
        progress=progress,
    )
    if resume:
        run.resume()
    run.run(progress=progress, say=say)
    return pd.DataFrame([asdict(row) for row in run.rows])
