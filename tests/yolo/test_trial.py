"""An architecture is tried without numbers: on a large image, and on the smallest that it takes."""

from dataclasses import replace

import pytest

from sparsity.yolo.parts import conv, layer
from sparsity.yolo.spec import Architecture, Layer, ModuleSpec
from sparsity.yolo.trial import misfit
from sparsity.yolo.yolo11.architectures import psa_block
from tests.small_networks import NAMES, newer_networks, small_networks, yolo12, yolo26, yolov5


@pytest.mark.parametrize(
    "network",
    [*small_networks(), *newer_networks()],
    ids=["yolov5", "older blocks", "yolov8", "yolo12", "yolo26"],
)
def test_networks_that_run_fit(network) -> None:
    assert misfit(network.architecture, network.names) == ""


def head(*sources: int) -> Layer:
    """A head of one map of 8 channels, stride 4."""
    module = yolov5()[-1].module
    maps = replace(module.children["m"], children={"0": module.children["m"].children["0"]})
    return layer(
        replace(module, attributes=module.attributes | {"strides": (4,)}, children={"m": maps}), *sources
    )


def with_area(area: int) -> Architecture:
    """A YOLO12 whose map of stride 4 is cut into this many areas."""
    return _changed(yolo12(), 1, "AAttn", area=area)


def with_attention_of_the_image() -> Architecture:
    """A YOLO26 with attention between all pixels of the image."""
    return (layer(conv(3, 64)), layer(psa_block(64)), layer(conv(64, 3)), *yolo26())


def _changed(architecture: Architecture, index: int, kind: str, **attributes: object) -> Architecture:
    def change(spec: ModuleSpec) -> ModuleSpec:
        more = attributes if spec.kind == kind else {}
        children = {name: change(child) for name, child in spec.children.items()}
        return ModuleSpec(spec.kind, spec.attributes | more, children)

    changed = replace(architecture[index], module=change(architecture[index].module))
    return (*architecture[:index], changed, *architecture[index + 1 :])


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        pytest.param(with_area(7), "layer 1 cannot run", id="areas that do not divide the cells"),
        pytest.param(with_area(64), "(for an image of 8 x 8)", id="more areas than cells"),
        pytest.param(with_attention_of_the_image(), "it needs over", id="attention between all pixels"),
        pytest.param(
            _changed(yolo12(), 1, "AAttn", num_heads=2), "qkv gives 96 channels", id="heads do not fit qkv"
        ),
        pytest.param(
            _changed(yolo26(), 4, "Attention", key_dim=8), "qkv gives 16 channels", id="keys do not fit qkv"
        ),
        pytest.param(
            _changed(yolo26(), 3, "SPPF", n=2), "layer 3 cannot run", id="fewer pools than channels for them"
        ),
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
