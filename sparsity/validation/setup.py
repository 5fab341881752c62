"""Describes the setup of figures. Only figures of the same setup belong in one table."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

import torch

from sparsity.base.devices import device_name, select_device, select_precision
from sparsity.data.dataset import Dataset, identify
from sparsity.validation.settings import ValidationSettings
from sparsity.yolo.network import Network


def describe_setup(network: Network, dataset: Dataset, settings: ValidationSettings) -> dict[str, Any]:
    """Return network, data, device, precision, version of torch and validation settings.

    Where the head has branches, the one that runs is named, too.
    Figures are comparable where these are equal.
    """
    device = select_device(settings.device)
    validation = {
        k: v for k, v in asdict(settings).items() if k not in ("device", "half", "workers", "engine")
    }
    return {
        "weights": network_digest(network),
        "data": dataset_digest(dataset),
        "device": device_name(device),
        "precision": str(select_precision(device, settings.half)).removeprefix("torch."),
        "torch": torch.__version__,
        **validation,
        **({"head": network.head.branch} if network.head.branch else {}),
    }


def network_digest(network: Network) -> str:
    """Return a digest of a network: of its modules and its weights."""
    digest = hashlib.sha256(repr(network.architecture).encode())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return f"sha256 {digest.hexdigest()[:16]}"


def dataset_digest(dataset: Dataset) -> str:
    """Return a digest of a data set: of its images' names and sizes, and its true boxes."""
    digest = hashlib.sha256(json.dumps(dataset.category_ids).encode())
    digest.update(identify(dataset.images))
    content = dataset.annotations.content
    digest.update(json.dumps(content.get("annotations"), sort_keys=True).encode())
    return f"{len(dataset.images)} images, sha256 {digest.hexdigest()[:16]}"
