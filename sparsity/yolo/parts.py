"""Descriptions of the blocks that the architectures of several families consist of."""

from __future__ import annotations

from collections.abc import Sequence

from sparsity.yolo.spec import Layer, ModuleSpec, Value


def layer(module: ModuleSpec, *sources: int) -> Layer:
    """Return a layer. Without sources, its input is the output of the layer before."""
    return Layer(module, sources or (-1,))


def conv2d(c1: int, c2: int, k: int, s: int, p: int, bias: bool, groups: int = 1) -> ModuleSpec:
    """Return a bare convolution from c1 to c2 channels: kernel size k, stride s, padding p."""
    attributes: dict[str, Value] = {"in_channels": c1, "out_channels": c2, "kernel_size": (k, k)}
    attributes |= {"stride": (s, s), "padding": (p, p), "dilation": (1, 1), "groups": groups}
    return ModuleSpec("Conv2d", attributes | {"bias": bias})


def conv(
    c1: int,
    c2: int,
    k: int = 1,
    s: int = 1,
    p: int | None = None,
    *,
    groups: int = 1,
    act: str = "SiLU",
) -> ModuleSpec:
    """Return a Conv from c1 to c2 channels: kernel size k, stride s, padding p (k // 2 if None).

    act: the kind of the activation.
    """
    norm = ModuleSpec("BatchNorm2d", {"num_features": c2, "eps": 1e-3, "momentum": 0.03})
    inner = conv2d(c1, c2, k, s, k // 2 if p is None else p, bias=False, groups=groups)
    return ModuleSpec("Conv", children={"conv": inner, "bn": norm, "act": ModuleSpec(act)})


def depthwise(channels: int, k: int, *, act: str = "SiLU") -> ModuleSpec:
    """Return a Conv that filters each channel by itself: kernel size k, stride 1."""
    return conv(channels, channels, k, groups=channels, act=act)


def numbered(kind: str, modules: Sequence[ModuleSpec]) -> ModuleSpec:
    """Return a Sequential or a ModuleList."""
    return ModuleSpec(kind, children={str(i): module for i, module in enumerate(modules)})


def sppf(c1: int, c2: int, k: int, n: int = 3, *, add: bool = False, act: str = "SiLU") -> ModuleSpec:
    """Return an SPPF from c1 to c2 channels with a max pool of size k that runs n times.

    add: whether the input is added. act: the kind of the first activation.
    """
    pool = ModuleSpec("MaxPool2d", {"kernel_size": k, "stride": 1, "padding": k // 2})
    hidden = c1 // 2
    children = {"cv1": conv(c1, hidden, act=act), "cv2": conv((1 + n) * hidden, c2), "m": pool}
    return ModuleSpec("SPPF", {"n": n, "add": add}, children)


def upsample() -> ModuleSpec:
    """Return an Upsample that doubles height and width by repeating cells."""
    return ModuleSpec("Upsample", {"size": None, "scale_factor": 2.0, "mode": "nearest"})


def concat() -> ModuleSpec:
    """Return a Concat of channels."""
    return ModuleSpec("Concat", {"d": 1})


def rounded_to_eights(channels: float) -> int:
    """Return the channels, rounded up to a multiple of 8."""
    return -int(-channels // 8) * 8
