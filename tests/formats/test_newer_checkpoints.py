"""Checkpoints of YOLO11, YOLO12 and YOLO26: what is read from them, and which are refused."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from sparsity import load, save
from sparsity.base.errors import InputError
from sparsity.demo import data as demo
from sparsity.formats.half import round_to_half
from sparsity.formats.pt_reader import read_checkpoint
from sparsity.formats.stand_ins import StandIn, stand_in
from sparsity.yolo.blocks import SPPF
from sparsity.yolo.heads import held_heads
from sparsity.yolo.network import Network, fuse
from tests.published_networks import model, write
from tests.small_networks import newer_networks

SIDE = 64


@pytest.fixture(params=[0, 1], ids=["yolo12", "yolo26"])
def network(request) -> Network:
    return copy.deepcopy(newer_networks()[request.param])


@pytest.fixture
def yolo12() -> Network:
    return copy.deepcopy(newer_networks()[0])


@pytest.fixture
def yolo26() -> Network:
    return copy.deepcopy(newer_networks()[1])


def assert_same(network: Network, other: Network, **near: float) -> None:
    images = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    for one, two in zip(network(images), other(images), strict=True):
        torch.testing.assert_close(one, two, **near)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message
    assert message.isprintable()
    return message


def set_attribute(where: str, name: str, value: object):
    return lambda whole: whole.get_submodule(where).__dict__.__setitem__(name, value)


# --- reading ---------------------------------------------------------------------------------------


def test_a_checkpoint_is_read_whole(tmp_path, network) -> None:
    read = read_checkpoint(write(tmp_path / "a.pt", model(network)))
    assert read.architecture == network.architecture
    half = round_to_half(copy.deepcopy(network))
    assert read.weights.keys() == network.state_dict().keys()
    assert_same(load(tmp_path / "a.pt", fused=False), half, rtol=0, atol=0)


def test_fused_and_unfused_files_give_the_same(tmp_path, network) -> None:
    write(tmp_path / "unfused.pt", model(network))
    whole = model(network)
    for conv in list(whole.modules()):
        if hasattr(conv, "bn"):
            _fuse(conv)
    write(tmp_path / "fused.pt", whole)
    unfused, fused = load(tmp_path / "unfused.pt"), load(tmp_path / "fused.pt", fused=False)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert_same(fused, unfused, rtol=0.02, atol=0.02)


def _fuse(conv: nn.Module) -> None:
    """Fold the batch norm in as the package does: the attribute is gone."""
    conv.conv = nn.utils.fusion.fuse_conv_bn_eval(conv.conv.float().eval(), conv.bn.float().eval()).half()
    del conv.bn


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
def test_safetensors_read_back(tmp_path, network, fused: bool) -> None:
    network = fuse(network) if fused else network
    save(network, tmp_path / "a.safetensors")
    back = load(tmp_path / "a.safetensors", fused=False)
    assert_same(back, round_to_half(network), rtol=0, atol=0)
    assert held_heads(back) == held_heads(network)


@pytest.mark.parametrize("how", ["None", "absent"])
@pytest.mark.parametrize("missing", ["one2many", "one2one"])
def test_either_branch_can_be_missing(tmp_path, yolo26, missing: str, how: str) -> None:
    whole, other = model(yolo26), {"one2many": "one2one", "one2one": "one2many"}[missing]
    for name in yolo26.head.children_of(missing):
        if how == "None":
            setattr(whole.model[6], name, None)
        else:
            delattr(whole.model[6], name)
    read = load(write(tmp_path / "a.pt", whole))
    assert (held_heads(read), read.head.branch) == ((other,), other)
    assert read.dialect == {"one2many": "yolo26", "one2one": "yolo26_one2one"}[other]


def test_a_branch_that_is_none_as_an_attribute_is_missing_too(tmp_path, yolo26) -> None:
    whole = model(yolo26)
    for name in ("one2one_cv2", "one2one_cv3"):
        delattr(whole.model[6], name)
        whole.model[6].__dict__[name] = None
    assert held_heads(load(write(tmp_path / "a.pt", whole))) == ("one2many",)


@pytest.mark.parametrize("end2end", [True, False])
def test_whether_the_package_ran_end_to_end_does_not_matter(tmp_path, yolo26, end2end: bool) -> None:
    whole = model(yolo26)
    whole.model[6].__dict__["_end2end"] = end2end
    assert load(write(tmp_path / "a.pt", whole)).head.branch == "one2many"


@pytest.mark.parametrize(
    ("n", "add"),
    [
        pytest.param(None, None, id="absent"),
        pytest.param(3, False, id="as in YOLOv8 and YOLO11"),
        pytest.param(3, True, id="as in YOLO26"),
        pytest.param(2, True, id="another number of pools"),
    ],
)
def test_sppf_is_read_from_the_file(tmp_path, yolo26, n: int | None, add: bool | None) -> None:
    whole = model(yolo26)
    place = whole.model[3]
    for name, value in (("n", n), ("add", add)):
        place.__dict__.pop(name)
        if value is not None:
            place.__dict__[name] = value
    if n == 2:
        place.cv2.conv = nn.Conv2d(24, 16, 1, bias=False).half()
    read = load(write(tmp_path / "a.pt", whole)).model[3]
    assert isinstance(read, SPPF)
    assert (read.n, read.add) == (n or 3, bool(add))
    x = torch.rand(1, 16, 8, 8)
    maps = [read.cv1(x)]
    for _ in range(n or 3):
        maps.append(read.m(maps[-1]))
    expected = read.cv2(torch.cat(maps, 1)) + (x if add else 0)
    torch.testing.assert_close(read(x), expected)


def test_older_files_of_our_own_have_no_attributes_of_sppf() -> None:
    assert load(demo.WEIGHTS).architecture[9].module.attributes == {"n": 3, "add": False}


@pytest.mark.parametrize("act", [nn.SiLU, nn.Identity])
def test_activations_are_read_from_the_file(tmp_path, yolo26, act: type) -> None:
    whole = model(yolo26)
    whole.model[3].cv1.act = act()
    assert type(load(write(tmp_path / "a.pt", whole)).model[3].cv1.act) is act


def test_an_older_area_attention_has_no_width_of_all_heads(tmp_path, yolo12) -> None:
    whole = model(yolo12)
    attention = whole.model[1].m[0][0].attn
    assert "all_head_dim" not in attention.__dict__
    load(write(tmp_path / "a.pt", whole))
    attention.__dict__["all_head_dim"] = 32
    load(write(tmp_path / "b.pt", whole))


def test_gamma_is_a_parameter_or_none(tmp_path, yolo12) -> None:
    whole = model(yolo12)
    read = load(write(tmp_path / "a.pt", whole))
    assert torch.equal(read.model[1].gamma, round_to_half(yolo12).model[1].gamma)
    assert read.model[2].gamma is None
    assert whole.model[2].__dict__["gamma"] is None


# --- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(
            set_attribute("model.1.m.0.0.attn", "window", 4), "an attribute 'window'", id="unknown attribute"
        ),
        pytest.param(set_attribute("model.1.m.0.0.attn", "area", 0), "area is 0", id="no area"),
        pytest.param(set_attribute("model.1.m.0.0.attn", "area", 65), "area is 65", id="many areas"),
        pytest.param(set_attribute("model.1.m.0.0.attn", "area", 7), "cannot run", id="areas of parts"),
        pytest.param(set_attribute("model.1.m.0.0.attn", "num_heads", 3), "qkv gives 96", id="heads"),
        pytest.param(set_attribute("model.1.m.0.0.attn", "head_dim", 16), "qkv gives 96", id="widths"),
        pytest.param(set_attribute("model.2", "gamma", 1.0), "gamma 1.0; None", id="gamma is a number"),
    ],
)
def test_a_yolo12_that_does_not_hold_together_is_refused(tmp_path, yolo12, change, words: str) -> None:
    whole = model(yolo12)
    change(whole)
    assert words in refusal(write(tmp_path / "a.pt", whole))


def half_a_branch(whole: nn.Module) -> None:
    del whole.model[6].one2one_cv3


def another_dfl(whole: nn.Module) -> None:
    whole.model[6].dfl = nn.SiLU()


def bins(whole: nn.Module) -> None:
    whole.model[6].__dict__["reg_max"] = 16


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(half_a_branch, "or both branches, are expected", id="half a branch"),
        pytest.param(another_dfl, "a dfl that is SiLU", id="another dfl"),
        pytest.param(bins, "as in YOLOv10", id="two branches with bins"),
        pytest.param(set_attribute("model.4.m.0.attn", "scale", 2.0), "scale is 2.0", id="scale"),
        pytest.param(set_attribute("model.4.m.0.attn", "key_dim", 8), "qkv gives 16", id="keys"),
        pytest.param(set_attribute("model.4.m.0", "add", 1), "add is 1", id="add is a number"),
        pytest.param(set_attribute("model.3", "n", 65), "n is 65; a whole number", id="many pools"),
    ],
)
def test_a_yolo26_that_does_not_hold_together_is_refused(tmp_path, yolo26, change, words: str) -> None:
    whole = model(yolo26)
    change(whole)
    assert words in refusal(write(tmp_path / "a.pt", whole))


def test_the_yolo12_of_its_authors_is_told_apart(tmp_path, yolo12) -> None:
    whole = model(yolo12)
    attention = whole.model[1].m[0][0].attn
    attention.qk, attention.v = (copy.deepcopy(attention.qkv) for _ in range(2))
    del attention.qkv
    message = refusal(write(tmp_path / "a.pt", whole))
    assert "model.1.m.0.0.attn holds qk and v in place of qkv, as in the YOLO12 of sunsmarterjie" in message


def test_a_quantised_checkpoint_is_refused(tmp_path, network) -> None:
    assert "quantisation-aware" in refusal(write(tmp_path / "a.pt", model(network), modelopt={"state": 1}))
    load(write(tmp_path / "b.pt", model(network), modelopt=None, stopper=None))


def of_task(name: str) -> StandIn:
    return stand_in("ultralytics.nn.tasks", f"{name}Model", model=nn.Sequential())


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("Segmentation", "segmentation"),
        ("Pose", "pose"),
        ("OBB", "oriented boxes"),
        ("Classification", "classification"),
    ],
)
def test_a_model_of_another_task_is_named(tmp_path, name: str, task: str) -> None:
    message = refusal(write(tmp_path / "a.pt", of_task(name)))
    assert f"{task} checkpoint (ultralytics.nn.tasks.{name}Model)" in message
    assert "a detection checkpoint of YOLOv5, YOLOv8, YOLO11, YOLO12 or YOLO26 is expected" in message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("Segment", "a YOLOv8 (or later) segmentation checkpoint", id="segmentation"),
        pytest.param("Segment26", "a YOLO26 segmentation checkpoint", id="segmentation of YOLO26"),
        pytest.param("Pose26", "a YOLO26 pose checkpoint", id="pose of YOLO26"),
        pytest.param("OBB26", "a YOLO26 oriented boxes checkpoint", id="oriented boxes of YOLO26"),
    ],
)
def test_a_head_of_another_task_is_named(tmp_path, yolo26, name: str, words: str) -> None:
    whole = model(yolo26)
    whole.model[6] = stand_in("ultralytics.nn.modules.head", name)
    message = refusal(write(tmp_path / "a.pt", whole))
    assert words in message
    assert "a detection checkpoint of YOLOv5" in message
