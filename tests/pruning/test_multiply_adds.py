"""Operations by shapes, against what is published."""

import pytest
import torch

from sparsity import InputError, Method, Pruner, count_sparsity
from sparsity.pruning.layers import convolutions
from sparsity.pruning.multiply_adds import count_gflops, count_multiply_adds, output_cells
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


def test_zeros_count_by_the_cells_of_their_layer(block_network):
    network = block_network(ModuleSpec("Identity"))
    cells = output_cells(network, (64, 64))
    assert sorted(cells.values()) == [16 * 16] * 3 + [32 * 32]
    first = next(conv for name, conv in convolutions(network) if cells[name] == 32 * 32)
    for _, conv in convolutions(network):
        torch.nn.init.ones_(conv.weight)
    with torch.no_grad():
        first.weight.view(-1)[:10] = 0
    counted = count_multiply_adds(network, (64, 64))
    assert counted.total - counted.left == 10 * 32 * 32
    assert counted.left_share == counted.left / counted.total
    assert counted.total == count_gflops(network, (64, 64)) * 1e9 / 2


def test_counting_leaves_the_network_alone(network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.train()
    count_multiply_adds(network, (64, 64))
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not any(conv._forward_hooks for _, conv in convolutions(network))


@pytest.mark.parametrize(
    "method", [Method(), Method("l1", "global", "flops"), Method("l1", "lamp", "flops")], ids=str
)
def test_a_pruner_takes_away_a_share_of_the_multiply_adds(network, method):
    pruned = Pruner(network, imgsz=64).prune(method, 0.4)
    assert count_multiply_adds(pruned, (64, 64)).left_share == pytest.approx(0.6, abs=1e-3)
    if method.scope != "layer":
        assert count_sparsity(pruned).conv != pytest.approx(0.4, abs=1e-2)


def test_an_unknown_budget_is_refused():
    with pytest.raises(InputError, match="`budget` is 'time'; one of weights, flops, latency is expected"):
        Method(budget="time")
