"""AP over resampled images is pycocotools' on images that are really there several times."""

import time

import numpy as np
import pytest
from pycocotools.cocoeval import Params

from sparsity.base.errors import InputError
from sparsity.evaluation import bootstrap as module
from sparsity.evaluation.bootstrap import Interval, average_precision, bootstrap
from sparsity.evaluation.coco import Matched, evaluate_matched

CLASSES = [1, 2, 3, 4, 5]
IMAGES = list(range(1, 11))


def with_copies(content, results, weights):
    """The data set with image i weights[i - 1] times, under ids that keep the order."""
    copies = {
        i: [100 * i + copy for copy in range(weight)] for i, weight in zip(IMAGES, weights, strict=True)
    }

    def repeated(rows, key):
        return [row | {key: new} for row in rows for new in copies.get(row[key], [])]

    truth = repeated(content["annotations"], "image_id")
    truth = [row | {"id": number} for number, row in enumerate(truth, 1)]
    images = repeated(content["images"], "id")
    return content | {"images": images, "annotations": truth}, repeated(results, "image_id")


def perfect(found, wrong=0):
    """One true box an image: found where found [images] says so, then `wrong` worse boxes in every image."""
    found = np.asarray(found, bool)
    images = len(found)
    image = np.concatenate([np.flatnonzero(found), np.repeat(np.arange(images), wrong)]).astype(np.int32)
    right = np.zeros((len(image), 10), bool)
    right[: found.sum()] = True
    ids, boxes = np.arange(images), np.ones((images, 1), np.int32)
    return Matched(ids, np.array([1]), boxes, image, np.zeros_like(image), right, np.zeros_like(right))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("category_ids", [CLASSES, [2, 4], []], ids=["all", "some", "as one class"])
def test_each_image_once_is_pycocotools(scene, plainly, seed, category_ids):
    content, results = scene(seed)  # with ties
    figures, matched = evaluate_matched(content, results, image_ids=IMAGES, category_ids=category_ids)
    assert figures == plainly(content, results, IMAGES, category_ids)
    assert average_precision(matched, np.ones(10)) == pytest.approx(figures.AP, abs=1e-12)
    assert figures.AP > 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "weights",
    [
        pytest.param([2] * 10, id="all twice"),
        pytest.param([0, 1, 1, 1, 1, 1, 1, 1, 1, 1], id="the first left out"),
        pytest.param([0, 3, 1, 0, 2, 0, 0, 1, 2, 1], id="a usual draw"),
        pytest.param([0, 0, 0, 0, 0, 0, 0, 0, 10, 0], id="one image alone, without some classes"),
        pytest.param([0, 0, 0, 0, 0, 0, 7, 0, 0, 3], id="two images, without some classes"),
    ],
)
@pytest.mark.parametrize("category_ids", [CLASSES, []], ids=["by class", "as one class"])
def test_weights_are_copies_of_images(scene, plainly, seed, weights, category_ids):
    content, results = scene(seed, decimals=12)
    _, matched = evaluate_matched(content, results, image_ids=IMAGES, category_ids=category_ids)
    more, more_results = with_copies(content, results, weights)
    image_ids = [image["id"] for image in more["images"]]
    expected = plainly(more, more_results, image_ids, category_ids)
    assert average_precision(matched, np.array(weights)) == pytest.approx(expected.AP, abs=1e-12)
    assert expected.AP > 0


@pytest.mark.parametrize("images", [1, 3, 7, 25, 100, 101, 128])
def test_a_recall_at_the_edge_of_a_hundredth_is_reached(images):
    for found in range(images + 1):
        matched = perfect(np.arange(images) < found)
        expected = (Params("bbox").recThrs <= found / images).mean() if found else 0.0
        assert average_precision(matched, np.ones(images)) == pytest.approx(expected, abs=1e-12)


def test_crowds_are_among_what_is_tested(scene):
    _, matched = evaluate_matched(*scene(0), image_ids=IMAGES, category_ids=CLASSES)
    assert matched.ignored.any()
    assert not matched.ignored.all(1).any()


@pytest.mark.parametrize("elements", [1, 5000, 2**21])
def test_many_draws_are_each_draw_whatever_is_held_at_a_time(scene, monkeypatch, elements):
    _, matched = evaluate_matched(*scene(1), image_ids=IMAGES, category_ids=CLASSES)
    draws = np.random.default_rng(0).integers(0, 4, (7, 10))
    expected = [float(average_precision(matched, draw)) for draw in draws]
    monkeypatch.setattr(module, "ELEMENTS", elements)
    assert average_precision(matched, draws).tolist() == expected
    assert average_precision(matched, draws / 2) == pytest.approx(expected, abs=1e-9)  # shares alone matter


def test_draws_without_a_true_box_have_no_ap(scene):
    _, matched = evaluate_matched(*scene(0), image_ids=IMAGES, category_ids=CLASSES)
    assert np.isnan(average_precision(matched, np.zeros((2, 10)))).all()
    empty = scene(0)[0] | {"annotations": []}
    _, matched = evaluate_matched(empty, scene(0)[1], image_ids=IMAGES, category_ids=CLASSES)
    interval = bootstrap({"a": matched, "b": matched}, samples=5).interval("a", "b")
    assert np.isnan([interval.difference, interval.low, interval.high, interval.share_above]).all()


@pytest.mark.parametrize("shape", [(9,), (10, 2), (1, 1, 10), ()])
def test_weights_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"\[10\] or \[resamples, 10\] is expected"):
        average_precision(perfect([True] * 10), np.ones(shape))


