"""Tell which layers of a checkpoint mind being pruned: each Conv2d alone, at several amounts.

python -m sparsity.sensitivity --weights best.pt --data my.yaml
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd

from sparsity import cli
from sparsity.errors import InputError
from sparsity.files import write_json, write_text, writing_into
from sparsity.identity import check_same_settings
from sparsity.layer_sensitivity import LayerRow, choose_layers, measure_layers, some_images
from sparsity.levels import parse_levels
from sparsity.opening import open_data, open_network
from sparsity.progress import progress_bar
from sparsity.report.sensitivity import format_sensitivity, write_plot
from sparsity.runs import run_folder
from sparsity.sweeping.setup import describe_setup

CSV, PLOT, SETTINGS = "sensitivity.csv", "sensitivity.png", "sensitivity.json"


def main() -> None:
    """Flags in, files out."""
    parser = cli.Parser(prog="sensitivity", description=__doc__.splitlines()[0])
    cli.add_shared_flags(parser)
    cli.add_sensitivity_flags(parser)
    parser.set_defaults(name="sensitivity")
    args = parser.parse_args()
    options, amounts = cli.read_options(args), _amounts(args.amounts)
    cli.announce("sensitivity", args, options.settings)
    place = run_folder(options.project, options.name, exist_ok=options.exist_ok, resume=args.resume)
    with place as folder:
        network = open_network(options.weights)
        layers = choose_layers(network, args.layers)
        dataset, settings = open_data(options.data, network, options.settings)
        dataset = some_images(dataset, args.images)
        identity = describe_setup(network, dataset, settings) | {"layers": layers, "amounts": amounts}
        rows = _begin(folder, identity, resuming=bool(args.resume))
        count = len(layers) * len(amounts)
        images = len(dataset.images)
        print(f"{count} validations and the dense one's on {images} images ({len(rows)} are there already)")
        print(f"Measuring into {folder}; if it is stopped, --resume {folder} goes on")
        with progress_bar(total=count, initial=len(rows), desc="Layers", unit="run", shown=True) as bar:

            def keep(row: LayerRow) -> None:
                rows.append(row)
                _write(folder, rows)
                bar.update()

            known = {(row.layer, row.amount) for row in rows}
            measure_layers(network, dataset, layers, amounts, settings, known=known, on_row=keep)
        frame = _frame(rows)
        title = f"Each layer pruned alone: {Path(options.weights).name} on {Path(options.data).name}"
        write_plot(folder / PLOT, frame, title)
        print("\n" + format_sensitivity(frame) + f"\n\nResults saved to {folder}")


def _amounts(text: str) -> list[float]:
    amounts = [amount for amount in parse_levels(text) if amount]
    if not amounts:
        raise InputError(f"--amounts is {text!r}; at least one above 0 is expected, such as 0.5,0.9")
    return amounts


def _begin(folder: Path, identity: dict[str, Any], *, resuming: bool) -> list[LayerRow]:
    """The rows that are there already, none for a new run. Raises InputError for a run of other settings."""
    path = folder / SETTINGS
    if not resuming:
        with writing_into(folder):
            for left_over in (CSV, PLOT):
                (folder / left_over).unlink(missing_ok=True)
            write_json(path, identity, indent=1)
        return []
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: holds no run to go on with (no {SETTINGS})") from error
    check_same_settings(folder, "sensitivity run", made, json.loads(json.dumps(identity)))
    return _read(folder / CSV)


def _read(path: Path) -> list[LayerRow]:
    if not path.exists():
        return []
    columns = fields(LayerRow)
    # Not every pandas reads back the very float that it wrote.
    exact = {field.name: float for field in columns if field.type == "float"}
    try:
        frame = pd.read_csv(path, converters=exact)[[field.name for field in columns]]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: cannot be read; begin a new run") from error
    return [LayerRow(*row) for row in frame.itertuples(index=False)]


def _write(folder: Path, rows: list[LayerRow]) -> None:
    with writing_into(folder):
        write_text(folder / CSV, _frame(rows).to_csv(index=False))


def _frame(rows: list[LayerRow]) -> pd.DataFrame:
    return pd.DataFrame([asdict(row) for row in rows])


if __name__ == "__main__":
    cli.run(main)
