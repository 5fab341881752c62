"""Slimmed networks: what goes, what stays the same, and that they are like any other."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sparsity.base.errors import InputError
from sparsity.channels import slimming as slim_module
from sparsity.channels.graph import Channels, trace_channels
from sparsity.channels.scores import channel_scores, free_channels
from sparsity.channels.slimming import Slimmed, slim
from sparsity.channels.slimming_settings import SlimmingSettings
from sparsity.data.calibration import read_images
from sparsity.data.letterbox import YOLOV5
from sparsity.formats.loading import load
from sparsity.formats.saving import save
from sparsity.pruning.layers import convolutions
from sparsity.yolo.current import current_architecture
from sparsity.yolo.families import published_architecture, sizes
from sparsity.yolo.network import Network, fuse
from sparsity.yolo.spec import ModuleSpec
from sparsity.yolo.yolo12.blocks import A2C2f

DEPTHS = ("yolov5n", "yolov5m", "yolov5l", "yolov5x")
"""Of yolov5s the depth is yolov5n's, and width is not taken from the name here."""
IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def slimmed(network: Network, percent: float, **more) -> Slimmed:
    return slim(network, SlimmingSettings(percent, **{"min_channels": 1} | more))


def norms(network: Network) -> dict[str, nn.BatchNorm2d]:
    return {name: one for name, one in network.named_modules() if isinstance(one, nn.BatchNorm2d)}


def some_free(channels: Channels, share: float, tied: bool) -> Tensor:
    """bool [identities]: about that share of the free channels, but never all of a layer."""
    drawn = torch.rand(len(channels.pinned), generator=torch.Generator().manual_seed(1))
    found = free_channels(channels, tied=tied) & (drawn < share)
    for ends in channels.layers.values():
        found[ends.outputs[-1]] = False
    return found


@torch.no_grad()
def switch_off(network: Network, channels: Channels, which: Tensor, shift: float | None = 0.0) -> None:
    """Set these channels' scales to 0, and their shifts to shift (None: as they are)."""
    for name, norm in norms(network).items():
        places = which[channels.layers[name].outputs]
        norm.weight[places] = 0
        if shift is not None:
            norm.bias[places] = shift


@torch.no_grad()
def difference(one: Network, other: Network, images: Tensor = IMAGES) -> float:
    """The largest of the raw maps, whose own numbers are of the order of 1."""
    pairs = list(zip(one(images), other(images), strict=True))
    assert all(theirs.std() > 1e-3 for _, theirs in pairs)
    return max(float((ours - theirs).abs().max()) for ours, theirs in pairs)


# --- the same function --------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True], ids=["free", "tied"])
@pytest.mark.parametrize("name", DEPTHS)
def test_channels_of_scale_and_shift_0_change_nothing(unfused, name, tied):
    network = unfused(name)
    channels = trace_channels(network)
    off = some_free(channels, 0.4, tied)
    switch_off(network, channels, off)
    share = int(off.sum()) / int(free_channels(channels, tied=tied).sum())
    for fold in (True, False):
        found = slimmed(network, share, tied=tied, fold=fold)
        assert found.extent.removed == int(off.sum()) > 20
        assert found.extent.threshold == 0
        images = torch.rand(1, 3, 160, 224, generator=torch.Generator().manual_seed(2))
        assert difference(found.network, network, images) < 1e-4


def test_odd_blocks_change_nothing_either(odd_unfused_network):
    network = odd_unfused_network
    channels = trace_channels(network)
    off = some_free(channels, 0.4, tied=True)
    off &= channel_scores(network, channels, "bn").isfinite()
    switch_off(network, channels, off)
    free = free_channels(channels, tied=True) & channel_scores(network, channels, "bn").isfinite()
    found = slimmed(network, int(off.sum()) / int(free.sum()), tied=True)
    assert found.extent.removed == int(off.sum()) > 0
    assert difference(found.network, network) < 1e-4


@pytest.fixture
def photographs(assets) -> Tensor:
    """One real image, as validation reads it, on sides that are no square."""
    return read_images(assets / "coco50" / "images", 1, imgsz=320, stride=64, resizing=YOLOV5)[0]


