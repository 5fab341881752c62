"""Random scenes, and pycocotools as it comes, to compare with."""

import io
from contextlib import redirect_stdout

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sparsity.evaluation.coco import CocoFigures


@pytest.fixture
def scene():
    """scene(seed): random truth, with crowds, and detections: some near a true box, some anywhere.

    Scores of two decimals, so that there are ties, unless it's told otherwise.
    """
    return _scene


@pytest.fixture
def plainly():
    """plainly(content, results, image_ids, category_ids): the figures by pycocotools alone."""
    return _plainly


def _scene(seed: int, images: int = 12, classes: int = 4, decimals: int = 2):
    rng = np.random.default_rng(seed)
    annotations, results = [], []

    def score() -> float:
        return round(float(rng.random()), decimals)

    for image in range(1, images + 1):
        for _ in range(rng.integers(0, 8)):
            box = [*rng.uniform(0, 400, 2), *rng.uniform(4, 200, 2)]
            category = int(rng.integers(1, classes + 1))
            crowd = int(rng.random() < 0.15)
            row = {"id": len(annotations) + 1, "image_id": image, "category_id": category}
            annotations.append(row | {"bbox": box, "area": box[2] * box[3], "iscrowd": crowd})
            for _ in range(rng.integers(0, 4)):
                near = [float(v) for v in np.array(box) + rng.normal(0, 6, 4)]
                near[2:] = [max(value, 1.0) for value in near[2:]]
                results.append(_result(image, category, near, score()))
        for _ in range(rng.integers(0, 130)):
            box = [*rng.uniform(0, 400, 2).tolist(), *rng.uniform(4, 200, 2).tolist()]
            results.append(_result(image, int(rng.integers(1, classes + 2)), box, score()))
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 640} for i in range(1, images + 1)
        ],
        "annotations": annotations,
        "categories": [{"id": i, "name": str(i)} for i in range(1, classes + 2)],
    }
    return content, results


def _result(image, category, box, score):
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def _plainly(content, results, image_ids, category_ids):
    with redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = content
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes([dict(row) for row in results]), "bbox")
        evaluation.params.imgIds = image_ids
        evaluation.params.useCats = int(bool(category_ids))
        if category_ids:
            evaluation.params.catIds = category_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return CocoFigures(*(float(value) for value in evaluation.stats))
