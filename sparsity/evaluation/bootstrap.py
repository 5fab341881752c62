"""How far AP depends on which images were taken: a paired bootstrap over images."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from pycocotools.cocoeval import Params

from sparsity.base.errors import InputError
from sparsity.evaluation.coco import Matched

THRESHOLDS = len(Params("bbox").iouThrs)
RECALLS: np.ndarray = Params("bbox").recThrs
ELEMENTS = 2**21
"""The most detections x resamples that are held at a time, in 8 bytes each and a few arrays."""

_UNREADABLE = (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error)
"""What NumPy raises over a file that is no .npz, or a damaged one."""


@dataclass(frozen=True)
class Interval:
    """AP(a) - AP(b) on all images, the interval it has over resamples, the share of them with a above b.

    All in AP's unit, 0 to 1. A resample in which both are equal does not count as above.
    """

    difference: float
    low: float
    high: float
    share_above: float


@dataclass(frozen=True)
class Bootstrap:
    """AP by key: on the images as they are, and samples [resamples x keys], a row the same images for all.

    NaN in a resample without any true box.
    """

    AP: pd.Series
    samples: pd.DataFrame = field(repr=False)

    def interval(self, a: str, b: str, level: float = 0.95) -> Interval:
        """The percentile interval (Efron & Tibshirani 1993) of AP(a) - AP(b) at this confidence level.

        NaN where no image has a true box.
        """
        if not 0 < level < 1:
            raise InputError(f"level is {level}; a share between 0 and 1, such as 0.95, is expected")
        difference = float(self.AP[a] - self.AP[b])
        sampled = (self.samples[a] - self.samples[b]).dropna().to_numpy()
        if not len(sampled):
            return Interval(difference, np.nan, np.nan, np.nan)
        low, high = np.quantile(sampled, [(1 - level) / 2, (1 + level) / 2])
        return Interval(difference, float(low), float(high), float((sampled > 0).mean()))


def bootstrap(matched_by_key: Mapping[str, Matched], *, samples: int = 1000, seed: int = 0) -> Bootstrap:
    """Draw the images anew, with replacement, and give every key's AP on the same draws.

    B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993): chapter 13 for percentile
    intervals. The images are the units drawn, each with all its boxes; because all keys see the same
    draws, what is hard for all of them falls out of their differences. The interval speaks of images
    like these, not of other training runs; a single image has an interval of no width.

    Where classes are in few images, AP is on average higher over resamples than on the images themselves:
    by 0.02 on 250 images of COCO, the median class in 5 of them. A difference keeps part of that (0.227
    over resamples for 0.219 there), so its interval does not lie evenly about it.

    matched_by_key: all over the same images and true boxes. They are taken one by one, so that a mapping
    that loads its values holds one at a time.
    """
    if samples < 1:
        raise InputError(f"--bootstrap is {samples}; at least 1 resample is expected")
    if not matched_by_key:
        raise InputError("nothing to bootstrap: the matches of at least one evaluation are expected")
    first, like = next(iter(matched_by_key.items()))
    images = len(like.image_ids)
    draws = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), samples)
    plain, drawn = {}, {}
    for key, matched in matched_by_key.items():
        _check_pair(first, like, key, matched)
        plain[key] = float(average_precision(matched, np.ones(images)))
        drawn[key] = average_precision(matched, draws)
    return Bootstrap(pd.Series(plain, name="AP"), pd.DataFrame(drawn))


def average_precision(matched: Matched, weights: np.ndarray) -> np.ndarray:
    """pycocotools' AP (IoU 0.50:0.95, area all, 100 detections) with every image taken weights times.

    weights: [images] or [resamples, images], not negative; the answer is of their shape without images.
    For whole numbers it is what pycocotools gives on a data set that holds each image that often, with
    the copies of an image next to each other in the order of ids. The order tells only where scores are
    equal; among equal ones of the same class and image, the copies of a detection stay together here.
    Classes without true boxes in a resample are left out of its mean; NaN where that leaves none, for
    which pycocotools says -1.
    """
    images = len(matched.image_ids)
    weights = np.asarray(weights)
    if weights.ndim not in (1, 2) or weights.shape[-1] != images:
        raise ValueError(f"weights are {weights.shape}; [{images}] or [resamples, {images}] is expected")
    rows = np.atleast_2d(weights)
    curves = list(_curves(matched))
    step = max(1, ELEMENTS // max([len(curve.image) for curve in curves], default=1))
    parts = [_mean_precision(matched, curves, rows[i : i + step]) for i in range(0, len(rows), step)]
    return np.concatenate(parts or [np.zeros(0)]).reshape(weights.shape[:-1])


def load(path: Path) -> Matched:
    """Read what Matched.save wrote."""
    names = [one.name for one in fields(Matched)]
    try:
        with np.load(path) as arrays:
            return Matched(*(arrays[name] for name in names))
    except _UNREADABLE as error:
        raise InputError(
            f"{path}: an .npz file of matches ({', '.join(names)}) is expected, came: {error}"
        ) from error


@dataclass(frozen=True)
class _Curve:
    """One class's detections, best first, up to the last that is right at some IoU threshold.

    Between two that are right or ignored somewhere (turns [p], indices) all are wrong at every threshold,
    and nothing but their number matters.
    image [n]; right [p, thresholds] and ignored [p, thresholds].
    """

    category: int
    image: np.ndarray
    turns: np.ndarray
    right: np.ndarray
    ignored: np.ndarray


def _curves(matched: Matched) -> Iterator[_Curve]:
    """The classes in which something was found."""
    right = matched.matched & ~matched.ignored
    ends = np.searchsorted(matched.category, np.arange(len(matched.category_ids) + 1))
    for category, (start, end) in enumerate(pairwise(ends)):
        found = np.flatnonzero(right[start:end].any(1))
        if len(found):
            ours = slice(start, start + found[-1] + 1)
            turns = np.flatnonzero((right[ours] | matched.ignored[ours]).any(1))
            yield _Curve(
                category, matched.image[ours], turns, right[ours][turns], matched.ignored[ours][turns]
            )


def _mean_precision(matched: Matched, curves: list[_Curve], draws: np.ndarray) -> np.ndarray:
    """[resamples, images] -> AP [resamples]."""
    weights = np.ascontiguousarray(draws.T, np.float64)
    boxes = matched.true_boxes.T.astype(np.float64) @ weights
    summed = np.zeros(weights.shape[1])
    for curve in curves:
        summed += _summed_precision(curve, weights, boxes[curve.category])
    present = (boxes > 0).sum(0)
    mean = summed / (np.maximum(present, 1) * THRESHOLDS * len(RECALLS))
    return np.where(present > 0, mean, np.nan)


def _summed_precision(curve: _Curve, weights: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """[resamples]: a class's precision summed over recalls and thresholds; boxes [resamples] are true."""
    starts = np.concatenate([[0], curve.turns[:-1] + 1])
    seen = np.add.reduceat(weights[curve.image], starts, axis=0).cumsum(0)
    own = weights[curve.image[curve.turns]]
    summed = np.zeros(weights.shape[1])
    for right, ignored in zip(curve.right.T, curve.ignored.T, strict=True):
        counted = seen[right]
        if ignored.any():
            counted -= (own * ignored[:, None]).cumsum(0)[right]
        summed += _interpolated(own[right].cumsum(0), counted, boxes)
    return summed


def _interpolated(found: np.ndarray, counted: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """[resamples]: the sum over 101 recalls of the best precision at that recall or a higher one.

    found, counted [right detections, resamples]: true boxes found and detections made up to each, which
    is where precision has its peaks. Recall and precision are computed as pycocotools does, to the bit.
    """
    precision = found / (counted + np.spacing(1))
    best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    reached = np.searchsorted(RECALLS, found / np.where(boxes > 0, boxes, 1), side="right")
    return (best * np.diff(reached, axis=0, prepend=0)).sum(0)


def _check_pair(key: str, matched: Matched, other_key: str, other: Matched) -> None:
    for name in ("image_ids", "category_ids", "true_boxes"):
        if not np.array_equal(getattr(matched, name), getattr(other, name)):
            raise InputError(
                f"{other_key}: the {name} of {key} are expected, other ones came; "
                "give evaluations on the same images and true boxes"
            )