def check_that_dead_channels_change_nothing(network: Network, images: Tensor) -> None:
    channels = trace_channels(network)
    off = some_free(channels, 0.5, tied=True)
    switch_off(network, channels, off)
    found = slimmed(network, int(off.sum()) / int(free_channels(channels, tied=True).sum()), tied=True)
    assert found.extent.removed == int(off.sum()) > 100
    assert difference(found.network, network, images) < 1e-4


@pytest.mark.assets
@pytest.mark.parametrize("file", ["yolov5n.pt", "yolov8n_train50.pt"])
def test_real_checkpoints_on_a_real_image(assets, photographs, file):
    check_that_dead_channels_change_nothing(load(assets / file, fused=False), photographs)


def has_own_blocks(name: str) -> bool:
    """Whether no smaller size has the same blocks. Sizes of YOLO11 and later differ from n in l."""
    newer = not name.startswith(("yolov5", "yolov8"))
    return name.endswith(("n", "l")) if newer else not name.endswith("6")


@pytest.mark.slow
@pytest.mark.assets
@pytest.mark.parametrize("name", [name for name in sizes() if has_own_blocks(name)])
@torch.no_grad()
def test_every_size_on_a_real_image(photographs, name):
    with torch.device("meta"):
        network = Network(published_architecture(name, 3), ("cat", "dog", "bird"))
    network = network.to_empty(device="cpu").requires_grad_(False)
    torch.manual_seed(0)
    for one in network.modules():
        if isinstance(one, nn.Conv2d):
            one.weight.normal_(std=one.weight[0].numel() ** -0.5)
            if one.bias is not None:
                one.bias.zero_()
        elif isinstance(one, nn.BatchNorm2d):
            one.reset_parameters()
            one.weight.uniform_(0.5, 1.5)
            one.bias.uniform_(-0.5, 0.5)
            one.momentum = 1.0
        elif isinstance(one, A2C2f) and one.gamma is not None:
            one.gamma.uniform_(0.5, 1.5)
    network.train()(photographs)  # the statistics of that image, so that no map dies out
    check_that_dead_channels_change_nothing(network.eval(), photographs)


def test_nothing_cut_nothing_changed(unfused):
    network = unfused()
    found = slimmed(network, 0.0)
    weights = found.network.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())
    assert found.extent.removed == 0


