"""The detection loss of anchor-free heads: boxes, their sides and classes against targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from sparsity.training.alignment import Alignment, Assigner, align
from sparsity.training.ciou import complete_iou_cxcywh
from sparsity.yolo.head import cells_xy
from sparsity.yolo.yolov8.detect import DFL, SIDES, boxes_cxcywh

BOX_GAIN, CLASSES_GAIN, DISTRIBUTION_GAIN = 7.5, 0.5, 1.5
LAST_BIN_MARGIN = 0.01
"""Target distances end this far below the last bin, so that there is always a bin above them."""


@dataclass(frozen=True)
class AnchorFreeParts:
    """The parts of a loss, float32 scalars, including gains and batch size.

    dfl: of the sides of boxes, whether they are distributions or plain distances.
    """

    box: Tensor
    dfl: Tensor
    classes: Tensor

    @property
    def total(self) -> Tensor:
        """The sum of the parts, which is minimised."""
        return self.box + self.dfl + self.classes


@dataclass(frozen=True)
class Places:
    """The cells of the raw maps of an image.

    places_xy: [cells, 2], columns and rows. strides: [cells, 1]. size_wh: [2], of the image in pixels.
    """

    places_xy: Tensor
    strides: Tensor
    size_wh: Tensor

    @property
    def centres_xy(self) -> Tensor:
        """The cells' centres in pixels."""
        return (self.places_xy + 0.5) * self.strides


class Sides(Protocol):
    """How raw maps encode the distances of a box's sides from the centre of its cell.

    numbers: channels for each side.
    """

    numbers: int

    def decode(self, raw: Tensor) -> Tensor:
        """Raw numbers [..., 4, numbers] -> distances in strides [..., 4]."""

    def loss(self, raw: Tensor, wanted: Tensor, strides: Tensor, size_wh: Tensor) -> Tensor:
        """Return the loss of the sides of each box, without a gain: [m].

        raw: [m, 4, numbers]. wanted: distances in strides [m, 4]. strides: pixels [m, 1]. size_wh: [2], of
        the image in pixels.
        """


class DistributedSides:
    """Each distance is the mean of a distribution over bins, one stride each. dfl: gives the means."""

    def __init__(self, dfl: DFL, bins: int) -> None:
        self.dfl, self.numbers = dfl, bins

    def decode(self, raw: Tensor) -> Tensor:
        """Return the means of the distributions."""
        return self.dfl(raw, -1)

    def loss(self, raw: Tensor, wanted: Tensor, strides: Tensor, size_wh: Tensor) -> Tensor:
        """Return the distribution focal loss (arXiv:2006.04388), the mean over the sides."""
        return distribution_focal_loss(raw, wanted).mean(1)


class PlainSides:
    """Each distance is a number of the raw map, in strides."""

    numbers = 1

    def decode(self, raw: Tensor) -> Tensor:
        """Return the numbers as they are. They can be negative."""
        return raw.squeeze(-1)

    def loss(self, raw: Tensor, wanted: Tensor, strides: Tensor, size_wh: Tensor) -> Tensor:
        """Return the differences of the distances as shares of the image's sides, the mean over the sides."""
        return ((self.decode(raw) - wanted).abs() * strides / size_wh.repeat(2)).mean(1)


@dataclass(frozen=True)
class _Found:
    """The predictions of the raw maps for each cell, in float32.

    sides: raw numbers [batch, cells, 4, numbers]. classes: logits [batch, cells, nc].
    boxes_cxcywh: [batch, cells, 4] in pixels.
    """

    sides: Tensor
    classes: Tensor
    boxes_cxcywh: Tensor


