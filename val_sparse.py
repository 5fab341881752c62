"""Prune a YOLOv5 checkpoint and validate it.

python val_sparse.py --weights yolov5x.pt --sparsity 0.3
"""

import time
from dataclasses import replace
from pathlib import Path

from sparsity import cli
from sparsity.checkpoint import load
from sparsity.data.dataset import read_dataset
from sparsity.download import ensure_data, ensure_weights
from sparsity.evaluation.coco import format_figures
from sparsity.pruning.apply import count_sparsity, layer_sparsity
from sparsity.report import single as report
from sparsity.run_files import write_run
from sparsity.runs import run_folder
from sparsity.validation import Origin, ValidationSettings, fit, validate

GUIDE = Path(__file__).parent / "results" / "reference" / "guide_yolov5x.csv"


def main() -> None:
    """Flags in, tables and files out."""
    parser = cli.Parser(description=__doc__.splitlines()[0])
    cli.add_shared_flags(parser)
    cli.add_amount_flag(parser)
    cli.add_method_flags(parser)
    args = parser.parse_args()
    options, amount = cli.read_options(args), cli.read_amount(args.sparsity)
    pruning = cli.read_pruning(args)
    method = pruning.method
    print("val_sparse: " + ", ".join(f"{key}={value}" for key, value in vars(args).items()))
    print(cli.format_environment(options.settings) + "\n")

    with run_folder(options.project, options.name, exist_ok=options.exist_ok) as folder:
        network = load(ensure_weights(options.weights, progress=True), fused=True)
        print("Fusing layers...")
        print(report.format_model(count_sparsity(network)))
        settings = fit(options.settings, network)
        if settings != options.settings:
            print(f"WARNING: image size {options.settings.imgsz} is rounded up to {settings.imgsz}")
        data = ensure_data(options.data, progress=True)
        single_cls = settings.single_cls
        dataset = read_dataset(data, network.names, single_cls=single_cls, progress=True)
        dataset = replace(dataset, name=options.data)
        print(f"Scanning {data}... {report.format_scan(dataset.scan)}")
        pruner, start = cli.make_pruner(network, pruning, settings), time.perf_counter()
        if amount:
            network = pruner.prune(method, amount)
            seconds = time.perf_counter() - start
            counted = report.format_sparsity(count_sparsity(network))
            print(f"Pruning ({method.label}, {amount:g})... {counted}, {seconds:.1f} s")

        layers = layer_sparsity(network)
        origin = Origin(options.weights, method.scope, amount, method.criterion, **pruner.rules)
        done = validate(network, dataset, settings, origin=origin, progress=True)
        write_run(folder, done.metrics, layers, done.predictions, dataset.annotations)
        count = len(dataset.images)
        print(report.format_table(done.own, count, dataset.names, verbose=options.verbose))
        if options.verbose:
            print("\n" + report.format_layers(layers) + "\n")
        print(report.format_speed(done.metrics) + "\n")
        print(format_figures(done.figures) + "\n")
        if not single_cls and settings.max_det == ValidationSettings.max_det:
            print(report.format_guide(done.metrics, GUIDE), end="")
        print(f"Results saved to {folder}")


if __name__ == "__main__":
    cli.run(main)
