"""Small valid files, and what can be wrong in them: anywhere, or deep inside with every checksum right."""

from __future__ import annotations

import copy
import io
import json
import pickletools
import random
import struct
import sys
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from sparsity.formats import coding
from sparsity.formats.compressed import encode
from sparsity.formats.half import round_to_half
from sparsity.formats.saving import save
from sparsity.pruning.magnitude import prune
from sparsity.yolo.network import Network, build, fuse
from sparsity.yolo.spec import Architecture, Layer, ModuleSpec
from tests import published_networks
from tests.formats.repack import pack, unpack
from tests.small_networks import newer_networks, small_networks

NASTY_NUMBERS = (0, 1, -1, 2, 3, 7, 255, 256, 2**15, 2**26, 2**31 - 1, 2**31, 2**40, 2**63, 2**64, 10**30)
NASTY = (
    *NASTY_NUMBERS,
    *(
        0.5,
        1.5,
        -1e308,
        1e308,
        None,
        True,
        "",
        "x",
        "0",
        "2",
        "Conv",
        "nearest",
        "bilinear",
        "\x1b[2J",
        "x" * 10**5,
    ),
    *(
        [],
        [0],
        [1, 1],
        [2, 2, 2],
        [0.5, 2],
        [[]],
        {},
        {"kind": "Conv"},
        {"kind": "Identity", "attributes": {}},
    ),
    *([1] * 17, ["x"], [None], [[[[]]]], {"a": {"b": {}}}),
)
DUMPS = json.dumps
Random = random.Random


