"""What a checkpoint tells of its own training: read, kept by pruning and slimming, and written again."""

import math

import pytest
import torch

from sparsity.channels.cutting import cut
from sparsity.channels.graph import trace_channels
from sparsity.formats.loading import load
from sparsity.formats.saving import save
from sparsity.formats.training_arguments import read_arguments
from tests.published_networks import model, write

HYP = {"fliplr": 0.0, "hsv_h": 0.015, "mosaic": 1, "scale": 0.5, "imgsz": 320}


def test_known_numbers_are_read_from_the_first_dict():
    more = {"lr0": 0.01, "optimizer": "auto", "data": "/a/b.yaml"}
    assert read_arguments(None, HYP | more, {"fliplr": 0.5}) == HYP
    assert read_arguments(None, 5, []) == {}


@pytest.mark.parametrize(
    "value", [True, "0.5", None, [0.5], -0.1, 1.5, math.nan, math.inf, 10**400, torch.tensor(0.5)]
)
def test_what_is_no_number_of_the_range_is_left_out(value):
    assert read_arguments({"fliplr": value, "scale": 0.5}) == {"scale": 0.5}


@pytest.mark.parametrize("value", [0, -320, 10**9, math.nan, "640", [640, 640]])
def test_a_size_out_of_range_is_left_out(value):
    assert read_arguments({"imgsz": value}) == {}


def test_the_root_of_a_package_file_tells_it(unfused_yolov8, tmp_path):
    path = write(tmp_path / "a.pt", model(unfused_yolov8), train_args=HYP | {"lr0": 0.01})
    assert load(path).trained_with == HYP
    assert load(write(tmp_path / "b.pt", model(unfused_yolov8))).trained_with == {}


def test_a_saved_yolov5_keeps_all_but_the_size(shallow, tmp_path):
    shallow.trained_with = HYP
    save(shallow, tmp_path / "a.pt")
    assert load(tmp_path / "a.pt").trained_with == {k: v for k, v in HYP.items() if k != "imgsz"}


def test_a_saved_yolov8_keeps_it_where_the_package_looks(tiny_yolov8, tmp_path):
    tiny_yolov8.trained_with = HYP
    save(tiny_yolov8, tmp_path / "a.pt")
    assert load(tmp_path / "a.pt").trained_with == HYP


def test_a_network_with_fewer_channels_keeps_it(shallow_unfused):
    shallow_unfused.trained_with = HYP
    channels = trace_channels(shallow_unfused)
    smaller = cut(shallow_unfused, channels, torch.ones(len(channels.pinned), dtype=torch.bool))
    assert smaller.trained_with == HYP
