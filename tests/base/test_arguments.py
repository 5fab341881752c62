"""Arguments of another kind than expected get one clear error, in every public function."""

from collections.abc import Callable

import numpy as np
import pytest
from torch import nn

import sparsity
from sparsity import InputError, SlimmingSettings, ValidationSettings
from sparsity.base.arguments import require_location, require_network

PATH = "yolov5n.pt"
SETTINGS = ValidationSettings(device="cpu")
TAKE_A_NETWORK: dict[str, Callable[[object], object]] = {
    "choose_head": lambda network: sparsity.choose_head(network, "one2one"),
    "compact": sparsity.compact,
    "count_sparsity": sparsity.count_sparsity,
    "find_level": lambda network: sparsity.find_level(network, "a.yaml", settings=SETTINGS),
    "keep_head": lambda network: sparsity.keep_head(network, "one2one"),
    "layer_sparsity": sparsity.layer_sparsity,
    "predict": lambda network: sparsity.predict(network, "a.png"),
    "prune": lambda network: sparsity.prune(network, 0.3),
    "Pruner": sparsity.Pruner,
    "read_calibration": lambda network: sparsity.read_calibration("a", 4, network=network, imgsz=64),
    "save": lambda network: sparsity.save(network, "a.pt"),
    "sensitivity": lambda network: sparsity.sensitivity(network, "a.yaml"),
    "slim": lambda network: sparsity.slim(network, SlimmingSettings(percent=0.3)),
    "sweep": lambda network: sparsity.sweep(network, "a.yaml", [0.3], settings=SETTINGS),
    "validate": lambda network: sparsity.validate(network, "a.yaml", SETTINGS),
}


def test_every_function_that_takes_a_network_is_here():
    for name in set(sparsity.__all__) - set(TAKE_A_NETWORK):
        value = getattr(sparsity, name)
        annotations = getattr(value, "__annotations__", {}) if not isinstance(value, type) else {}
        assert "network" not in annotations, name


@pytest.mark.parametrize("name", TAKE_A_NETWORK)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (PATH, "`network` is 'yolov5n.pt'; a network, as load('yolov5n.pt') returns it, is expected"),
        (None, "`network` is None; a network, as load returns it, is expected"),
        (np.zeros(3), "`network` is of type ndarray; a network"),
    ],
)
def test_a_path_is_no_network(name, value, words):
    with pytest.raises(InputError) as caught:
        TAKE_A_NETWORK[name](value)
    assert words in str(caught.value)


def test_the_sparse_engine_compiles_networks_only():
    pytest.importorskip("numba")
    from sparsity.sparse_engine import compile

    with pytest.raises(InputError, match="as load"):
        compile(PATH)


@pytest.mark.parametrize("name", ["compact", "save", "slim", "validate"])
def test_another_module_is_no_detector(name):
    with pytest.raises(InputError, match="`network` is of type Sequential"):
        TAKE_A_NETWORK[name](nn.Sequential(nn.Conv2d(3, 8, 1)))


def test_other_arguments(network):
    for given, words in (
        (lambda: sparsity.validate(network, 3, SETTINGS), "`data` is 3; a path is expected"),
        (lambda: sparsity.validate(network, "a.yaml", {"imgsz": 64}), "`settings` is of type dict"),
        (lambda: sparsity.load(network), "`weights` is of type Network; a path"),
        (lambda: sparsity.sweep(network, "a.yaml", "0.1:0.9"), "`amounts` is '0.1:0.9'; a list of fractions"),
        (lambda: sparsity.sweep(network, "a.yaml", [0.3], methods=[sparsity.prune]), "method is a function"),
        (lambda: sparsity.sensitivity(network, "a.yaml", [0.0]), "`amounts` is"),
        (lambda: sparsity.sensitivity(network, "a.yaml", layers=["x"]), "`layers` 'x' matches no Conv2d"),
    ):
        with pytest.raises(InputError) as caught:
            given()
        assert words in str(caught.value)


def test_what_is_expected_passes(network, tmp_path):
    require_network(network, nn.Module)
    require_location(tmp_path, "data")
    require_location(str(tmp_path), "data")