def test_the_network_itself_stays(unfused):
    network = unfused()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    slimmed(network, 0.5, tied=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


# --- what a cut channel still gave ----------------------------------------------------------------------


def chain(block_network, conv_spec, kernel: int) -> Network:
    """A network whose model.2.0 has channels that are read by model.2.1 of that kernel."""
    block = ModuleSpec("Sequential", {}, {"0": conv_spec(16, 16), "1": conv_spec(16, 16, kernel)})
    network = block_network(block, fused=False)
    network.model[2][0].bn.weight[:5] = torch.tensor([1e-9, 0, -1e-9, 0, 1e-9])
    network.model[2][0].bn.bias[:5] = torch.tensor([2.0, -1.0, 0.5, 1.0, -3.0])
    return network


def share_of(network: Network, count: int) -> float:
    return count / int(free_channels(trace_channels(network), tied=False).sum())


def test_shifts_go_to_readers_without_padding_exactly(block_network, conv_spec):
    network = chain(block_network, conv_spec, 1)
    share = share_of(network, 5)
    found = slimmed(network, share)
    assert found.network.model[2][0].conv.out_channels == 11
    assert difference(found.network, network) < 1e-5
    assert difference(slimmed(network, share, fold=False).network, network) > 0.1
    assert current_architecture(found.network.cpu()) == found.network.architecture
    assert found.network.model[2][1].conv.bias is None, "running means take them"


def test_shifts_go_to_readers_with_padding_but_at_the_border(block_network, conv_spec):
    network = chain(block_network, conv_spec, 3)
    found = slimmed(network, share_of(network, 5)).network
    with torch.no_grad():
        stem = network.model[1](network.model[0](IMAGES))
        ours, theirs = found.model[2](stem), network.model[2](stem)
    away = (ours - theirs).abs()
    assert away[..., 1:-1, 1:-1].max() < 1e-5
    assert away.max() > 0.1


def test_what_tied_channels_add_up_to_goes_to_readers(unfused):
    network = unfused("yolov5m")
    channels = trace_channels(network)
    group = channels.layers["model.4.cv1.conv"].outputs[:2]
    off = torch.zeros_like(channels.pinned)
    off[group] = True
    switch_off(network, channels, off, shift=None)
    found = slimmed(network, 2 / int(free_channels(channels, tied=True).sum()), tied=True)
    assert found.extent.removed == 2
    with torch.no_grad():
        x = torch.rand(1, network.model[4].cv1.conv.in_channels, 12, 12)
        ours, theirs = found.network.model[4](x), network.model[4](x)
    # cv3 is 1x1; the bottlenecks' 3x3 read channels that stay.
    assert (ours - theirs).abs().max() < 1e-5


def test_heads_take_shifts_into_their_biases(unfused):
    network = unfused()
    channels = trace_channels(network)
    off = torch.zeros_like(channels.pinned)
    off[channels.layers["model.23.cv3.conv"].outputs[:3]] = True
    switch_off(network, channels, off, shift=None)
    found = slimmed(network, share_of(network, 3))
    assert found.network.model[23].cv3.conv.out_channels == network.model[23].cv3.conv.out_channels - 3
    assert difference(found.network, network) < 1e-5


# --- scores -----------------------------------------------------------------------------------------------


def test_scores_are_the_largest_scale_of_what_is_tied(unfused):
    network = unfused("yolov5m")
    channels = trace_channels(network)
    scores = channel_scores(network, channels, "bn")
    alone = network.model[13].cv1.bn.weight.abs()
    assert torch.equal(scores[channels.layers["model.13.cv1.conv"].outputs], alone)
    block = network.model[4]
    group = torch.stack([block.cv1.bn.weight, *(one.cv2.bn.weight for one in block.m)]).abs().amax(0)
    assert len(block.m) > 1
    assert torch.equal(scores[channels.layers["model.4.cv1.conv"].outputs], group)
    assert scores[channels.pinned].isneginf().all()


def test_filters_are_scored_with_their_norm_folded_in(unfused):
    network = unfused()
    channels = trace_channels(network)
    norm, conv = network.model[3].bn, network.model[3].conv
    factors = norm.weight / (norm.running_var + norm.eps).sqrt()
    expected = (conv.weight * factors[:, None, None, None]).abs().mean((1, 2, 3))
    found = channel_scores(network, channels, "l1")[channels.layers["model.3.conv"].outputs]
    torch.testing.assert_close(found, expected)
    fused = channel_scores(fuse(copy.deepcopy(network)), trace_channels(network), "l1")
    torch.testing.assert_close(fused, channel_scores(network, channels, "l1"))


def test_tied_channels_stay_unless_asked_for(unfused):
    network = unfused()
    tied = {"model.2.cv1.conv", "model.2.m.0.cv2.conv"}
    rows = {row.layer: row for row in slimmed(network, 0.7).layers}
    assert all(rows[name].free == 0 and rows[name].after == rows[name].before for name in tied)
    rows = {row.layer: row for row in slimmed(network, 0.7, tied=True).layers}
    assert len({rows[name].after for name in tied}) == 1
    assert all(rows[name].after < rows[name].before for name in tied)


@pytest.mark.parametrize("name", sizes())
def test_every_published_size_is_cut(name):
    with torch.device("meta"):
        network = Network(published_architecture(name, 3), ("cat", "dog", "bird")).eval()
        shapes = [one.shape[1:] for one in network(torch.empty(1, 3, 64, 96))]
    network = network.to_empty(device="cpu").requires_grad_(False)  # spares drawing 87 million weights
    torch.manual_seed(0)
    for norm in norms(network).values():
        norm.weight.uniform_()
    found = slim(network, SlimmingSettings(0.8, tied=True, round_to=8, fold=False))
    assert found.extent.removed > 0.6 * found.extent.free
    assert all(row.after % 8 == 0 or row.after == row.before for row in found.layers)
    maps = found.network(torch.zeros(1, 3, 64, 96))
    assert [one.shape[1:] for one in maps] == shapes


# --- like any other ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["bn", "l1"])
@pytest.mark.parametrize("name", DEPTHS)
def test_cuts_in_every_layer_build_run_and_reload(unfused, tmp_path, name, by):
    network = unfused(name)
    for norm in norms(network).values():
        norm.weight[1] = 0.01  # so that every layer loses one at least
    found = slimmed(network, 0.5, tied=True, by=by)
    assert [row.layer for row in found.layers] == [name for name, _ in convolutions(network)]
    body, head = found.layers[:-3], found.layers[-3:]
    assert all(0 < row.after < row.before for row in body)
    assert all(row.after == row.before and row.free == 0 for row in head)
    convs = dict(convolutions(found.network))
    assert all(convs[row.layer].out_channels == row.after for row in found.layers)
    fused = fuse(copy.deepcopy(found.network))
    assert difference(fused, found.network) < 1e-4
    for form in (".pt", ".safetensors"):
        save(found.network, tmp_path / f"slimmed{form}")
        again = load(tmp_path / f"slimmed{form}", fused=False)
        assert current_architecture(again) == found.network.architecture
        assert difference(again, found.network) < 0.02, "half precision"


@pytest.mark.parametrize("tied", [False, True])
def test_they_are_exported(unfused, tmp_path, tied):
    onnxruntime = pytest.importorskip("onnxruntime")
    network = fuse(slimmed(unfused(), 0.5, tied=tied).network)
    save(network, tmp_path / "slimmed.onnx")
    ran = onnxruntime.InferenceSession(str(tmp_path / "slimmed.onnx")).run(None, {"images": IMAGES.numpy()})
    with torch.no_grad():
        expected = network.head.decode(network(IMAGES)).numpy()
    assert np.abs(ran[0] - expected).max() < 0.02 * np.abs(expected).max()


def test_they_are_slimmed_again(unfused):
    once = slimmed(unfused(), 0.3)
    again = slimmed(once.network, 0.3)
    assert again.extent.free == once.extent.free - once.extent.removed
    assert [row.before for row in again.layers] == [row.after for row in once.layers]
    again.network(IMAGES)


@pytest.mark.parametrize("round_to", [1, 8])
def test_more_than_is_possible_leaves_every_layer_its_least(unfused, round_to):
    found = slimmed(unfused(width=1 / 8), 0.99, tied=True, min_channels=8, round_to=round_to)
    assert found.extent.safe_percent < 0.99
    assert all(row.after in (8, row.before) for row in found.layers if row.free)
    found.network(IMAGES)


@pytest.mark.parametrize("round_to", [8, 16])
def test_counts_are_multiples(unfused, round_to):
    found = slimmed(unfused(width=1 / 4), 0.5, tied=True, round_to=round_to)
    assert any(row.after < row.before for row in found.layers)
    assert all(row.after % round_to == 0 or row.after == row.before for row in found.layers)


# --- what can't be slimmed --------------------------------------------------------------------------------


def test_a_fused_network_says_what_to_use_instead(unfused):
    network = fuse(unfused())
    with pytest.raises(InputError, match=r"folded into its convolutions already.*`by` l1"):
        slimmed(network, 0.5)
    found = slimmed(network, 0.5, by="l1")
    assert found.extent.removed > 0
    found.network(IMAGES)


def test_nothing_free_says_so(unfused, monkeypatch):
    def none(channels: Channels, *, tied: bool) -> Tensor:
        return torch.zeros_like(channels.pinned)

    monkeypatch.setattr(slim_module, "free_channels", none)
    with pytest.raises(InputError, match=r"no channel can be cut.*`tied`"):
        slimmed(unfused(), 0.5)
