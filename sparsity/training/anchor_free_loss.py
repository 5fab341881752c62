"""The detection loss of anchor-free heads: boxes, distributions of sides and classes against targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from sparsity.training.alignment import Alignment, align
from sparsity.training.ciou import complete_iou_cxcywh
from sparsity.yolo.head import cells_xy
from sparsity.yolo.yolov8.detect import SIDES, AnchorFreeDetect, boxes_cxcywh

BOX_GAIN, CLASSES_GAIN, DISTRIBUTION_GAIN = 7.5, 0.5, 1.5
LAST_BIN_MARGIN = 0.01
"""Target distances end this far below the last bin, so that there is always a bin above them."""


@dataclass(frozen=True)
class AnchorFreeParts:
    """The parts of a loss, float32 scalars, including gains and batch size."""

    box: Tensor
    dfl: Tensor
    classes: Tensor

    @property
    def total(self) -> Tensor:
        """The sum of the parts, which is minimised."""
        return self.box + self.dfl + self.classes


@dataclass(frozen=True)
class _Found:
    """The predictions of the raw maps for each cell, in float32.

    sides: logits [batch, cells, 4, bins]. classes: logits [batch, cells, nc]. boxes_cxcywh: [batch, cells, 4]
    in pixels. places_xy: [cells, 2], columns and rows. strides: [cells, 1].
    """

    sides: Tensor
    classes: Tensor
    boxes_cxcywh: Tensor
    places_xy: Tensor
    strides: Tensor

    @property
    def centres_xy(self) -> Tensor:
        """The cells' centres in pixels."""
        return (self.places_xy + 0.5) * self.strides


class AnchorFreeLoss:
    """Loss of raw maps against targets, summed over the images of the batch.

    head: the head that gives the raw maps.

    Boxes count by complete IoU, and sides by the distribution focal loss (arXiv:2006.04388). Both are
    weighted by the score that the cell should give. Classes count by binary cross-entropy. All parts are
    divided by the sum of the scores that the cells should give.
    """

    def __init__(self, head: AnchorFreeDetect) -> None:
        self.head = head

    def __call__(self, raw: Sequence[Tensor], targets: Tensor) -> AnchorFreeParts:
        """Raw maps and targets -> loss, in float32 whatever the type of the maps and autocast.

        raw: a map per stride, [batch, 4 * reg_max + nc, height, width].
        targets: float [n, 6]: index of the image, class, cx, cy, w, h, normalised to 0..1. n can be 0.
        """
        found, targets = self._found(raw), targets.float()
        image, classes = targets[:, :2].long().unbind(1)
        size_wh = targets.new_tensor(raw[0].shape[:1:-1]) * self.head.strides[0]
        wanted = targets[:, 2:] * size_wh.repeat(2)
        scores = found.classes.sigmoid()
        aligned = align(found.boxes_cxcywh, scores, found.centres_xy, image, classes, wanted)
        norm, batch = aligned.scores.sum().clamp(min=1), len(raw[0])
        ciou = complete_iou_cxcywh(found.boxes_cxcywh[aligned.image, aligned.cell], wanted[aligned.target])
        distribution = self._distribution(found, aligned, wanted)
        return AnchorFreeParts(
            box=((1 - ciou) * aligned.scores).sum() / norm * BOX_GAIN * batch,
            dfl=(distribution * aligned.scores).sum() / norm * DISTRIBUTION_GAIN * batch,
            classes=_classes(found.classes, aligned, classes) / norm * CLASSES_GAIN * batch,
        )

    def _found(self, raw: Sequence[Tensor]) -> _Found:
        head = self.head
        values = torch.cat([x.float().flatten(2) for x in raw], 2).transpose(1, 2)
        places = [cells_xy(x.shape[2], x.shape[3], x.device).flatten(0, 1) for x in raw]
        strides = [
            torch.full((len(p), 1), s, device=p.device) for p, s in zip(places, head.strides, strict=True)
        ]
        places_xy, strides = torch.cat(places).float(), torch.cat(strides).float()
        sides = values[..., : head.box_numbers].unflatten(2, (SIDES, head.reg_max))
        boxes = boxes_cxcywh(head.dfl(sides, 3), places_xy.expand(len(values), -1, -1), 2) * strides
        return _Found(sides, values[..., head.box_numbers :], boxes, places_xy, strides)

    def _distribution(self, found: _Found, aligned: Alignment, wanted_cxcywh: Tensor) -> Tensor:
        """Return the distribution focal loss of each aligned cell, the mean over its sides, [m]."""
        centre, half = wanted_cxcywh[aligned.target, :2], wanted_cxcywh[aligned.target, 2:] / 2
        own = found.centres_xy[aligned.cell]
        distances = torch.cat((own - (centre - half), centre + half - own), 1) / found.strides[aligned.cell]
        return distribution_focal_loss(found.sides[aligned.image, aligned.cell], distances).mean(1)


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