def test_the_same_predictions_differ_by_nothing(scene):
    _, matched = evaluate_matched(*scene(0), image_ids=IMAGES, category_ids=CLASSES)
    drawn = bootstrap({"a": matched, "b": matched}, samples=50)
    assert drawn.interval("a", "b") == Interval(0.0, 0.0, 0.0, 0.0)
    assert drawn.samples["a"].std() > 0


def test_a_clear_difference_excludes_0_and_turns_with_the_order():
    drawn = bootstrap({"dense": perfect([True] * 40), "half": perfect([True, False] * 20)}, samples=200)
    gain, loss = drawn.interval("dense", "half"), drawn.interval("half", "dense")
    assert 0 < gain.low < gain.difference < gain.high < 1
    assert gain.difference == pytest.approx(1 - 51 / 101)  # recall 0.5 reaches 51 of the 101
    assert (loss.low, loss.difference, loss.high) == pytest.approx((-gain.high, -gain.difference, -gain.low))
    assert (gain.share_above, loss.share_above) == (1, 0)


def test_a_wider_level_gives_a_wider_interval():
    drawn = bootstrap({"a": perfect([True] * 40), "b": perfect([True, False] * 20)}, samples=200)
    narrow, wide = drawn.interval("a", "b", level=0.5), drawn.interval("a", "b", level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_pairing_takes_out_what_is_hard_for_both():
    """a finds one box more than b; apart, each varies far more than that."""
    found = np.arange(100) % 2 == 0
    less = found & (np.arange(100) != 50)
    drawn = bootstrap({"a": perfect(found), "b": perfect(less)}, samples=300)
    paired = drawn.interval("a", "b")
    assert paired.low >= 0
    assert paired.high - paired.low < 0.25 * 4 * drawn.samples["a"].std()


def test_intervals_hold_the_true_difference_about_as_often_as_they_say():
    """Recall 0.6 against 0.4, perfect otherwise, so that AP is the recall."""
    rng, inside = np.random.default_rng(0), 0
    for trial in range(150):
        pair = {key: perfect(rng.random(60) < recall) for key, recall in (("a", 0.6), ("b", 0.4))}
        interval = bootstrap(pair, samples=200, seed=trial).interval("a", "b", level=0.9)
        inside += interval.low <= 0.2 <= interval.high
    assert 0.82 <= inside / 150 <= 0.97


def test_a_seed_draws_the_same_images_again():
    pair = {"a": perfect([True] * 9 + [False]), "b": perfect([True, False] * 5)}
    first, again, other = (bootstrap(pair, samples=20, seed=seed).samples for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)
    assert first[["b"]].equals(bootstrap({"b": pair["b"]}, samples=20).samples)  # whatever else is drawn


def test_nothing_found_is_ap_0(scene):
    content, results = scene(0)
    ids = {"image_ids": IMAGES, "category_ids": CLASSES}
    pair = {"dense": results, "nothing": []}
    drawn = bootstrap(
        {key: evaluate_matched(content, rows, **ids)[1] for key, rows in pair.items()}, samples=30
    )
    assert drawn.AP["nothing"] == 0
    assert (drawn.samples["nothing"] == 0).all()
    interval = drawn.interval("dense", "nothing")
    assert interval.low > 0
    assert interval.difference == drawn.AP["dense"]


def test_one_image_has_nothing_to_vary():
    interval = bootstrap({"a": perfect([True]), "b": perfect([False])}, samples=10).interval("a", "b")
    assert interval.difference == pytest.approx(1)
    assert interval == Interval(*[interval.difference] * 3, share_above=1.0)


@pytest.mark.parametrize(
    ("matched", "samples", "words"),
    [
        pytest.param({"a": perfect([True])}, 0, "`samples` is 0; at least 1 resample", id="no resample"),
        pytest.param({}, 10, "at least one evaluation", id="nothing to compare"),
        pytest.param(
            {"a": perfect([True]), "b": perfect([True] * 2)},
            10,
            "b: its image_ids differ from those of a",
            id="other images",
        ),
    ],
)
def test_what_cannot_be_bootstrapped_is_refused(matched, samples, words):
    with pytest.raises(InputError, match=words):
        bootstrap(matched, samples=samples)


@pytest.mark.parametrize("level", [0, 1, 95])
def test_a_level_is_a_share(level):
    with pytest.raises(InputError, match="a share between 0 and 1"):
        bootstrap({"a": perfect([True])}, samples=1).interval("a", "a", level=level)


def test_the_cost_of_a_level():
    """250 images, 80 classes, 75,000 detections, few of them right: printed with -s, not asserted."""
    rng = np.random.default_rng(0)
    category = np.sort(rng.zipf(1.3, 75_000) % 80).astype(np.int32)
    image = rng.integers(0, 250, 75_000).astype(np.int32)
    right = (rng.random(75_000) < 0.015)[:, None] & (np.arange(10) < rng.integers(1, 11, (75_000, 1)))
    boxes = np.zeros((250, 80), np.int32)
    np.add.at(boxes, (image[right.any(1)], category[right.any(1)]), 2)
    matched = Matched(np.arange(250), np.arange(80), boxes, image, category, right, np.zeros_like(right))
    start = time.perf_counter()
    samples = bootstrap({"level": matched}).samples
    print(f"\n1,000 resamples of 75,000 detections: {time.perf_counter() - start:.1f} s")
    assert samples.shape == (1000, 1)
