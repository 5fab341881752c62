"""Small checkpoints of all families, and what can be wrong in their modules while every byte is right."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn

from sparsity.formats import ultralytics_pt, yolov5_pt
from sparsity.formats.stand_ins import StandIn, saved, stand_in
from tests.mutations import NASTY, Random
from tests.small_networks import newer_networks, small_networks

NUMBERS = (0, 1, -1, 2, 3, 4, 8, 16, 256, 257, 2**15, 2**31, 2**63, 2**64, -(2**63), 10**400, True)
FLOATS = (0.0, -1.0, 0.5, 1.0, 2.0, 8.0, 1e-300, 1e300, math.nan, math.inf, -math.inf)
TEXTS = ("", "x", "0", "nearest", "bilinear", "same", "zeros", "None", "\x1b[2J", "x\n" * 10**5, "\ud800")
KEYS = (0, 1, -1, "0", "1", "m", "cv1", "cv2", "cv3", "conv", "bn", "act", "dfl", "tr", "", "a.b", "x" * 500)
NAMES = (
    *(
        "f",
        "i",
        "type",
        "np",
        "nc",
        "na",
        "no",
        "nl",
        "reg_max",
        "stride",
        "strides",
        "anchors",
        "add",
        "gain",
        "d",
    ),
    *(
        "kernel_size",
        "padding",
        "dilation",
        "groups",
        "in_channels",
        "out_channels",
        "padding_mode",
        "transposed",
    ),
    *(
        "eps",
        "momentum",
        "num_features",
        "affine",
        "track_running_stats",
        "scale_factor",
        "mode",
        "size",
        "inplace",
    ),
    *(
        "forward",
        "training",
        "names",
        "yaml",
        "task",
        "end2end",
        "_end2end",
        "negative_slope",
        "c1",
        "c2",
        "n",
    ),
    *(
        "_modules",
        "_parameters",
        "_buffers",
        "_forward_hooks",
        "_forward_pre_hooks",
        "_non_persistent_buffers_set",
    ),
    *(
        "embed_dim",
        "num_heads",
        "ceil_mode",
        "return_indices",
        "align_corners",
        "recompute_scale_factor",
        "__class__",
    ),
)
DTYPES = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.int64, torch.uint8),
    *(torch.bool, torch.complex64),
)
Edit = Callable[[nn.Module, Random], object]


@cache
def roots() -> tuple[dict[str, Any], ...]:
    """What the checkpoints hold at their root: all families, unfused and with blocks of other releases."""
    v5, other, v8 = small_networks()
    made = [yolov5_pt._model(v5), yolov5_pt._model(other)]
    made += [ultralytics_pt._model(network) for network in (v8, *newer_networks())]
    return tuple({"epoch": -1, "model": whole, "ema": None, "date": "2024"} for whole in made)


def mutate_tree(_originals: list[bytes], rng: Random) -> bytes:
    """One checkpoint whose modules are not as they should be."""
    root = copy.deepcopy(rng.choice(roots()))
    whole = root["model"]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        try:
            rng.choice(EDITS)(whole, rng)
        except (KeyError, IndexError, AttributeError, TypeError, ValueError, RuntimeError):
            continue  # The module has no such part any more.
    if rng.random() < 0.05:
        _edit_root(root, rng)
    try:
        return bytes(saved(root))
    except Exception:
        # Some values cannot be pickled, such as a module nested too deeply. Another change is made.
        return mutate_tree(_originals, rng)


def _edit_root(root: dict[str, Any], rng: Random) -> None:
    key = rng.choice(list(root))
    how = rng.randrange(3)
    if how == 0:
        root[key] = value(rng)
    elif how == 1:
        root["ema"], root["model"] = root["model"], value(rng)
    else:
        root["model"] = rng.choice(_modules(root["model"]))


# --- attributes ------------------------------------------------------------------------------------


def set_attribute(whole: nn.Module, rng: Random) -> None:
    """Another value for an attribute that the module has."""
    module = rng.choice(_modules(whole))
    own = [name for name in vars(module) if not name.startswith("_")]
    name = rng.choice(own)
    old = vars(module)[name]
    vars(module)[name] = near(old, rng) if rng.random() < 0.5 else value(rng)


def add_attribute(whole: nn.Module, rng: Random) -> None:
    vars(rng.choice(_modules(whole)))[rng.choice(NAMES)] = value(rng)


def delete_attribute(whole: nn.Module, rng: Random) -> None:
    module = rng.choice(_modules(whole))
    del vars(module)[rng.choice(list(vars(module)))]


def set_numbers(whole: nn.Module, rng: Random) -> None:
    """A number, or one of a pair, of a convolution, norm, pool or head: another one of the right kind."""
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.Upsample, nn.Linear, nn.MultiheadAttention, StandIn)
    module = rng.choice([one for one in _modules(whole) if isinstance(one, kinds)])
    numbers = [n for n, old in vars(module).items() if isinstance(old, int | float | tuple) and n[0] != "_"]
    name = rng.choice(numbers)
    vars(module)[name] = near(vars(module)[name], rng)


def near(old: object, rng: Random) -> object:
    """A value of the same kind as the old one."""
    if isinstance(old, bool):
        return not old
    if isinstance(old, int):
        return rng.choice((*NUMBERS, old + 1, old - 1, old * 2, -old))
    if isinstance(old, float):
        return rng.choice((*FLOATS, old * 2, int(old)))
    if isinstance(old, str):
        return rng.choice(TEXTS)
    if isinstance(old, tuple | list) and old:
        parts = [near(one, rng) for one in old]
        return rng.choice((type(old)(parts), type(old)((*old, parts[0])), type(old)(old[:-1]), parts[0]))
    return tensor(rng) if isinstance(old, torch.Tensor) else value(rng)


def value(rng: Random) -> object:
    """Anything that a file can hold."""
    makers: tuple[Callable[[], object], ...] = (
        lambda: copy.deepcopy(rng.choice(NASTY)),
        lambda: rng.choice(NUMBERS),
        lambda: rng.choice(FLOATS),
        lambda: rng.choice(TEXTS),
        lambda: tensor(rng),
        lambda: nn.Parameter(tensor(rng), requires_grad=False),
        lambda: rng.choice((nn.Identity(), nn.Dropout(0.1), nn.Conv2d(3, 8, 1), nn.Sequential(), nn.ReLU())),
        lambda: stand_in(
            "models.common", rng.choice(("Conv", "C3", "Focus", "Nothing")), conv=nn.Conv2d(8, 8, 1)
        ),
        lambda: [rng.choice((*NUMBERS, *TEXTS, *FLOATS)) for _ in range(rng.choice((0, 1, 2, 4, 17)))],
        lambda: tuple(rng.choice((*NUMBERS, *FLOATS)) for _ in range(rng.choice((0, 1, 2, 3, 16)))),
        lambda: {rng.choice(KEYS): rng.choice((*NUMBERS, *TEXTS)) for _ in range(3)},
        lambda: rng.choice((set(), {1, "x"}, b"x", bytearray(b"x"), 1j, len, print, dict, OrderedDict(a=1))),
        lambda: rng.choice((range(3), slice(1), frozenset((1,)), torch.float16, torch.device("cpu"))),
        lambda: own_list(),
        lambda: nested(rng.choice((3, 60, 200))),
    )
    return rng.choice(makers)()


def own_list() -> list:
    own: list = []
    own.append(own)
    return own


def nested(depth: int) -> object:
    found: Any = 1
    for _ in range(depth):
        found = (found,) if depth % 2 else [found, found]
    return found


def tensor(rng: Random) -> torch.Tensor:
    shape = [rng.choice((0, 1, 2, 3, 8, 16)) for _ in range(rng.randrange(5))]
    made = torch.full(shape, rng.choice((0.0, 1.0, 8.0, 8.5, -4.0, math.nan, math.inf, 1e9)))
    made = made.to(rng.choice(DTYPES))
    return rng.choice((made, made, made.expand(3, *shape), made.T if made.dim() == 2 else made))


# --- modules and weights ---------------------------------------------------------------------------


def move_child(whole: nn.Module, rng: Random) -> None:
    """Children removed, swapped, doubled, renamed or moved to another parent."""
    parents = [one for one in _modules(whole) if one._modules]
    parent, other = rng.choice(parents), rng.choice(parents)
    name, place = rng.choice(list(parent._modules)), rng.choice(list(other._modules))
    how = rng.randrange(7)
    if how == 0:
        del parent._modules[name]
    elif how == 1:
        parent._modules[name], other._modules[place] = other._modules[place], parent._modules[name]
    elif how == 2:
        other._modules[place] = copy.deepcopy(parent._modules[name])
    elif how == 3:
        other._modules[place] = parent._modules[name]
    elif how == 4:
        parent._modules[rng.choice(KEYS)] = parent._modules.pop(name)
    elif how == 5:
        parent._modules[str(len(parent._modules))] = copy.deepcopy(other._modules[place])
    else:
        parent._modules[name] = rng.choice((nn.Identity(), nn.ReLU(), nn.Sequential(), None, value(rng)))


def move_layer(whole: nn.Module, rng: Random) -> None:
    """Layers removed or put in, the others numbered anew; or two swapped."""
    layers = list(whole.model._modules.values())
    index, other, how = rng.randrange(len(layers)), rng.randrange(len(layers)), rng.randrange(4)
    if how == 0:
        del layers[index]
    elif how == 1:
        layers.insert(other, copy.deepcopy(layers[index]))
    elif how == 2:
        layers[index], layers[other] = layers[other], layers[index]
    else:
        layers = layers[: index + 1]
    whole.model._modules = OrderedDict((str(i), one) for i, one in enumerate(layers))


def set_sources(whole: nn.Module, rng: Random) -> None:
    layer = rng.choice(list(whole.model._modules.values()))
    some = [
        rng.choice((-1, -2, -3, -100, *range(12), 2**40, True, "x", 1.0))
        for _ in range(rng.choice((0, 1, 2, 3, 50)))
    ]
    layer.f = rng.choice((some, tuple(some), *some, value(rng)))


def set_class(whole: nn.Module, rng: Random) -> None:
    """A module under the name of another class."""
    modules = _modules(whole)
    one, other = rng.choice(modules), rng.choice(modules)
    one.__class__ = other.__class__


def set_weight(whole: nn.Module, rng: Random) -> None:
    """A weight of another shape, type or content; removed, added, or another one's."""
    held = [(one._parameters, n) for one in _modules(whole) for n in one._parameters]
    held += [(one._buffers, n) for one in _modules(whole) for n in one._buffers]
    (group, name), (others, place) = rng.choice(held), rng.choice(held)
    how = rng.randrange(7)
    if how == 0:
        group[name] = None
    elif how == 1:
        del group[name]
    elif how == 2:
        group[name] = others[place]
    elif how == 3:
        group[rng.choice(KEYS)] = tensor(rng)
    elif how == 4:
        group[name] = value(rng)
    elif how == 5:
        group[name] = group[name].to(rng.choice(DTYPES))
    else:
        group[name] = torch.full_like(group[name], rng.choice((math.nan, math.inf, 65504.0, -1.0)))


