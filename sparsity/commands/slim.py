"""The command slim: cut the least important channels, and save what is left."""

import copy
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict, replace

from sparsity.base.run_folders import run_folder
from sparsity.channels.slimming import slim
from sparsity.channels.slimming_table import Figures
from sparsity.commands.announcement import announce
from sparsity.commands.opening import open_data
from sparsity.commands.options import Options, read_options, read_save, read_slimming, refuse_images
from sparsity.data.downloads import ensure_weights
from sparsity.formats.half import round_to_half
from sparsity.formats.loading import load
from sparsity.formats.saving import save
from sparsity.formats.sizes import measure_sizes
from sparsity.pruning.multiply_adds import count_gflops
from sparsity.pruning.zeros import count_sparsity
from sparsity.report.slimming import format_channels, format_extent, format_figures, write_slimming
from sparsity.report.validation import format_saved
from sparsity.validation.inputs import fit
from sparsity.validation.validate import validate
from sparsity.yolo.heads import choose_head
from sparsity.yolo.network import Network, fuse


def run(args: Namespace, _line: str) -> None:
    """Slim as the flags say; write the network, print and write what was cut."""
    options, asked, files = read_options(args), read_slimming(args), read_save(args)
    refuse_images([options.settings.engine], "slim")
    announce("slim", args, options.settings)

    with run_folder(options.project, options.name, exist_ok=options.exist_ok) as folder:
        network = load(ensure_weights(options.weights, progress=True), fused=False)
        network = choose_head(network, options.head) if options.head else network
        measure = _measure_by(network, options)
        found = slim(network, asked)
        print(format_channels(found.layers) + "\n")
        print(format_extent(found.extent, asked.percent, asked.min_channels) + "\n")
        # As the saved files keep it, so that the figures are theirs.
        slimmed = round_to_half(found.network)
        figures = measure(network), measure(slimmed)
        for file in (folder / "slimmed.pt", *files):
            exported = file.suffix in (".onnx", ".c")
            size = fit(options.settings, network).imgsz
            save(fuse(copy.deepcopy(slimmed)) if exported else slimmed, file, imgsz=size)
            print(format_saved(file))
        about = {"weights": options.weights, "data": options.data, **asdict(asked), **asdict(found.extent)}
        about["imgsz"] = fit(options.settings, network).imgsz
        write_slimming(folder, found.layers, about, figures)
        print("\n" + format_figures(*figures))
        print(f"Results saved to {folder}")


def _measure_by(network: Network, options: Options) -> Callable[[Network], Figures]:
    """Return a function that measures a network, and validates it where there is --data."""
    settings, dataset = fit(options.settings, network), None
    if options.data:
        dataset, settings = open_data(options, network, settings)

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
