"""What a script opens first, with the lines that it prints of it: the network, and the images."""

from __future__ import annotations

from dataclasses import replace

from sparsity.checkpoint import load
from sparsity.counting import counting_of
from sparsity.data.dataset import Dataset, read_dataset
from sparsity.download import ensure_data, ensure_weights
from sparsity.pruning.apply import count_sparsity
from sparsity.report.single import format_model, format_scan
from sparsity.validation import Detectable, ValidationSettings, fit
from sparsity.yolo.network import Network


def open_network(weights: str) -> Network:
    """The checkpoint that a flag names, fused; downloaded where it is a published one."""
    network = load(ensure_weights(weights, progress=True), fused=True)
    print("Fusing layers...")
    print(format_model(count_sparsity(network)))
    return network


def open_data(
    data: str, network: Detectable, asked: ValidationSettings
) -> tuple[Dataset, ValidationSettings]:
    """The images that a flag names, and the settings as they suit the network."""
    settings = fit(asked, network)
    if settings.imgsz != asked.imgsz:
        print(f"WARNING: image size {asked.imgsz} is rounded up to {settings.imgsz}")
    print(counting_of(network).describe(settings.batch_size, settings.iou_thres))
    place = ensure_data(data, progress=True)
    dataset = read_dataset(place, network.names, single_cls=settings.single_cls, progress=True)
    print(f"Scanning {place}... {format_scan(dataset.scan)}")
    return replace(dataset, name=data), settings
