"""The interface of a detector's head, common to all families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparsity.yolo.cell_map import CellMap, Cells
from sparsity.yolo.spec import ModuleSpec

MOST_CLASSES = 100_000


@dataclass(frozen=True)
class Candidates:
    """Boxes above the confidence threshold, one for each box and class, of all images of a batch.

    image: int64 [n], the index of the image in the batch.
    boxes_xyxy: float32 [n, 4], in pixels of the network's input.
    scores: float32 [n].
    classes: int64 [n].
    """

    image: Tensor
    boxes_xyxy: Tensor
    scores: Tensor
    classes: Tensor

    def of_classes(self, numbers: Sequence[int]) -> Candidates:
        """Return the boxes of these classes."""
        kept = torch.isin(self.classes, torch.tensor(numbers, device=self.classes.device))
        return Candidates(self.image[kept], self.boxes_xyxy[kept], self.scores[kept], self.classes[kept])


class Head(nn.Module):
    """The last layer of a network: feature maps in, raw maps out, boxes by candidates().

    dialect: a key of families.DIALECTS.
    exact: buffers that stay float32, whatever the type of the weights.
    cells_dim: the dimension of decode's output along which the cells lie. The numbers of a cell lie along the
    other one.
    kinds: of a head with several branches, of which one runs: the name of each branch -> the kind of head
    that runs it. branch: the one that runs, "" where there are no branches.
    nc: number of classes. strides: pixels per cell of each raw map.
    """

    dialect: ClassVar[str]
    exact: ClassVar[tuple[str, ...]] = ()
    cells_dim: ClassVar[int]
    kinds: ClassVar[Mapping[str, str]] = {}
    branch: ClassVar[str] = ""
    nc: int
    strides: tuple[int, ...]

    @classmethod
    def misfit(cls, spec: ModuleSpec) -> str:
        """Return what is wrong with a head of these modules, "" if nothing is.

        The text follows the head's name in an error.
        """
        raise NotImplementedError

    @classmethod
    def cell_numbers(cls, nc: int) -> int:
        """Return how many numbers decode gives for each cell."""
        raise NotImplementedError

    @classmethod
    def decoded_candidates(cls, decoded: Tensor, conf_thres: float) -> Candidates:
        """Output of decode -> the boxes that candidates gives for the same raw maps."""
        raise NotImplementedError

    @classmethod
    def held(cls, children: Sequence[str]) -> tuple[str, ...]:
        """Return the branches that a head with these children holds."""
        return ()

    @classmethod
    def children_of(cls, branch: str) -> tuple[str, ...]:
        """Return the names of the children that a branch consists of."""
        return ()

    def every(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps -> the raw maps of every branch that the head holds, one branch after the other."""
        return self(maps)

    def decode(self, raw: Sequence[Tensor]) -> Tensor:
        """Raw maps -> the box of every cell, in pixels, and its confidences, float32."""
        raise NotImplementedError

    def candidates(self, raw: Sequence[Tensor | CellMap], conf_thres: float) -> Candidates:
        """Raw maps -> the boxes whose confidence is above conf_thres.

        Only cells whose confidence is above conf_thres are decoded, always in float32.
        """
        found = []
        for index, one in enumerate(raw):
            cells = one if isinstance(one, CellMap) else CellMap.of(one)
            passing = cells.select(self.confidence(cells.values).float().sigmoid() > conf_thres)
            found.append(self.decode_cells(passing, index, conf_thres))
        return Candidates(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def confidence(self, raw: Tensor) -> Tensor:
        """A raw map [batch, channels, ...] -> the logit of each cell's largest confidence [batch, ...].

        No score of a cell is above its confidence.
        """
        raise NotImplementedError

    def decode_cells(self, cells: Cells, index: int, conf_thres: float) -> tuple[Tensor, ...]:
        """Cells of raw map number index -> the fields of Candidates, for scores above conf_thres."""
        raise NotImplementedError

    def importance(self, raw: Sequence[Tensor]) -> list[Tensor]:
        """Raw maps, of one branch or of every one -> the weights of their squared errors, same shapes."""
        raise NotImplementedError


def is_count(number: object) -> bool:
    """Whether number is valid as a number of classes, anchors or bins."""
    return isinstance(number, int) and 0 < number < MOST_CLASSES


def corners_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """Boxes [n, 4], centre and size -> corners."""
    x, y, w, h = boxes_cxcywh.unbind(1)
    return torch.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), 1)


def cells_xy(height: int, width: int, device: torch.device) -> Tensor:
    """Return the column and row of each cell, [height, width, 2]."""
    rows, columns = (torch.arange(n, device=device) for n in (height, width))
    return torch.stack((columns.expand(height, width), rows[:, None].expand(height, width)), 2)


def orders_by_score(image: Tensor, scores: Tensor, images: int) -> Sequence[Tensor]:
    """Return the indices of each image's boxes, best score first.

    image: int64 [n], the image of each box. images: the number of images.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    if images == 1:
        return [order]
    order = order[torch.argsort(image[order], stable=True)]
    return torch.split(order, torch.bincount(image, minlength=images).tolist())
