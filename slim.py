"""Cut the channels of a YOLOv5 or YOLOv8 checkpoint that count least, and save what is left.

python slim.py --weights results/train/last.pt --percent 0.5 --data my.yaml
"""

import copy
from collections.abc import Callable
from dataclasses import asdict, replace

from sparsity import cli
from sparsity.checkpoint import load
from sparsity.download import ensure_weights
from sparsity.flops import count_gflops
from sparsity.formats.half import round_to_half
from sparsity.opening import open_data
from sparsity.pruning.apply import count_sparsity
from sparsity.report.single import format_saved
from sparsity.report.slimming import format_channels, format_extent, format_figures, write_slimming
from sparsity.runs import run_folder
from sparsity.saving import save
from sparsity.sizes import measure_sizes
from sparsity.slimming.rows import Figures
from sparsity.slimming.slim import slim
from sparsity.validation import fit, validate
from sparsity.yolo.network import Network, fuse


def main() -> None:
    """Flags in, files and a table out."""
    args = cli.slimming_parser(description=__doc__.splitlines()[0]).parse_args()
    options, asked, files = cli.read_options(args), cli.read_slimming(args), cli.read_save(args)
    cli.announce("slim", args, options.settings)

    with run_folder(options.project, options.name, exist_ok=options.exist_ok) as folder:
        network = load(ensure_weights(options.weights, progress=True), fused=False)
        measure = _measure_by(network, options)
        found = slim(network, asked)
        print(format_channels(found.layers) + "\n")
        print(format_extent(found.extent, asked.percent, asked.min_channels) + "\n")
        # As the saved files keep it, so that the figures are theirs.
        slimmed = round_to_half(found.network)
        figures = measure(network), measure(slimmed)
        for file in (folder / "slimmed.pt", *files):
            save(fuse(copy.deepcopy(slimmed)) if file.suffix == ".onnx" else slimmed, file)
            print(format_saved(file))
        about = {"weights": options.weights, "data": options.data, **asdict(asked), **asdict(found.extent)}
        about["imgsz"] = fit(options.settings, network).imgsz
        write_slimming(folder, found.layers, about, figures)
        print("\n" + format_figures(*figures))
        print(f"Results saved to {folder}")


def _measure_by(network: Network, options: cli.Options) -> Callable[[Network], Figures]:
    """What measures a network, validating it where the flags name data."""
    settings, dataset = fit(options.settings, network), None
    if options.data:
        dataset, settings = open_data(options.data, network, settings)

    def measure(one: Network) -> Figures:
        sizes = measure_sizes(one)
        figures = Figures(
            count_sparsity(one).parameters,
            count_gflops(one, (settings.imgsz, settings.imgsz)),
            sizes.size_pt_mb,
            sizes.size_safetensors_mb,
        )
        if dataset is None:
            return figures
        metrics = validate(fuse(copy.deepcopy(one)), dataset, settings, progress=True).metrics
        return replace(figures, AP=metrics.AP, AP50=metrics.AP50)

    return measure


if __name__ == "__main__":
    cli.run(main)
