"""The kinds of module that torch provides."""

from __future__ import annotations

from torch import nn

from sparsity.yolo.kind import Kind


def _sequential(**children: nn.Module) -> nn.Sequential:
    return nn.Sequential(*children.values())


def _module_list(**children: nn.Module) -> nn.ModuleList:
    return nn.ModuleList(children.values())


def _attention(embed_dim: int, num_heads: int) -> nn.MultiheadAttention:
    if num_heads < 1 or embed_dim % num_heads:
        raise ValueError(f"num_heads is {num_heads}, which does not divide embed_dim {embed_dim}")
    return nn.MultiheadAttention(embed_dim, num_heads)


_CONV2D = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
_BIAS = {"bias": "bias"}
KINDS: dict[str, Kind] = {
    "Sequential": Kind(_sequential),
    "ModuleList": Kind(_module_list),
    "Identity": Kind(nn.Identity),
    "SiLU": Kind(nn.SiLU, notes=("inplace",)),
    "Hardswish": Kind(nn.Hardswish, notes=("inplace",)),
    "ReLU": Kind(nn.ReLU, notes=("inplace",)),
    "LeakyReLU": Kind(nn.LeakyReLU, ("negative_slope",), notes=("inplace",)),
    "Conv2d": Kind(
        nn.Conv2d,
        _CONV2D,
        present=_BIAS,
        fixed={"transposed": (False,), "padding_mode": ("zeros",)},
        notes=("output_padding",),
    ),
    "BatchNorm2d": Kind(
        nn.BatchNorm2d,
        ("num_features", "eps", "momentum"),
        fixed={"affine": (True,), "track_running_stats": (True,)},
        notes=("process_group",),
    ),
    "MaxPool2d": Kind(
        nn.MaxPool2d,
        ("kernel_size", "stride", "padding"),
        fixed={"dilation": (1, (1, 1)), "ceil_mode": (False,), "return_indices": (False,)},
    ),
    "Upsample": Kind(
        nn.Upsample,
        ("size", "scale_factor", "mode"),
        # Recomputing changes nothing, because scale_factor is a whole number (see attributes.misfit).
        fixed={"align_corners": (None, False), "recompute_scale_factor": (None, False, True)},
        notes=("name",),
    ),
    "Linear": Kind(nn.Linear, ("in_features", "out_features"), present=_BIAS),
    "MultiheadAttention": Kind(
        _attention,
        ("embed_dim", "num_heads"),
        whole=True,
        fixed={"batch_first": (False,), "add_zero_attn": (False,), "bias_k": (None,), "bias_v": (None,)},
        notes=("kdim", "vdim", "dropout", "head_dim"),
    ),
}
"""Name of a kind -> how its modules are made."""
