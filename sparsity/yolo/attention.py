"""Self-attention over the cells of a map, as YOLO11, YOLO12 and YOLO26 have it."""

from __future__ import annotations

from torch import Tensor, nn

from sparsity.yolo.blocks import Conv


class SelfAttention(nn.Module):
    """Multi-head attention between the cells of a map, by 1x1 convolutions (arXiv:1706.03762).

    qkv gives the channels of all heads, one head after the other: key_dim of queries, key_dim of keys and
    head_dim of values. pe is a depthwise convolution of the values, which encodes places. proj is applied to
    the sum of both. scale is multiplied with the products of queries and keys.
    area: the cells, row by row, are cut into this many runs of equal length. Cells attend to cells of the
    same run only (arXiv:2502.12524, 3.2). The number of cells must be a multiple of it.
    Raises ValueError if the convolutions do not fit the heads.
    """

    def __init__(
        self,
        qkv: nn.Module,
        proj: nn.Module,
        pe: nn.Module,
        num_heads: int,
        head_dim: int,
        key_dim: int,
        scale: float,
        area: int = 1,
    ) -> None:
        super().__init__()
        _check_channels(qkv, "out_channels", num_heads * (2 * key_dim + head_dim), "qkv gives")
        _check_channels(proj, "in_channels", num_heads * head_dim, "proj takes")
        _check_channels(pe, "in_channels", num_heads * head_dim, "pe takes")
        self.qkv, self.proj, self.pe = qkv, proj, pe
        self.head_dim, self.key_dim = head_dim, key_dim
        self.scale, self.area = scale, area

    @property
    def num_heads(self) -> int:
        """The number of heads: qkv has the channels of so many."""
        return self.qkv.conv.out_channels // (2 * self.key_dim + self.head_dim)

    def forward(self, x: Tensor) -> Tensor:
        sums, v = attend(self.qkv(x), self.num_heads, self.key_dim, self.head_dim, self.scale, self.area)
        return self.proj(sums + self.pe(v))

    def products(self, cells: int) -> int:
        """Return the number of products of a query and a key, for a map of this many cells."""
        return self.num_heads * cells * cells // self.area

    def multiply_adds(self, x: Tensor) -> int:
        """Return the multiply-adds of the products for one image, of which x is the map. No weight is used.

        Those are of queries and keys, and of their weights and values.
        """
        return self.products(x.shape[2] * x.shape[3]) * (self.key_dim + self.head_dim)


def attend(
    qkv: Tensor, num_heads: int, key_dim: int, head_dim: int, scale: float, area: int
) -> tuple[Tensor, Tensor]:
    """A map of queries, keys and values -> the maps of their weighted sums, and of the values.

    qkv: [batch, num_heads x (2 key_dim + head_dim), height, width]. The results have num_heads x head_dim
    channels. SelfAttention says what the arguments mean. What traces a network can take this for one
    operation.
    """
    batch, numbers = qkv.shape[0], 2 * key_dim + head_dim
    if area == 1:
        cells = qkv.reshape(batch, num_heads, numbers, -1)
    else:
        cells = qkv.reshape(batch, num_heads, numbers, area, -1).transpose(2, 3)
    q, k, v = cells.split([key_dim, key_dim, head_dim], -2)
    weights = ((q * scale).transpose(-2, -1) @ k).softmax(-1)
    sums = v @ weights.transpose(-2, -1)
    return _as_map(sums, qkv, area), _as_map(v, qkv, area)


def _as_map(values: Tensor, x: Tensor, area: int) -> Tensor:
    """Values of all heads, [batch, heads, head_dim, cells] or by area -> a map of the size of x."""
    if area > 1:
        values = values.transpose(2, 3)
    return values.reshape(x.shape[0], -1, x.shape[2], x.shape[3])


def area_attention(
    qkv: nn.Module, proj: nn.Module, pe: nn.Module, area: int, num_heads: int, head_dim: int
) -> SelfAttention:
    """Return attention within areas. Queries, keys and values have the same number of channels."""
    return SelfAttention(qkv, proj, pe, num_heads, head_dim, head_dim, head_dim**-0.5, area)


def _check_channels(module: nn.Module, name: str, expected: int, what: str) -> None:
    """Raise ValueError unless module is a Conv with this number of channels."""
    found = getattr(module.conv, name) if isinstance(module, Conv) else None
    if found != expected:
        raise ValueError(f"{what} {found} channels, but its heads need {expected}")