def mask(whole: nn.Module, rng: Random) -> None:
    """A weight as an original and a mask, as torch.nn.utils.prune stores them; the mask may not fit."""
    module = rng.choice([one for one in _modules(whole) if "weight" in one._parameters])
    weight = module._parameters.pop("weight")
    module._parameters["weight_orig"] = weight
    module._buffers["weight_mask"] = rng.choice((torch.ones_like(weight), tensor(rng)))


def set_group(whole: nn.Module, rng: Random) -> None:
    """What nn.Module keeps its parts in becomes something else."""
    names = ("_modules", "_parameters", "_buffers", "_forward_hooks", "_non_persistent_buffers_set")
    vars(rng.choice(_modules(whole)))[rng.choice(names)] = value(rng)


def set_head(whole: nn.Module, rng: Random) -> None:
    head = list(whole.model._modules.values())[-1]
    name = rng.choice(("stride", "nc", "na", "reg_max", "anchors", "nl", "no"))
    vars(head)[name] = rng.choice((value, lambda rng: near(getattr(head, name, 1), rng)))(rng)


def set_names(whole: nn.Module, rng: Random) -> None:
    names = (
        *(
            {},
            [],
            {0: "cat"},
            ["cat"],
            {1: "a", 2: "b"},
            {0: "a", 5: "b"},
            {True: "a", 0: "b"},
            {"0": "a", "1": "b"},
        ),
        *(
            {0: 1, 1: None},
            [1, 2.5],
            ["a" * 10**6, "\x1b[2J"],
            {0: "a", -1: "b"},
            {0: "a", 2**70: "b"},
            ("a", "b"),
        ),
        *({0.0: "a", 1.0: "b"}, ["\ud800", "b"], dict(enumerate("ab" * 5000)), [["a"], ["b"]], "ab", 2),
    )
    whole.names = rng.choice((*names, value(rng)))


def _modules(whole: nn.Module) -> list[nn.Module]:
    """All modules that can still be reached as modules."""
    found, left, seen = [], [whole], set()
    while left:
        one = left.pop()
        if isinstance(one, nn.Module) and id(one) not in seen:
            seen.add(id(one))
            found.append(one)
            children = vars(one).get("_modules")
            left += children.values() if isinstance(children, dict) else ()
    return found


EDITS: tuple[Edit, ...] = (
    *(set_attribute, set_attribute, add_attribute, delete_attribute, set_numbers, set_numbers, move_child),
    *(move_child, move_layer, set_sources, set_class, set_weight, set_weight, mask, set_group, set_head),
    *(set_names,),
)
