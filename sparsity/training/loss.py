"""The detection loss: boxes, objectness and classes of the raw maps against the targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from sparsity.base.errors import InputError
from sparsity.training.ciou import complete_iou_cxcywh
from sparsity.training.matching import Matches, match_targets

BALANCE = {3: (4.0, 1.0, 0.4)}
"""Number of raw maps -> the weight of each one's objectness, the finest map first."""
BALANCE_OF_OTHERS = (4.0, 1.0, 0.25, 0.06, 0.02)
"""The same for any other number of raw maps: the first ones of these."""
BOX_GAIN, CLASSES_GAIN, OBJECTNESS_GAIN = 0.05, 0.5, 1.0
"""For 3 raw maps, 80 classes and images of 640 pixels."""


@dataclass(frozen=True)
class LossParts:
    """The parts of a loss, float32 scalars, including gains and batch size."""

    box: Tensor
    objectness: Tensor
    classes: Tensor

    @property
    def total(self) -> Tensor:
        """The sum of the parts, which is minimised."""
        return self.box + self.objectness + self.classes


class DetectionLoss:
    """Loss of raw maps against targets, summed over the images of the batch.

    anchors: [maps, na, 2], width and height in units of the map's stride, on the device of the maps.
    nc: number of classes. imgsz: side of the network's input in pixels.
    maps: number of raw maps (default: the number that the anchors are for).
    Raises InputError unless this number is 1 to 5, and the anchors are for it.
    """

    def __init__(self, anchors: Tensor, nc: int, imgsz: int, maps: int | None = None) -> None:
        maps = len(anchors) if maps is None else maps
        if len(anchors) != maps:
            raise InputError(f"`anchors` are for {len(anchors)} raw maps; anchors for {maps} are expected")
        assert (anchors > 0).all(), "anchors not yet set"
        self.anchors, self.nc = anchors.detach().float(), nc
        self.balance = balance_of(maps)
        self.box_gain = BOX_GAIN * 3 / maps
        self.classes_gain = CLASSES_GAIN * nc / 80 * 3 / maps
        self.objectness_gain = OBJECTNESS_GAIN * (imgsz / 640) ** 2 * 3 / maps

    def __call__(self, raw: Sequence[Tensor], targets: Tensor) -> LossParts:
        """Raw maps and targets -> loss, in float32 whatever the type of the maps and autocast.

        raw: a map per stride, [batch, na * (5 + nc), height, width].
        targets: float [n, 6]: index of the image, class, cx, cy, w, h, normalised to 0..1. n can be 0.
        """
        shapes = [(x.shape[2], x.shape[3]) for x in raw]
        matches = match_targets(targets.float(), self.anchors, shapes)
        terms = [self._map_terms(*one) for one in zip(raw, matches, self.balance, strict=True)]
        box, objectness, classes = (torch.stack(part).sum() for part in zip(*terms, strict=True))
        batch = len(raw[0])
        return LossParts(
            box=box * self.box_gain * batch,
            objectness=objectness * self.objectness_gain * batch,
            classes=classes * self.classes_gain * batch,
        )

    def _map_terms(self, raw: Tensor, matches: Matches, balance: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return the box, balanced objectness and classes terms of one raw map, without gains."""
        cells = raw.float().unflatten(1, (self.anchors.shape[1], 5 + self.nc)).permute(0, 1, 3, 4, 2)
        places = matches.image, matches.anchor, matches.row, matches.column
        found = cells[places]
        ciou = complete_iou_cxcywh(_decode_cxcywh(found[:, :4], matches.anchors_wh), matches.boxes_cxcywh)
        logits = cells[..., 4]
        wanted = _objectness_targets(logits, places, ciou.detach())
        objectness = binary_cross_entropy_with_logits(logits, wanted)
        return _mean(1 - ciou), objectness * balance, self._classes(found[:, 5:], matches.classes)

    def _classes(self, logits: Tensor, classes: Tensor) -> Tensor:
        """Logits [m, nc] of the matched places, and their classes [m] -> the classes term.

        It is 0 if there is only one class.
        """
        if self.nc == 1:
            return logits.new_zeros(())
        wanted = one_hot(classes, self.nc).float()
        return _mean(binary_cross_entropy_with_logits(logits, wanted, reduction="none"))


def balance_of(maps: int) -> tuple[float, ...]:
    """Return the weight of each raw map's objectness. Raises InputError if it is unknown for this number."""
    most = len(BALANCE_OF_OTHERS)
    if not 1 <= maps <= most:
        raise InputError(f"the head has {maps} raw maps; 1 to {most} are expected")
    return BALANCE.get(maps, BALANCE_OF_OTHERS[:maps])


def _decode_cxcywh(values: Tensor, anchors_wh: Tensor) -> Tensor:
    """Raw x, y, w, h [m, 4] -> boxes [m, 4] in cells, the centre relative to the cell."""
    doubled = values.sigmoid() * 2
    return torch.cat((doubled[:, :2] - 0.5, doubled[:, 2:].square() * anchors_wh), 1)


def _objectness_targets(logits: Tensor, places: tuple[Tensor, ...], ciou: Tensor) -> Tensor:
    """Return zeros like logits [batch, na, height, width], with each place's highest CIoU, if above 0."""
    wanted = torch.zeros(logits.shape, dtype=ciou.dtype, device=ciou.device)
    image, anchor, row, column = places
    _, na, height, width = logits.shape
    flat = ((image * na + anchor) * height + row) * width + column
    wanted.view(-1).scatter_reduce_(0, flat, ciou.clamp(min=0), "amax")
    return wanted


def _mean(values: Tensor) -> Tensor:
    """Return the mean, or 0 if there are no values."""
    return values.sum() / max(values.numel(), 1)
