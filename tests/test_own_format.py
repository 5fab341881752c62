"""Our own .pt: what is saved comes back; what is wrong in it is named."""

import pytest
import torch

from sparsity import count_sparsity, load, prune
from sparsity.errors import InputError
from sparsity.own_format import save
from sparsity.yolo.architectures import yolov5
from sparsity.yolo.network import build


@pytest.fixture
def unfused():
    torch.manual_seed(0)
    return build(yolov5("yolov5n", nc=3), ("cat", "dog", "bird"))


def raw(network) -> list[torch.Tensor]:
    with torch.inference_mode():
        return network.eval()(torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64))


def test_an_unfused_network_comes_back(unfused, tmp_path):
    save(unfused, tmp_path / "a.pt")
    back = load(tmp_path / "a.pt", fused=False)
    assert back.names == unfused.names
    assert back.architecture == unfused.architecture
    for one, other in zip(raw(unfused), raw(back), strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.02)
    for name, tensor in back.state_dict().items():
        exact = unfused.state_dict()[name]
        halved = exact.half().float() if exact.ndim == 4 else exact
        torch.testing.assert_close(tensor, halved, rtol=0, atol=6e-8, msg=name)


def test_a_fused_pruned_network_comes_back_with_its_zeros(network, tmp_path):
    prune(network, 0.6)
    save(network, tmp_path / "a.pt")
    assert count_sparsity(load(tmp_path / "a.pt")) == count_sparsity(network)


def test_saving_again_gives_the_same_weights(network, tmp_path):
    save(network, tmp_path / "a.pt")
    save(load(tmp_path / "a.pt"), tmp_path / "b.pt")
    one, other = load(tmp_path / "a.pt").state_dict(), load(tmp_path / "b.pt").state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_too_small_for_half_precision_does_not_become_zero(network, tmp_path):
    with torch.no_grad():
        network.get_parameter("model.0.conv.weight")[0, 0, 0, :2] = torch.tensor([1e-12, -1e-12])
    save(network, tmp_path / "a.pt")
    tiny = load(tmp_path / "a.pt").get_parameter("model.0.conv.weight")[0, 0, 0, :2]
    assert tiny.tolist() == [pytest.approx(6e-8, rel=0.01), pytest.approx(-6e-8, rel=0.01)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_weights_that_half_precision_cannot_hold_are_refused(network, tmp_path, value):
    with torch.no_grad():
        network.get_parameter("model.0.conv.weight")[0, 0, 0, 0] = value
    with pytest.raises(InputError, match=r"model.0.conv.weight: a weight is not finite or above 65504"):
        save(network, tmp_path / "a.pt")
    assert list(tmp_path.iterdir()) == []


BAD = {
    "version": (lambda r: r.update(version=2), "version 2"),
    "no layers": (lambda r: r.update(architecture=[]), "no list of layers"),
    "no names": (lambda r: r.update(names="cat"), "no list of class names"),
    "two names": (lambda r: r.update(names=["cat", "dog"]), "2 class names"),
    "kind": (
        lambda r: r["architecture"][0]["module"].update(kind="Exec"),
        "unknown kind of module at model.0",
    ),
    "attribute": (
        lambda r: r["architecture"][0]["module"].update(attributes={"x": 1}),
        "other attributes at model.0 than a Conv has",
    ),
    "value": (
        lambda r: r["architecture"][0]["module"]["children"]["conv"]["attributes"].update(groups={}),
        "no plain value at model.0.conv.groups",
    ),
    "source": (lambda r: r["architecture"][3].update(sources=[3]), "layer 3 without inputs"),
    "last layer": (lambda r: r["architecture"].pop(), "Detect is expected"),
    "weights": (lambda r: r["weights"].update({"model.0.conv.weight": 1}), "not tensors by name"),
    "a weight gone": (lambda r: r["weights"].pop("model.0.conv.weight"), "do not fit its modules"),
    "a weight's shape": (
        lambda r: r["weights"].update({"model.0.conv.weight": torch.zeros(1)}),
        "do not fit its modules",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named(network, tmp_path, case):
    change, words = BAD[case]
    save(network, tmp_path / "a.pt")
    root = torch.load(tmp_path / "a.pt", weights_only=True)
    change(root)
    torch.save(root, tmp_path / "a.pt")
    with pytest.raises(InputError, match=words):
        load(tmp_path / "a.pt")
