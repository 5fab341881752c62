"""An architecture is tried without numbers: on a large image, and on the smallest that it takes."""

from dataclasses import replace

import pytest

from sparsity.yolo.parts import conv, layer
from sparsity.yolo.spec import Architecture, Layer
from sparsity.yolo.trial import misfit
from tests.small_networks import NAMES, small_networks, yolov5


@pytest.mark.parametrize("network", small_networks(), ids=["yolov5", "older blocks", "yolov8"])
def test_networks_that_run_fit(network) -> None:
    assert misfit(network.architecture, network.names) == ""


def head(*sources: int) -> Layer:
    """A head of one map of 8 channels, stride 4."""
    module = yolov5()[-1].module
    maps = replace(module.children["m"], children={"0": module.children["m"].children["0"]})
    return layer(
        replace(module, attributes=module.attributes | {"strides": (4,)}, children={"m": maps}), *sources
    )


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        pytest.param(
            (layer(conv(3, 8, 3, 4)), head(), head(0)),
            "layer 1 cannot run after the layers before it: it gives",
            id="two heads",
        ),
        pytest.param(
            (layer(conv(3, 8, 6, 2, 2)), layer(conv(8, 8, 3, 2, 0)), head()),
            "(for an image of 4 x 4)",
            id="a kernel larger than the smallest map",
        ),
    ],
)
def test_what_cannot_run_is_told(architecture: Architecture, words: str) -> None:
    assert words in misfit(architecture, NAMES)
