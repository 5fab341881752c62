"""Every saved form comes back to the last bit, and is written whole or not at all."""

import copy
import errno
import os
import re
from pathlib import Path

import cv2
import pytest
import torch

from sparsity import count_sparsity, load, prune
from sparsity.base.errors import InputError
from sparsity.formats.half import round_to_half
from sparsity.formats.saving import check_form, save
from sparsity.formats.table import FORMS
from sparsity.yolo.network import build
from sparsity.yolo.yolov5.architectures import yolov5

LOADED = [".pt", ".safetensors"]


@pytest.fixture
def unfused():
    torch.manual_seed(0)
    return build(yolov5("yolov5n", nc=3), ("cat", "dog", "bird"))


@pytest.mark.parametrize("suffix", LOADED)
@pytest.mark.parametrize("kind", ["fused", "unfused"])
def test_what_is_saved_comes_back_to_the_last_bit(network, unfused, tmp_path, suffix, kind):
    whole = prune(network if kind == "fused" else unfused, 0.6)
    before = copy.deepcopy(whole.state_dict())
    save(whole, tmp_path / f"a{suffix}")
    assert all(torch.equal(before[name], tensor) for name, tensor in whole.state_dict().items())
    back = load(tmp_path / f"a{suffix}", fused=False)
    assert back.names == whole.names
    assert back.strides == whole.strides
    assert count_sparsity(back) == count_sparsity(whole)
    expected = round_to_half(whole).state_dict()
    assert back.state_dict().keys() == expected.keys()
    for name, tensor in back.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    save(back, tmp_path / f"b{suffix}")
    again = load(tmp_path / f"b{suffix}", fused=False)
    assert again.architecture == back.architecture


@pytest.mark.parametrize("suffix", LOADED)
def test_what_is_too_small_for_half_precision_does_not_become_zero(network, tmp_path, suffix):
    with torch.no_grad():
        network.get_parameter("model.0.conv.weight")[0, 0, 0, :2] = torch.tensor([1e-12, -1e-12])
    save(network, tmp_path / f"a{suffix}")
    tiny = load(tmp_path / f"a{suffix}").get_parameter("model.0.conv.weight")[0, 0, 0, :2]
    assert tiny.tolist() == [pytest.approx(6e-8, rel=0.01), pytest.approx(-6e-8, rel=0.01)]


@pytest.mark.parametrize("suffix", FORMS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_weights_that_half_precision_cannot_hold_are_refused(network, tmp_path, suffix, value):
    with torch.no_grad():
        network.get_parameter("model.0.conv.weight")[0, 0, 0, 0] = value
    with pytest.raises(InputError, match=r"model.0.conv.weight: a weight is not finite or above 65504"):
        save(network, tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", FORMS)
def test_a_full_disk_leaves_the_old_file_as_it_was(shallow, tmp_path, monkeypatch, suffix):
    path = tmp_path / "of the user" / f"a{suffix}"
    path.parent.mkdir()
    path.write_bytes(b"the old file")

    def full(_path, _content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    words = f"a{suffix}: cannot be written (No space left on device"
    with pytest.raises(InputError, match=re.escape(words)):
        save(shallow, path)
    monkeypatch.undo()
    assert path.read_bytes() == b"the old file"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.pth", "a", "a.ONNX", ".pt/a"])
def test_other_suffixes_are_refused(network, tmp_path, name):
    with pytest.raises(InputError, match=r"ends in \.pt, \.safetensors, \.onnx, \.c is expected"):
        save(network, tmp_path / name)


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "a.pt").mkdir()
    with pytest.raises(InputError, match="a file that ends in"):
        check_form(tmp_path / "a.pt")


def test_opencv_runs_a_file_of_a_fixed_size(shallow, tmp_path):
    save(shallow, tmp_path / "a.onnx", static_imgsz=64, opset=12)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    runtime = cv2.dnn.readNetFromONNX(str(tmp_path / "a.onnx"))
    runtime.setInput(images.numpy())
    half = round_to_half(copy.deepcopy(shallow))
    expected = half.head.decode(half(images))
    torch.testing.assert_close(torch.from_numpy(runtime.forward()), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        pytest.param("a.onnx", {"static_imgsz": 50}, "multiple of the largest stride, 16", id="no multiple"),
        pytest.param("a.onnx", {"opset": 7}, "`opset` is 7; 12 to 18 is expected", id="an old opset"),
        pytest.param("a.pt", {"opset": 12}, "are for an .onnx in float32", id="another form"),
    ],
)
def test_options_of_onnx_that_cannot_be_are_refused(shallow, tmp_path, name, options, words):
    with pytest.raises(InputError, match=re.escape(words)):
        save(shallow, tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_an_exported_network_is_not_loaded_as_one(shallow, tmp_path):
    save(shallow, tmp_path / "a.onnx")
    with pytest.raises(InputError, match="an exported network"):
        load(tmp_path / "a.onnx")