def conv2d(c1: int, c2: int, k: int, s: int, bias: bool) -> ModuleSpec:
    pairs = {"kernel_size": (k, k), "stride": (s, s), "padding": (k // 2, k // 2), "dilation": (1, 1)}
    return ModuleSpec("Conv2d", {"in_channels": c1, "out_channels": c2, **pairs, "groups": 1, "bias": bias})


def conv(c1: int, c2: int, k: int, s: int) -> Layer:
    norm = ModuleSpec("BatchNorm2d", {"num_features": c2, "eps": 1e-3, "momentum": 0.03})
    children = {"conv": conv2d(c1, c2, k, s, False), "bn": norm, "act": ModuleSpec("SiLU")}
    return Layer(ModuleSpec("Conv", children=children))


def small_architecture() -> Architecture:
    """Three convolutions and a head of one level and two classes."""
    maps = ModuleSpec("ModuleList", children={"0": conv2d(24, 21, 1, 1, True)})
    head = ModuleSpec("Detect", {"nc": 2, "na": 3, "strides": (8,)}, {"m": maps})
    return (conv(3, 8, 6, 2), conv(8, 16, 3, 2), conv(16, 24, 3, 2), Layer(head))


def small_network() -> Network:
    torch.manual_seed(0)
    return build(small_architecture(), ("cat", "dog"))


def make_safetensors(_folder: Path) -> list[bytes]:
    """Files with every coding: bits, gaps, none; fused and not; float16, float32, int64; and every block."""
    half = round_to_half(prune(fuse(small_network()), 0.5))
    sparse = round_to_half(prune(fuse(small_network()), 0.93))
    others = [encode(network) for network in (*small_networks(), *newer_networks())]
    return [encode(half), encode(sparse), encode(prune(small_network(), 0.4)), *others]


def make_pt(folder: Path) -> list[bytes]:
    """A file of ours, and one as YOLOv5 writes them."""
    save(fuse(small_network()), folder / "own.pt")
    save(small_network(), folder / "unfused.pt")
    save(small_networks()[2], folder / "yolov8.pt")
    names = ["own.pt", "unfused.pt", "yolov8.pt"]
    for index, network in enumerate(newer_networks()):
        names.append(published_networks.write(folder / f"{index}.pt", published_networks.model(network)).name)
    return [*((folder / name).read_bytes() for name in names), yolov5_checkpoint()]


def yolov5_checkpoint() -> bytes:
    """Modules pickled under the published names, each with what reading asks for."""
    classes = {("models.common", "Conv"), ("models.yolo", "Detect"), ("models.yolo", "DetectionModel")}
    modules = {name: ModuleType(name) for name in ("models", "models.common", "models.yolo")}
    for home, name in classes:
        setattr(modules[home], name, type(name, (nn.Module,), {"__module__": home}))
    with mock.patch.dict(sys.modules, modules):
        network = small_network()
        layers = [_as_published(module, modules, i) for i, module in enumerate(network.model)]
        whole = modules["models.yolo"].DetectionModel()
        whole.model, whole.names, whole.yaml = nn.Sequential(*layers), {0: "cat", 1: "dog"}, {"nc": 2}
        file = io.BytesIO()
        torch.save({"epoch": -1, "model": whole.half(), "ema": None, "date": "2024-01-01"}, file)
    return file.getvalue()


def _as_published(module: nn.Module, modules: dict[str, ModuleType], index: int) -> nn.Module:
    head = type(module).__name__ == "Detect"
    published = modules["models.yolo"].Detect() if head else modules["models.common"].Conv()
    for name, child in module.named_children():
        setattr(published, name, child)
    if head:
        published.nc, published.na, published.stride = 2, 3, torch.tensor([8.0])
        published.register_buffer("anchors", torch.ones(1, 3, 2))
    published.i, published.f = index, -1
    return published


# --- anywhere --------------------------------------------------------------------------------------


def flip(content: bytes, rng: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 50)) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwrite(content: bytes, rng: Random) -> bytes:
    start, run = rng.randrange(len(content) + 1), rng.choice((1, 4, 8, 64))
    filling = rng.choice((b"\x00" * run, b"\xff" * run, rng.randbytes(run)))
    return content[:start] + filling + content[start + run :]


def truncate(content: bytes, rng: Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def insert(content: bytes, rng: Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + rng.randbytes(rng.choice((1, 2, 8, 100))) + content[start:]


def cut(content: bytes, rng: Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + content[start + rng.choice((1, 2, 8, 100)) :]


def repeat(content: bytes, rng: Random) -> bytes:
    start, other = rng.randrange(len(content) + 1), rng.randrange(len(content) + 1)
    return content[:other] + content[start : start + rng.choice((4, 30, 300))] + content[other:]


ANYWHERE = (flip, overwrite, truncate, insert, cut, repeat)


def anywhere(content: bytes, rng: Random) -> bytes:
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = rng.choice(ANYWHERE)(content, rng)
    return content


def splice(originals: list[bytes], rng: Random) -> bytes:
    one, other = rng.choice(originals), rng.choice(originals)
    return one[: rng.randrange(len(one))] + other[rng.randrange(len(other)) :]


# --- inside a .safetensors -------------------------------------------------------------------------


def mutate_safetensors(originals: list[bytes], rng: Random) -> bytes:
    """One damaged file."""
    original = rng.choice(originals)
    ways = (edit_description,) * 6 + (anywhere, edit_tensors, edit_tensors, edit_table, nest, None)
    how = rng.choice(ways)
    return how(original, rng) if how else splice(originals, rng)


def edit_description(content: bytes, rng: Random) -> bytes:
    description, tensors = unpack(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        edit(description, rng)
    return pack(description, tensors)


def edit_tensors(content: bytes, rng: Random) -> bytes:
    """Bytes of a tensor changed, its checksum made right, its size maybe too."""
    description, tensors = unpack(content)
    entry = rng.choice(description["tensors"])
    data = rng.choice((flip, overwrite, anywhere))(tensors[entry["name"]].tobytes(), rng)
    tensors[entry["name"]] = np.frombuffer(data, np.uint8)
    entry["crc32"] = coding.crc32(data)
    if rng.random() < 0.7 and entry["streams"]:
        stream = rng.choice(entry["streams"])
        stream[0] += len(data) - sum(size for size, _ in entry["streams"])
    if rng.random() < 0.3:
        edit(entry, rng)
    return pack(description, tensors)


def nest(content: bytes, rng: Random) -> bytes:
    """A part of the description, or of the header, nested deeply."""
    deep = rng.choice(("[", '{"a":', '{"children":', '[{"x":')) * rng.choice((100, 3000, 10**5))
    mark = '"nested here"'
    if rng.random() < 0.5:
        description, tensors = unpack(content)
        _choose(description, rng, "nested here")
        with mock.patch.object(json, "dumps", lambda one, **how: DUMPS(one, **how).replace(mark, deep)):
            return pack(description, tensors)
    end = 8 + int.from_bytes(content[:8], "little")
    fields = json.loads(content[8:end])
    _choose(fields, rng, "nested here")
    text = DUMPS(fields).replace(mark, deep).encode()
    return struct.pack("<Q", len(text)) + text + content[end:]


def _choose(root: dict[str, Any], rng: Random, value: object) -> None:
    parent = rng.choice(containers(root))
    parent[rng.choice(keys(parent))] = value


def edit_table(content: bytes, rng: Random) -> bytes:
    """The header's own JSON, with its length made right."""
    end = 8 + int.from_bytes(content[:8], "little")
    fields = json.loads(content[8:end])
    edit(fields, rng)
    text = json.dumps(fields).encode()
    return struct.pack("<Q", len(text)) + text + content[end:]


def edit(root: dict[str, Any], rng: Random) -> None:
    """Change one value somewhere in JSON, leave it out, or have it twice."""
    spots = [(parent, key) for parent in containers(root) for key in keys(parent)]
    parent, key = rng.choice(spots)
    how = rng.randrange(5)
    if how == 0 and isinstance(parent, dict):
        del parent[key]
    elif how == 1 and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    elif how == 2:
        other, place = rng.choice(spots)
        parent[key] = copy.deepcopy(other[place]) if place in keys(other) else None
    elif how == 3 and type(parent[key]) is int:
        parent[key] += rng.choice((-1, 1, 8, -parent[key] - 1, parent[key]))
    else:
        parent[key] = copy.deepcopy(rng.choice(NASTY))


def containers(root: object) -> list[Any]:
    found, left = [], [root]
    while left:
        one = left.pop()
        if isinstance(one, dict | list) and one:
            found.append(one)
            left += one.values() if isinstance(one, dict) else one
    return found


def keys(parent: dict | list) -> list[Any]:
    return list(parent) if isinstance(parent, dict) else list(range(len(parent)))


# --- inside a .pt ----------------------------------------------------------------------------------


def mutate_pt(originals: list[bytes], rng: Random) -> bytes:
    """One damaged file."""
    original = rng.choice(originals)
    how = rng.choice((anywhere, edit_pickle, edit_pickle, edit_pickle, edit_member, None))
    return how(original, rng) if how else splice(originals, rng)


def edit_pickle(content: bytes, rng: Random) -> bytes:
    """Opcodes of data.pkl changed, left out, repeated or swapped."""
    return rezipped(content, "/data.pkl", lambda data: edit_opcodes(data, rng))


def edit_member(content: bytes, rng: Random) -> bytes:
    """Bytes of any member changed."""
    ending = rng.choice(("/data.pkl", "/data/0", "/data/3", "/version", "/byteorder"))
    return rezipped(content, ending, lambda data: anywhere(data, rng))


def edit_opcodes(data: bytes, rng: Random) -> bytes:
    starts = [place for _, _, place in pickletools.genops(data)] + [len(data)]
    opcodes = [data[start:end] for start, end in pairwise(starts)]
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        index, other, how = rng.randrange(len(opcodes)), rng.randrange(len(opcodes)), rng.randrange(6)
        if how == 0:
            del opcodes[index]
        elif how == 1:
            opcodes.insert(other, opcodes[index])
        elif how == 2:
            opcodes[index], opcodes[other] = opcodes[other], opcodes[index]
        elif how == 3:
            opcodes[index] = opcodes[index][:1] + rng.randbytes(len(opcodes[index]) - 1)
        elif how == 4:
            opcodes[index] = nasty_opcode(rng)
        else:
            numbers = [i for i, code in enumerate(opcodes) if code[:1] in b"KMJ"]
            opcodes[rng.choice(numbers or [index])] = nasty_opcode(rng)
    return b"".join(opcodes)


def nasty_opcode(rng: Random) -> bytes:
    number = rng.choice(NASTY_NUMBERS)
    size = max(1, (number.bit_length() + 8) // 8)
    pushed = b"\x8a" + bytes([size]) + number.to_bytes(size, "little", signed=True)
    deep = (b"]" * 10**5 + b"a" * (10**5 - 1), b")" + b"\x85" * 10**5, b"}" * 10**5, b"(" * 10**5)
    if rng.random() < 0.05:
        return rng.choice(deep)
    simple = (b"N", b"}", b"]", b")", b"\x88", b"2", b"0", b"(", b"1", b"t", b"R", b"Q", b"b", b"\x81", b"u")
    return pushed if rng.random() < 0.6 else rng.choice((*simple, b"h\x00", b"G" + struct.pack(">d", 1e300)))


def rezipped(content: bytes, ending: str, change: Callable[[bytes], bytes]) -> bytes:
    """The zip with the members changed whose names end so; sizes and CRCs are right."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            new.writestr(info.filename, change(data) if info.filename.endswith(ending) else data)
    return file.getvalue()
