"""Settings and images fit the network, also where the backbone goes deeper than the head."""

import copy

import pytest
import torch

from sparsity import ValidationSettings, read_calibration, validate
from sparsity.validation.inputs import fit


def test_the_largest_stride_is_that_of_the_backbone(two_heads, tiny, tiny_yolov8, slight, shallow):
    assert max(two_heads.strides) == 16
    assert two_heads.largest_stride == 32
    assert copy.deepcopy(two_heads).largest_stride == 32
    found = [network.largest_stride for network in (tiny, tiny_yolov8, slight, shallow)]
    assert found == [32, 32, 8, 16]


@pytest.mark.parametrize(("asked", "fitting"), [(320, 320), (336, 352), (33, 64)])
def test_the_image_size_is_a_multiple_of_it(two_heads, asked, fitting):
    assert fit(ValidationSettings(imgsz=asked), two_heads).imgsz == fitting


def test_images_of_any_shape_are_validated(two_heads, shapes):
    settings = ValidationSettings(imgsz=48, batch_size=2, workers=0, device="cpu", conf_thres=0.1)
    done = validate(two_heads, shapes, settings)
    assert (done.metrics.imgsz, done.metrics.images) == (64, 6)


def test_calibration_images_are_padded_to_it(two_heads, shapes):
    batches = read_calibration(shapes.parent / "images", 6, network=two_heads, imgsz=64)
    assert all(side % 32 == 0 for batch in batches for side in batch.shape[2:])
    for batch in batches:
        with torch.inference_mode():
            assert [map_.shape[2] for map_ in two_heads(batch)] == [batch.shape[2] // s for s in (8, 16)]
    assert sum(map(len, batches)) == 6
