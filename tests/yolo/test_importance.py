"""How much each number of the raw maps counts."""

import pytest
import torch

from sparsity.yolo.importance import BACKGROUND, raw_map_importance

NA, NC = 3, 5


@pytest.fixture
def raw() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, NA * (5 + NC), side, side, generator=generator) * 3 for side in (8, 4)]


def cells(level: torch.Tensor) -> torch.Tensor:
    return level.unflatten(1, (NA, 5 + NC))


def test_shapes_are_the_maps(raw):
    weights = raw_map_importance(raw, NA)
    assert [w.shape for w in weights] == [x.shape for x in raw]
    assert all((w > 0).all() for w in weights)


def test_levels_boxes_objectness_and_classes_count_alike(raw):
    for level, weights in zip(raw, raw_map_importance(raw, NA), strict=True):
        values, counts = cells(level), cells(weights)
        for part in (slice(0, 4), slice(4, 5), slice(5, None)):
            place = counts[:, :, part]
            mean = (values[:, :, part] * place).sum((0, 1, 3, 4)) / place.sum((0, 1, 3, 4))
            away = (values[:, :, part] - mean[:, None, None]).square()
            assert (away * place).sum().item() == pytest.approx(1, rel=1e-4)


def test_cells_count_as_their_objectness(raw):
    weights = cells(raw_map_importance(raw, NA)[0])
    expected = cells(raw[0])[:, :, 4].sigmoid() + BACKGROUND
    ratio = weights[:, :, 0] / expected
    assert torch.allclose(ratio, ratio.mean().expand_as(ratio), rtol=1e-4)


def test_larger_numbers_do_not_make_a_level_count_more(raw):
    louder = [raw[0], raw[1].clone()]
    cells(louder[1])[:, :, 5:] *= 10
    before, after = (cells(raw_map_importance(maps, NA)[1])[:, :, 5:].sum() for maps in (raw, louder))
    assert (before / after).item() == pytest.approx(100, rel=1e-3)


def test_maps_that_are_all_equal_have_finite_weights():
    weights = raw_map_importance([torch.zeros(1, NA * (5 + NC), 4, 4)], NA)
    assert torch.isfinite(weights[0]).all()
