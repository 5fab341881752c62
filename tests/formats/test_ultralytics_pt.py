"""The .pt of YOLO11, YOLO12 and YOLO26: what is written comes back, and is what the package holds."""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path

import pytest
import torch

from sparsity import count_sparsity, load, prune
from sparsity.formats import ultralytics_pt
from sparsity.formats.half import round_to_half
from sparsity.formats.saving import save
from sparsity.formats.ultralytics_pt import PUBLISHED
from sparsity.formats.ultralytics_yaml import describe
from sparsity.yolo.current import current_architecture
from sparsity.yolo.families import published_architecture, sizes
from sparsity.yolo.heads import held_heads, keep_head
from sparsity.yolo.network import Network, build
from tests.narrow_networks import NEWER, narrow

KNOWN_MODULES = ("torch.nn.modules.", "ultralytics.nn.modules.", "ultralytics.nn.tasks ")
STOCK = {"__builtin__ set", "collections OrderedDict", "torch HalfStorage", "torch LongStorage"}
STOCK |= {"torch FloatStorage", "torch._utils _rebuild_parameter", "torch._utils _rebuild_tensor_v2"}


def assert_same(one: Network, other: Network) -> None:
    assert current_architecture(one) == current_architecture(other)
    assert one.names == other.names
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("key", NEWER)
def test_what_is_saved_comes_back(tmp_path: Path, key: str, fused: bool, suffix: str) -> None:
    network = prune(narrow(key, fused=fused), 0.5)
    save(network, tmp_path / f"a{suffix}")
    back = load(tmp_path / f"a{suffix}", fused=False)
    assert_same(back, round_to_half(network))
    assert (back.dialect, held_heads(back)) == (network.dialect, held_heads(network))
    assert count_sparsity(back) == count_sparsity(network)
    images = torch.rand(1, 3, 64, 96)
    for ours, theirs in zip(back(images), network(images), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("key", NEWER)
def test_only_classes_of_the_package_are_named(tmp_path: Path, key: str) -> None:
    save(narrow(key), tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        data = archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))
    found = {argument for opcode, argument, _ in pickletools.genops(data) if opcode.name == "GLOBAL"}
    assert {name for name in found if not name.startswith(KNOWN_MODULES)} <= STOCK
    assert {name.rpartition(".")[2] for name in found if name.startswith("ultralytics")} <= {
        *(" ".join((path[0].rpartition(".")[2], path[1])) for path in PUBLISHED.values()),
        "tasks DetectionModel",
    }


def test_a_branch_that_is_not_held_is_none() -> None:
    head = ultralytics_pt._model(narrow("yolo26")).model[-1]
    assert {name for name, module in head._modules.items() if module is None} == {
        *("one2one_cv2", "one2one_cv3")
    }
    head = ultralytics_pt._model(narrow("yolo26 one2one")).model[-1]
    assert (head.cv2, head.cv3, type(head.dfl)) == (None, None, torch.nn.Identity)
    assert (head.no, head.nl, head.reg_max) == (7, 3, 1)


def test_blocks_have_the_attributes_of_the_package() -> None:
    layers = ultralytics_pt._model(narrow("yolo12")).model
    attention = layers[6].m[0][0].attn
    assert (attention.area, attention.num_heads, attention.head_dim, attention.all_head_dim) == (4, 1, 32, 32)
    assert layers[6].__dict__["gamma"] is None
    assert ultralytics_pt._model(narrow("yolo12 large")).model[8]._parameters["gamma"].shape == (128,)
    layers = ultralytics_pt._model(narrow("yolo26")).model
    assert (layers[9].n, layers[9].add, layers[10].c, layers[2].c) == (3, True, 64, 8)
    assert layers[10].m[0].attn.scale == pytest.approx(32**-0.5)


@pytest.mark.parametrize("name", [name for name in sizes() if not name.startswith("yolov5")])
def test_rows_describe_every_published_network(name: str) -> None:
    rows = describe(published_architecture(name, 80))
    assert len(rows["backbone"] + rows["head"]) == len(published_architecture(name, 80))


def test_rows_are_those_of_the_package() -> None:
    yolo26 = describe(published_architecture("yolo26n", 80))
    assert (yolo26["reg_max"], yolo26["end2end"]) == (1, True)
    assert yolo26["backbone"][9] == [-1, 1, "SPPF", [256, 5, 3, True]]
    rows = yolo26["backbone"] + yolo26["head"]
    assert rows[10] == [-1, 1, "C2PSA", [256]]
    assert rows[22] == [-1, 1, "C3k2", [256, False, 0.5, True]]
    yolo12 = describe(published_architecture("yolo12l", 80))
    assert (yolo12["backbone"] + yolo12["head"])[6] == [-1, 4, "A2C2f", [512, True, 4, True, 1.2]]
    yolo11 = describe(published_architecture("yolo11n", 80))
    assert "end2end" not in yolo11
    assert yolo11["backbone"][4] == [-1, 1, "C3k2", [128, False, 0.25]]


def test_one_branch_is_described() -> None:
    for branch, both in (("one2many", False), ("one2one", True)):
        with torch.device("meta"):
            network = keep_head(build(published_architecture("yolo26n", 2), "ab"), branch)
        rows = describe(current_architecture(network))
        assert rows["head"][-1] == [[16, 19, 22], 1, "Detect", ["nc"]]
        assert rows["end2end"] is both


def test_blocks_that_no_row_builds_are_not_described() -> None:
    network = narrow("yolo12")
    network.model[6].m[0][0].attn.qkv.conv.out_channels = 88
    assert "backbone" not in describe(current_architecture(network))
    network = narrow("yolo11")
    del network.architecture[9].module.children["m"].attributes["kernel_size"]
    assert "backbone" not in describe(current_architecture(network))


@pytest.mark.parametrize(
    ("key", "version"), [("yolo11", "8.3.0"), ("yolo12", "8.3.78"), ("yolo26 one2one", "8.4.0")]
)
def test_a_file_names_the_oldest_version_that_opens_it(key: str, version: str) -> None:
    assert ultralytics_pt._version(narrow(key).architecture) == version