class AnchorFreeLoss:
    """Loss of raw maps against targets, summed over the images of the batch.

    strides: pixels per cell of each raw map. sides: how the raw maps encode boxes. assigner: how many cells
    learn a target; None for the default.

    Boxes count by complete IoU, and their sides by a loss of their own. Both are weighted by the score that
    the cell should give. Classes count by binary cross-entropy. All parts are divided by the sum of the
    scores that the cells should give.
    """

    def __init__(self, strides: Sequence[int], sides: Sides, assigner: Assigner | None = None) -> None:
        self.strides, self.sides, self.assigner = tuple(strides), sides, assigner or Assigner()

    def __call__(self, raw: Sequence[Tensor], targets: Tensor) -> AnchorFreeParts:
        """Raw maps and targets -> loss, in float32 whatever the type of the maps and autocast.

        raw: a map per stride, [batch, 4 * numbers of a side + nc, height, width].
        targets: float [n, 6]: index of the image, class, cx, cy, w, h, normalised to 0..1. n can be 0.
        """
        targets, places = targets.float(), self._places(raw)
        found = self._found(raw, places)
        image, classes = targets[:, :2].long().unbind(1)
        wanted = targets[:, 2:] * places.size_wh.repeat(2)
        scores = found.classes.sigmoid()
        boxes = found.boxes_cxcywh
        aligned = align(boxes, scores, places.centres_xy, image, classes, wanted, self.assigner)
        norm, batch = aligned.scores.sum().clamp(min=1), len(raw[0])
        ciou = complete_iou_cxcywh(boxes[aligned.image, aligned.cell], wanted[aligned.target])
        sides = self._sides(found, aligned, wanted, places)
        return AnchorFreeParts(
            box=((1 - ciou) * aligned.scores).sum() / norm * BOX_GAIN * batch,
            dfl=(sides * aligned.scores).sum() / norm * DISTRIBUTION_GAIN * batch,
            classes=_classes(found.classes, aligned, classes) / norm * CLASSES_GAIN * batch,
        )

    def _places(self, raw: Sequence[Tensor]) -> Places:
        cells = [cells_xy(x.shape[2], x.shape[3], x.device).flatten(0, 1) for x in raw]
        strides = [
            torch.full((len(p), 1), s, device=p.device) for p, s in zip(cells, self.strides, strict=True)
        ]
        size_wh = torch.tensor(raw[0].shape[:1:-1], dtype=torch.float32, device=raw[0].device)
        return Places(torch.cat(cells).float(), torch.cat(strides).float(), size_wh * self.strides[0])

    def _found(self, raw: Sequence[Tensor], places: Places) -> _Found:
        values = torch.cat([x.float().flatten(2) for x in raw], 2).transpose(1, 2)
        box_numbers = SIDES * self.sides.numbers
        sides = values[..., :box_numbers].unflatten(2, (SIDES, self.sides.numbers))
        cells = places.places_xy.expand(len(values), -1, -1)
        boxes = boxes_cxcywh(self.sides.decode(sides), cells, 2) * places.strides
        return _Found(sides, values[..., box_numbers:], boxes)

    def _sides(self, found: _Found, aligned: Alignment, wanted_cxcywh: Tensor, places: Places) -> Tensor:
        """Return the loss of the sides of each aligned cell, [m]."""
        centre, half = wanted_cxcywh[aligned.target, :2], wanted_cxcywh[aligned.target, 2:] / 2
        own, strides = places.centres_xy[aligned.cell], places.strides[aligned.cell]
        distances = torch.cat((own - (centre - half), centre + half - own), 1) / strides
        return self.sides.loss(found.sides[aligned.image, aligned.cell], distances, strides, places.size_wh)


def distribution_focal_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Logits over bins [..., bins] and target numbers [...] -> cross-entropy with the two nearest bins [...].

    The nearer bin has the larger weight. Numbers outside the bins are clamped to the nearest number inside.
    Source: arXiv:2006.04388, equation 6.
    """
    bins = logits.shape[-1]
    wanted = wanted.clamp(0, bins - 1 - LAST_BIN_MARGIN)
    below = wanted.long()
    above_share = wanted - below
    flat = logits.reshape(-1, bins)
    left, right = (
        cross_entropy(flat, index.reshape(-1), reduction="none").view_as(wanted)
        for index in (below, below + 1)
    )
    return left * (1 - above_share) + right * above_share


def _classes(logits: Tensor, aligned: Alignment, classes: Tensor) -> Tensor:
    """Return the binary cross-entropy, summed over all cells and classes."""
    wanted = torch.zeros_like(logits)
    wanted[aligned.image, aligned.cell, classes[aligned.target]] = aligned.scores.to(wanted.dtype)
    return binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
