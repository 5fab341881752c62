"""The command sensitivity: prune each layer alone at several amounts, and measure what it costs."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from sparsity.base.errors import InputError
from sparsity.base.files import write_text, writing_into
from sparsity.base.progress import progress_bar
from sparsity.base.resumable import ResumableFolder
from sparsity.base.run_folders import run_folder
from sparsity.commands.amount_lists import parse_levels
from sparsity.commands.announcement import announce
from sparsity.commands.opening import open_data, open_network
from sparsity.commands.options import read_options
from sparsity.report.layer_sensitivity import format_sensitivity, write_plot
from sparsity.report.titles import describe_run
from sparsity.sweeping.layer_sensitivity import (
    LayerRow,
    choose_layers,
    make_layer_frame,
    measure_layers,
    some_images,
)
from sparsity.validation.setup import describe_setup

CSV, PLOT, SETTINGS = "sensitivity.csv", "sensitivity.png", "sensitivity.json"


def run(args: Namespace, line: str) -> None:
    """Measure as the flags say; print a table, write a CSV and a plot."""
    options, amounts = read_options(args), _amounts(args.amounts)
    announce("sensitivity", args, options.settings)
    place = run_folder(options.project, options.name, exist_ok=options.exist_ok, resume=args.resume)
    with place as folder:
        network = open_network(options.weights, options.head)
        layers = choose_layers(network, args.layers)
        dataset, settings = open_data(options, network, options.settings)
        dataset = some_images(dataset, args.val_images)
        identity = describe_setup(network, dataset, settings) | {"layers": layers, "amounts": amounts}
        rows = _begin(folder, identity, line, resuming=bool(args.resume))
        count = len(layers) * len(amounts)
        images = len(dataset.images)
        print(f"{count} validations and the dense network's, on {images} images")
        if rows:
            print(f"{len(rows)} of {count} are already finished")
        print(f"Measuring into {folder}; if it is stopped, --resume {folder} goes on")
        with progress_bar(total=count, initial=len(rows), desc="Layers", unit="run", shown=True) as bar:

            def keep(row: LayerRow) -> None:
                rows.append(row)
                _write(folder, rows)
                bar.update()

            known = {(row.layer, row.amount) for row in rows}
            measure_layers(network, dataset, layers, amounts, settings, known=known, on_row=keep)
        frame = make_layer_frame(rows)
        title = describe_run(options.weights, options.data, images)
        write_plot(folder / PLOT, frame, f"Each layer pruned alone: {title}")
        print("\n" + format_sensitivity(frame) + f"\n\nResults saved to {folder}")


def _amounts(text: str) -> list[float]:
    amounts = [amount for amount in parse_levels(text) if amount]
    if not amounts:
        raise InputError(f"--amounts is {text!r}; at least one above 0 is expected, such as 0.5,0.9")
    return amounts


def _begin(folder: Path, identity: dict[str, Any], line: str, *, resuming: bool) -> list[LayerRow]:
    """Return the rows of the run so far. Raises InputError where the folder's run has other settings."""
    place = ResumableFolder(folder, SETTINGS, "run", leftovers=(CSV, PLOT))
    if resuming:
        place.resume(identity)
        return _read(folder / CSV)
    place.begin(identity, command=line)
    return []


def _read(path: Path) -> list[LayerRow]:
    if not path.exists():
        return []
    columns = fields(LayerRow)
    # Not every pandas reads back the very float that it wrote, and none the empty text.
    kinds = {"float": float, "str": str}
    exact = {field.name: kinds[field.type] for field in columns if field.type in kinds}
    try:
        frame = pd.read_csv(path, converters=exact)[[field.name for field in columns]]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: cannot be read; begin a new run") from error
    return [LayerRow(*row) for row in frame.itertuples(index=False)]


def _write(folder: Path, rows: list[LayerRow]) -> None:
    with writing_into(folder):
        write_text(folder / CSV, make_layer_frame(rows).to_csv(index=False))
