"""The Detect heads of YOLO26: raw maps of one of two branches, and the boxes that they encode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from sparsity.yolo.cell_map import CellMap, Cells
from sparsity.yolo.head import Candidates, Head, cells_xy, is_count, orders_by_score
from sparsity.yolo.importance import anchor_free_importance
from sparsity.yolo.spec import ModuleSpec
from sparsity.yolo.yolo26.branches import BRANCHES, KIND_OF, ONE2MANY, ONE2ONE
from sparsity.yolo.yolov8.detect import SIDES, AnchorFreeDetect, boxes_above, boxes_cxcywh, last_widths

MOST_DETECTIONS = 300
"""The most detections of an image that the one-to-one branch gives."""
DETECTION_NUMBERS = 6
"""Box, score and class of a detection."""


class TwoBranchDetect(Head):
    """Anchor-free head with one or both of two branches, of which one runs.

    A branch gives 4 box numbers and nc class numbers for each cell of each map. The box numbers are the
    distances of the left, top, right and bottom side from the cell's centre, in strides. They can be
    negative. A raw map has both, boxes first.
    """

    kinds = KIND_OF

    def __init__(
        self,
        nc: int,
        reg_max: int,
        strides: Sequence[int],
        dfl: nn.Module | None = None,
        **branches: nn.ModuleList,
    ) -> None:
        super().__init__()
        self.nc, self.reg_max, self.strides = nc, reg_max, tuple(strides)
        for name, branch in branches.items():
            setattr(self, name, branch)
        self.dfl = dfl

    @property
    def box_numbers(self) -> int:
        """The number of channels of a raw map that encode boxes. They come first."""
        return SIDES

    @classmethod
    def held(cls, children: Sequence[str]) -> tuple[str, ...]:
        return tuple(branch for branch, names in BRANCHES.items() if set(names) <= set(children))

    @classmethod
    def children_of(cls, branch: str) -> tuple[str, ...]:
        return BRANCHES[branch]

    @classmethod
    def misfit(cls, spec: ModuleSpec) -> str:
        nc, reg_max, strides = (spec.attributes[name] for name in ("nc", "reg_max", "strides"))
        if not is_count(nc) or reg_max != 1:
            return f"has nc {nc!r} and reg_max {reg_max!r}; a whole number and 1 are expected"
        held = cls.held(list(spec.children))
        expected = {name for branch in held for name in BRANCHES[branch]}
        if cls.branch not in held or set(spec.children) - {"dfl"} != expected:
            both = " and ".join(BRANCHES[cls.branch])
            return f"has {', '.join(sorted(spec.children))}; {both}, or both branches, are expected"
        if "dfl" in spec.children and spec.children["dfl"].kind != "Identity":
            return f"has a dfl that is {spec.children['dfl'].kind}; Identity is expected"
        for branch in held:
            widths = [last_widths(spec.children[name]) for name in BRANCHES[branch]]
            if not isinstance(strides, tuple) or widths != [[n] * len(strides) for n in (SIDES, nc)]:
                return (
                    f"has raw maps of {widths[0]} and {widths[1]} channels in its branch {branch}, strides "
                    f"{strides}; {SIDES} for boxes and {nc} for classes are expected in each"
                )
        return ""

    @property
    def branches(self) -> tuple[str, ...]:
        """The branches that the head holds."""
        return self.held([name for name, _ in self.named_children()])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps, one per stride -> raw maps [batch, 4 + nc, height, width] of the branch that runs.

        In training mode: of every branch that the head holds. If it holds both, the one-to-many branch trains
        the layers before the head: the one-to-one branch gets feature maps without a gradient.
        """
        if not self.training:
            return self.raw(maps, self.branch)
        if len(self.branches) == 1:
            return self.every(maps)
        return [*self.raw(maps, ONE2MANY), *self.raw([x.detach() for x in maps], ONE2ONE)]

    def by_branch(self, raw: Sequence[Tensor]) -> dict[str, Sequence[Tensor]]:
        """Raw maps of every branch that the head holds -> those of each branch, by its name."""
        count = len(self.strides)
        return {branch: raw[i * count : (i + 1) * count] for i, branch in enumerate(self.branches)}

    def every(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [raw for branch in self.branches for raw in self.raw(maps, branch)]

    def raw(self, maps: Sequence[Tensor], branch: str) -> list[Tensor]:
        """Feature maps, one per stride -> the raw maps of a branch that the head holds."""
        boxes, classes = (getattr(self, name) for name in BRANCHES[branch])
        steps = zip(boxes, classes, maps, strict=True)
        return [torch.cat((box(x), score(x)), 1) for box, score, x in steps]

    def confidence(self, raw: Tensor) -> Tensor:
        """Return the score of each cell's best class."""
        return raw[:, SIDES:].amax(1)

    def decode_cells(self, cells: Cells, index: int, conf_thres: float) -> tuple[Tensor, ...]:
        sides, scores = cells.values[:, :SIDES], cells.values[:, SIDES:].sigmoid()
        return boxes_above(conf_thres, cells, sides, scores, self.strides[index])

    def importance(self, raw: Sequence[Tensor]) -> list[Tensor]:
        groups = (raw[i : i + len(self.strides)] for i in range(0, len(raw), len(self.strides)))
        return [weights for group in groups for weights in anchor_free_importance(group, SIDES)]

    def _all_boxes(self, raw: Sequence[Tensor]) -> Tensor:
        """Raw maps -> float32 [batch, 4 + nc, cells]: cx, cy, w, h in pixels, classes.

        Cells are ordered by map, row, column.
        """
        decoded = []
        for x, stride in zip(raw, self.strides, strict=True):
            x = x.float()
            places = cells_xy(x.shape[2], x.shape[3], x.device).permute(2, 0, 1)
            boxes = boxes_cxcywh(x[:, :SIDES], places, 1) * stride
            decoded.append(torch.cat((boxes, x[:, SIDES:].sigmoid()), 1).flatten(2))
        return torch.cat(decoded, 2)


class OneToManyDetect(TwoBranchDetect):
    """Runs the branch that finds each object in several cells. NMS keeps one of them."""

    dialect = "yolo26"
    branch = ONE2MANY
    cells_dim = 2

    @classmethod
    def cell_numbers(cls, nc: int) -> int:
        return SIDES + nc

    @classmethod
    def decoded_candidates(cls, decoded: Tensor, conf_thres: float) -> Candidates:
        return AnchorFreeDetect.decoded_candidates(decoded, conf_thres)

    def decode(self, raw: Sequence[Tensor]) -> Tensor:
        """Raw maps -> float32 [batch, 4 + nc, cells]: cx, cy, w, h in pixels, classes.

        Cells are ordered by map, row, column.
        """
        return self._all_boxes(raw)


class OneToOneDetect(TwoBranchDetect):
    """Runs the branch that finds each object in one cell. Its best boxes are the detections, without NMS."""

    dialect = "yolo26_one2one"
    branch = ONE2ONE
    cells_dim: ClassVar[int] = 1

    @classmethod
    def cell_numbers(cls, nc: int) -> int:
        return DETECTION_NUMBERS

    @classmethod
    def decoded_candidates(cls, decoded: Tensor, conf_thres: float) -> Candidates:
        image, row = (decoded[..., SIDES] > conf_thres).nonzero().unbind(1)
        rows = decoded[image, row]
        return Candidates(image, rows[:, :SIDES], rows[:, SIDES], rows[:, SIDES + 1].long())

    def decode(self, raw: Sequence[Tensor]) -> Tensor:
        """Raw maps -> float32 [batch, 300, 6]: x1, y1, x2, y2 in pixels, score, class. The best come first.

        The 300 cells of the best scores are chosen, and of these the 300 best pairs of cell and class. Rows
        without a cell have score 0: some of those of an image with fewer than 300 cells.
        """
        # The added cells of score 0 make the number of rows the same for any image, as ONNX graphs need it.
        decoded = pad(self._all_boxes(raw).transpose(1, 2), (0, 0, 0, MOST_DETECTIONS))
        cells = decoded[..., SIDES:].amax(2).topk(MOST_DETECTIONS, 1).indices
        best = decoded.gather(1, cells[..., None].expand(-1, -1, SIDES + self.nc))
        scores, pairs = best[..., SIDES:].flatten(1).topk(MOST_DETECTIONS, 1)
        rows = torch.div(pairs, self.nc, rounding_mode="floor")
        # All numbers of a row are gathered, because OpenVINO gathers from values of the same shape only.
        best = best.gather(1, rows[..., None].expand(-1, -1, SIDES + self.nc))
        labels = (pairs - rows * self.nc).to(scores.dtype)
        return torch.cat((_corners(best[..., :SIDES]), scores[..., None], labels[..., None]), 2)

    def candidates(self, raw: Sequence[Tensor | CellMap], conf_thres: float) -> Candidates:
        """Raw maps -> the detections whose score is above conf_thres.

        The best 300 pairs of cell and class lie in the best 300 cells, so that cells need not be ranked.
        """
        found = super().candidates(raw, conf_thres)
        images = int(found.image.max()) + 1 if len(found.image) else 0
        kept = [order[:MOST_DETECTIONS] for order in orders_by_score(found.image, found.scores, images)]
        best = torch.cat(kept) if kept else found.image
        return Candidates(found.image[best], found.boxes_xyxy[best], found.scores[best], found.classes[best])


def _corners(boxes_cxcywh: Tensor) -> Tensor:
    """Boxes [batch, n, 4], centre and size -> corners, xyxy."""
    centre, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return torch.cat((centre - half, centre + half), 2)
