"""Our .safetensors: what is written comes back bit for bit; what is wrong in a file is named."""

import json
import math
import re
import struct
import sys

import numpy as np
import pytest
import torch
import zstandard
from safetensors import safe_open
from safetensors.numpy import load, save

from sparsity import load as load_checkpoint
from sparsity import prune
from sparsity.base.errors import InputError
from sparsity.formats import compressed, header
from sparsity.formats.compressed import encode, entropy_bound_bytes, read_parts, write
from sparsity.formats.half import round_to_half
from sparsity.yolo.network import Network, build
from sparsity.yolo.yolov5.architectures import yolov5
from tests.formats.repack import metadata, pack, unpack

CONV = "model.0.conv.weight"
JOINED = "joined.float16"


@pytest.fixture
def pruned(tiny) -> Network:
    return round_to_half(prune(tiny, 0.6))


@pytest.fixture
def content(pruned) -> bytes:
    return encode(pruned)


def assert_comes_back(network: Network, path) -> None:
    write(network, path)
    architecture, weights, names = read_parts(path)
    expected = network.state_dict()
    assert weights.keys() == expected.keys()
    for name, tensor in weights.items():
        wide = expected[name].float() if expected[name].is_floating_point() else expected[name]
        assert tensor.dtype == wide.dtype
        assert tensor.shape == wide.shape
        assert tensor.numpy().tobytes() == wide.contiguous().numpy().tobytes(), name
    assert names == network.names
    images = torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64)
    back = build(architecture, names, weights)
    with torch.inference_mode():
        for one, other in zip(network.float().eval()(images), back(images), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("amount", [0, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("rounded", [True, False])
def test_a_network_comes_back(tiny, tmp_path, amount, rounded):
    prune(tiny, amount)
    assert_comes_back(round_to_half(tiny) if rounded else tiny, tmp_path / "a.safetensors")


def test_an_unfused_network_comes_back_with_its_counters(tmp_path):
    torch.manual_seed(0)
    network = build(yolov5("yolov5n", nc=3), ("cat", "dog", "bird"))
    network.train()(torch.rand(2, 3, 64, 64))
    assert_comes_back(network.eval(), tmp_path / "a.safetensors")
    assert read_parts(tmp_path / "a.safetensors")[1]["model.0.bn.num_batches_tracked"] == 1


def test_special_weights_come_back(tiny, tmp_path):
    weights = dict(tiny.named_parameters())
    with torch.no_grad():
        weights[CONV].zero_()
        weights["model.1.conv.weight"].fill_(1)
        weights["model.2.cv1.conv.weight"][0, 0, 0, 0] = -0.0
        weights["model.2.cv2.conv.weight"].zero_()[0, 0, 0, 0] = 6e-8
        weights["model.2.cv3.conv.weight"][0, 0, 0, 0] = 1e30
        weights["model.3.conv.weight"][0, 0, 0, 0] = 1e-40
    assert_comes_back(tiny, tmp_path / "a.safetensors")


def test_float16_is_taken_only_where_it_is_exact(pruned):
    with torch.no_grad():
        pruned.get_parameter("model.1.conv.weight").view(-1)[3] = 0.1
        pruned.get_parameter("model.3.conv.weight").view(-1)[3] = 70000
        pruned.get_parameter("model.5.conv.bias")[0] = 0.1
    entries = {entry["name"]: entry for entry in unpack(encode(pruned))[0]["tensors"]}
    single = {name for name, entry in entries.items() if entry["dtype"] == "float32"}
    assert single == {"model.1.conv.weight", "model.3.conv.weight", "joined.float32"}
    assert entries["joined.float32"]["members"] == [["model.5.conv.bias", [32]]]


def test_half_and_bfloat16_networks_are_written(pruned, tmp_path):
    assert_comes_back(pruned.half(), tmp_path / "a.safetensors")
    assert_comes_back(pruned.bfloat16(), tmp_path / "b.safetensors")


def test_safetensors_opens_it(pruned, tmp_path):
    write(pruned, tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "numpy") as file:
        assert file.metadata()["format"] == "sparsity"
        assert file.metadata()["version"] == "1"
        assert CONV in file.keys()  # noqa: SIM118
        assert file.get_tensor(CONV).dtype == np.uint8


def test_the_same_network_gives_the_same_file(pruned):
    assert encode(pruned) == encode(pruned)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused(tiny, tmp_path, value):
    with torch.no_grad():
        tiny.get_parameter("model.1.conv.weight")[0, 0, 0, 0] = value
    with pytest.raises(InputError, match=r"model.1.conv.weight: a weight is not finite"):
        write(tiny, tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_double_precision_is_refused(tiny):
    with pytest.raises(InputError, match=r"of type torch.float64; float16, float32 or int64"):
        encode(tiny.double())


def test_a_folder_that_is_a_file_is_refused(pruned, tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write(pruned, tmp_path / "a" / "b.safetensors")


def test_the_bound_is_as_defined(tiny):
    conv = dict(tiny.named_modules())["model.0.conv"]
    others = sum(t.numel() for t in tiny.state_dict().values()) - conv.weight.numel()
    with torch.no_grad():
        conv.weight.fill_(1).view(-1)[: conv.weight.numel() // 4] = 0
    n = conv.weight.numel()
    entropy = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert entropy_bound_bytes(tiny) == math.ceil((n * entropy + 0.75 * n * 16 + others * 16) / 8)


@pytest.mark.parametrize("amount", [0.3, 0.5, 0.7, 0.9])
def test_files_are_smaller_than_the_bound(network, amount):
    round_to_half(prune(network, amount))
    assert len(encode(network)) < entropy_bound_bytes(network)


@pytest.mark.assets
@pytest.mark.parametrize("amount", [0, 0.5, 0.9])
def test_yolov5n_is_smaller_than_the_bound_and_than_zstandard(assets, amount):
    from_file = load_checkpoint(assets / "yolov5n.pt")
    network = round_to_half(prune(from_file, amount) if amount else from_file)
    halves = b"".join(tensor.half().numpy().tobytes() for tensor in network.state_dict().values())
    size = len(encode(network))
    assert size < len(zstandard.ZstdCompressor(level=19).compress(halves))
    assert size < entropy_bound_bytes(network)


def refused(tmp_path, content: bytes) -> str:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_parts(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    return str(error.value)


def places(content: bytes) -> dict[str, tuple[int, int]]:
    """Tensor -> where it begins and ends in the file."""
    length = int.from_bytes(content[:8], "little")
    fields = json.loads(content[8 : 8 + length])
    del fields["__metadata__"]
    return {name: tuple(8 + length + n for n in field["data_offsets"]) for name, field in fields.items()}


@pytest.mark.parametrize("name", [CONV, "model.23.cv3.conv.weight", "model.24.m.2.weight"])
def test_a_flipped_bit_names_the_layer(tmp_path, content, name):
    start, end = places(content)[name]
    damaged = bytearray(content)
    damaged[(start + end) // 2] ^= 4
    assert f"damaged: {name}: its bytes changed" in refused(tmp_path, bytes(damaged))


@pytest.mark.parametrize("name", [CONV, "model.23.cv3.conv.weight", "model.24.m.2.weight"])
def test_a_truncated_file_names_the_first_layer_that_is_not_whole(tmp_path, content, name):
    assert f"truncated: {name} reaches to byte" in refused(tmp_path, content[: places(content)[name][1] - 1])


def test_damage_to_joined_tensors_names_them(tmp_path, content):
    damaged = bytearray(content)
    damaged[places(content)[JOINED][0]] ^= 1
    assert f"{JOINED} (model.0.conv.bias and 60 more): its bytes" in refused(tmp_path, bytes(damaged))


def test_every_flipped_bit_of_the_header_is_noticed(tmp_path, content):
    length = int.from_bytes(content[:8], "little")
    rng = np.random.default_rng(0)
    for place in [*range(8, 120), *rng.integers(8, 8 + length, 100)]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        refused(tmp_path, bytes(damaged))


def with_metadata(content: bytes, **changed: str) -> bytes:
    return save(load(content), metadata(content) | changed)


def of_version(content: bytes, version: str) -> bytes:
    checksum = header._checksum(version, metadata(content)["description"])
    return with_metadata(content, version=version, crc32=checksum)


def header_alone(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


WHOLE = {
    "empty": (lambda _: b"", r"empty \(0 bytes\)"),
    "short": (lambda _: b"abc", "not a safetensors file, or its header is damaged"),
    "a zip": (lambda _: b"PK\x03\x04" + bytes(100), "not a safetensors file, or its header is damaged"),
    "length": (
        lambda c: struct.pack("<Q", 2**40) + c[8:],
        "not a safetensors file, or its header is damaged",
    ),
    "cut": (lambda c: c[:1000], "truncated: its header reaches to byte"),
    "no JSON": (lambda c: c[:8] + b"x" + c[9:], "its header is damaged"),
    "a list": (lambda _: header_alone("[]"), "its header is damaged"),
    "deep": (lambda _: header_alone("[" * 10**6), "its header is damaged"),
    "digits": (lambda _: header_alone('{"a":' + "9" * 10**5 + "}"), "its header is damaged"),
    "NaN": (lambda _: header_alone('{"a":NaN}'), "NaN for a number"),
    "twice": (lambda _: header_alone('{"a":1,"a":1}'), "a name twice"),
    "text": (lambda _: struct.pack("<Q", 2) + b"\xff\xff", "its header is damaged"),
    "another's": (lambda c: save(load(c)), "a safetensors file, but not one of ours"),
    "another's format": (lambda c: with_metadata(c, format="pt"), "not one of ours"),
    "newer": (
        lambda c: of_version(c, "2"),
        "has version 2 of the format; versions up to 1 can be read: update sparsity",
    ),
    "another version": (lambda c: with_metadata(c, version="0"), "its header is damaged"),
    "no description": (lambda c: save(load(c), {"format": "sparsity"}), "no version or no description"),
    "checksum": (lambda c: with_metadata(c, crc32="1"), "its description changed since it was written"),
    "longer": (lambda c: c + b"x", "damaged: it has 1 bytes after its last tensor"),
}


@pytest.mark.parametrize("case", WHOLE)
def test_what_is_no_such_file_is_refused(tmp_path, content, case):
    change, words = WHOLE[case]
    message = refused(tmp_path, change(content))
    assert re.search(words, message), message


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_parts(tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="cannot be read"):
        read_parts(tmp_path)


def entry(description: dict, name: str = CONV) -> dict:
    return next(one for one in description["tensors"] if one["name"] == name)


def set_module(description: dict, key: str, value: object) -> None:
    description["architecture"][0]["module"]["children"]["conv"]["attributes"][key] = value


INSIDE = {
    "names": (lambda d, _: d.update(names="cat"), "no list of class names"),
    "two names": (lambda d, _: d.update(names=["cat", "dog"]), "2 class names, but its head"),
    "no layers": (lambda d, _: d.update(architecture=[]), "no list of layers"),
    "no module": (lambda d, _: d["architecture"][0].pop("module"), "no module at model.0"),
    "no head": (lambda d, _: d["architecture"].pop(), "Detect is expected"),
    "unknown kind": (lambda d, _: d["architecture"][0]["module"].update(kind="Exec"), "unknown kind"),
    "many modules": (lambda d, _: d.update(architecture=[{"kind": 1}] * 4_001), "more than 4000 modules"),
    "huge": (lambda d, _: set_module(d, "in_channels", 10**30), "in_channels; a whole number from 1 to"),
    "nonsense": (
        lambda d, _: set_module(d, "kernel_size", "abc"),
        "has .abc. at model.*kernel_size; a whole",
    ),
    "groups": (lambda d, _: set_module(d, "groups", 0), "has 0 at model.*groups; a whole number from 1"),
    "no tensors": (lambda d, _: d.update(tensors=1), "no list of tensors"),
    "no name": (lambda d, _: entry(d).pop("name"), "without a name, type or mask"),
    "no entry": (lambda d, _: d["tensors"].append(5), "without a name, type or mask"),
    "no checksum": (lambda d, _: entry(d).update(crc32=None), "no checksum"),
    "streams": (lambda d, _: entry(d).update(streams=[[1]]), f"no sizes of streams for {CONV}"),
    "a stream below 0": (lambda d, _: entry(d)["streams"][0].__setitem__(0, -1), "no sizes of streams"),
    "members": (lambda d, _: entry(d).update(members=[]), f"no weights and shapes for {CONV}"),
    "a member twice": (lambda d, _: entry(d).update(members=[["a", [1]], ["a", [1]]]), "a weight twice"),
    "one mask": (lambda d, _: entry(d).update(members=[["a", [1]], ["b", [1]]]), "one mask for several"),
    "coding": (lambda d, _: entry(d).update(mask="guess"), f"{CONV}: has an unknown coding"),
    "type": (lambda d, _: entry(d).update(dtype="float8"), f"{CONV}: has an unknown coding"),
    "missing": (
        lambda d, t: (d["tensors"].remove(entry(d)), t.pop(CONV)),
        f"do not fit its modules: no weights for {CONV}",
    ),
    "extra": (
        lambda d, _: entry(d, JOINED)["members"].append(["more", [0]]),
        "weights without a module: more",
    ),
    "shape": (
        lambda d, _: entry(d)["members"][0].__setitem__(1, entry(d)["members"][0][1][::-1]),
        f"{CONV}: is of shape",
    ),
    "weights twice": (lambda d, _: d["tensors"].append(dict(entry(d), name="b")), f"has {CONV} twice"),
    "tensor gone": (lambda _, t: t.pop(CONV), f"other tensors than its description .it lacks {CONV}"),
    "tensor too many": (lambda _, t: t.update(b=t[CONV]), "other tensors than its description"),
    "bytes": (lambda _, t: t.update({CONV: t[CONV][1:]}), f"its header gives {CONV} "),
    "mask": (lambda d, t: break_mask(d, t), f"{CONV}: has a mask that keeps"),
    "stream": (lambda d, t: break_stream(d, t), "model.23.cv3.conv.weight: has a stream that"),
}


def break_mask(description: dict, tensors: dict) -> None:
    size = entry(description)["streams"][0][0]
    tensors[CONV] = np.concatenate((np.full(size, 255, np.uint8), tensors[CONV][size:]))
    entry(description)["streams"][0] = [size, size]
    sizes = entry(description)["streams"]
    missing = -(-math.prod(entry(description)["members"][0][1]) // 8) - size
    tensors[CONV] = np.concatenate((np.full(missing, 255, np.uint8), tensors[CONV]))
    sizes[0] = [size + missing] * 2
    entry(description).update(mask="bits", crc32=compressed.coding.crc32(tensors[CONV].tobytes()))


def break_stream(description: dict, tensors: dict) -> None:
    name = "model.23.cv3.conv.weight"
    one = entry(description, name)
    assert one["streams"][1][0] < one["streams"][1][1]
    tensors[name] = tensors[name].copy()
    tensors[name][one["streams"][0][0] + 9] ^= 255
    one.update(crc32=compressed.coding.crc32(tensors[name].tobytes()))
    tensors[name][one["streams"][0][0]] ^= 255
    one.update(crc32=compressed.coding.crc32(tensors[name].tobytes()))


@pytest.mark.parametrize("case", INSIDE)
def test_what_is_wrong_in_a_file_is_named(tmp_path, content, case):
    change, words = INSIDE[case]
    description, tensors = unpack(content)
    change(description, tensors)
    message = refused(tmp_path, pack(description, tensors))
    assert re.search(words, message), message


def test_networks_too_large_to_be_read_are_not_written(pruned, tmp_path, monkeypatch):
    write(pruned, tmp_path / "a.safetensors")
    monkeypatch.setattr(compressed, "LEAST_LIMIT", 1000)
    monkeypatch.setattr(compressed, "MOST_RATIO", 1)
    with pytest.raises(
        InputError, match=r"cannot be written, because it could not be read again: its weights take"
    ):
        encode(pruned)
    with pytest.raises(
        InputError,
        match=r"its weights take \d+ bytes in memory; at most \d+ are accepted for a file of \d+ bytes",
    ):
        read_parts(tmp_path / "a.safetensors")
    monkeypatch.undo()
    monkeypatch.setattr(compressed, "MOST_VALUES", 500)
    with pytest.raises(InputError, match=r"model\.\d+\.\S+: has \d+ values; at most 500 are read"):
        read_parts(tmp_path / "a.safetensors")


def test_descriptions_too_long_to_be_read_are_not_written(pruned, monkeypatch):
    monkeypatch.setattr(header, "MOST_DESCRIPTION", 1000)
    with pytest.raises(InputError, match="too many to write"):
        encode(pruned)


def test_descriptions_that_grow_without_end_are_refused(tmp_path, content, monkeypatch):
    monkeypatch.setattr(header, "MOST_DESCRIPTION", 10**8)
    bomb = pack({"names": [" " * 9 * 2**20]}, load(content))
    monkeypatch.undo()
    assert "its description is damaged: over" in refused(tmp_path, bomb)


@pytest.mark.parametrize("package", ["zstandard", "safetensors.numpy"])
def test_a_missing_package_is_named(pruned, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"needs the package {package.split('.')[0]} .*: pip install"):
        encode(pruned)
