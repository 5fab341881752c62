"""Operations by shapes, against what is published."""

import pytest

from sparsity.yolo.flops import count_gflops
from sparsity.yolo.network import build, fuse
from sparsity.yolo.spec import ModuleSpec
from sparsity.yolo.yolov5.architectures import yolov5

PUBLISHED = {"yolov5n": 4.5, "yolov5s": 16.5, "yolov5m": 49.0}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_figures_at_640(name):
    network = build(yolov5(name), [str(i) for i in range(80)])
    assert count_gflops(network, (640, 640)) == pytest.approx(PUBLISHED[name], rel=0.02)


def test_they_go_with_the_cells(network):
    whole = count_gflops(network, (640, 640))
    assert count_gflops(network, (320, 640)) == pytest.approx(whole / 2)
    assert count_gflops(fuse(network), (640, 640)) == whole


def test_a_network_by_hand(block_network):
    network = block_network(ModuleSpec("Identity"))
    # Focus halves the sides: 12 to 16 at 32 x 32; then 16 to 16 twice and the head's 16 to 12 at 16 x 16.
    products = 12 * 16 * 9 * 32 * 32 + (2 * 16 * 16 * 9 + 16 * 12) * 16 * 16
    assert count_gflops(network, (64, 64)) == pytest.approx(2 * products / 1e9)
