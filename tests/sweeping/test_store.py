"""A sweep's folder: written files are read back, damaged files count as missing."""

import json
from dataclasses import asdict, fields

import pytest
import torch

from sparsity.base.errors import InputError
from sparsity.formats.sizes import Sizes
from sparsity.pruning.method import Method
from sparsity.sweeping.level import Level
from sparsity.sweeping.store import Finished, Store
from sparsity.validation.detector import PhaseSeconds
from sparsity.validation.metrics import Metrics
from sparsity.validation.nms import KeptBoxes
from sparsity.validation.passes import Found

LEVEL, DENSE = Level(Method(), 0.3), Level(Method(), 0.0)
MONDAY = {"started": "monday", "environment": {}}
SIZES = Sizes(4.0, 4.0, 2.5, 3.0)
SECONDS = PhaseSeconds(0.125, 2.5, 0.25, images=3)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "sweep")
    with store.locked():
        yield store


def detections(*counts: int) -> tuple[KeptBoxes, ...]:
    torch.manual_seed(0)
    return tuple(KeptBoxes(torch.rand(n, 4), torch.rand(n), torch.randint(0, 80, (n,))) for n in counts)


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param((0,), id="nothing found"),
        pytest.param((0, 0, 0), id="nothing found in any image"),
        pytest.param((2, 0, 300), id="some without"),
    ],
)
def test_detections_come_back_to_the_last_bit(store, counts):
    found = detections(*counts)
    store.write_found(LEVEL, 7, Found(found, SECONDS))
    back = store.found(LEVEL, 7)
    assert [len(one) for one in back.detections] == list(counts)
    for one, other in zip(found, back.detections, strict=True):
        for name in ("boxes_xyxy", "scores", "classes"):
            assert torch.equal(getattr(one, name), getattr(other, name))
            assert getattr(one, name).dtype == getattr(other, name).dtype
    assert back.seconds == SECONDS
    assert store.has_found(LEVEL, 7)
    assert store.found(LEVEL, 8) is None
    assert store.found(DENSE, 7) is None


@pytest.mark.parametrize("keep", [0, 1, 100, -1], ids=lambda n: f"{n} bytes")
def test_a_damaged_batch_counts_as_missing(store, keep):
    store.write_found(LEVEL, 0, Found(detections(5), SECONDS))
    path = next(store.folder.glob("partial/*/*.npz"))
    path.write_bytes(path.read_bytes()[:keep])
    assert store.found(LEVEL, 0) is None


def metrics() -> Metrics:
    texts = {f.name for f in fields(Metrics) if f.type == "str"}
    return Metrics(**{f.name: "x" if f.name in texts else 0.1 for f in fields(Metrics)})


def give_files(store: Store) -> None:
    folder = store.level_folder(LEVEL)
    (folder / "predictions.json").write_text("[]")
    (folder / "layers.csv").write_text("name,shape,weights,zeros,sparsity\nconv,1x1x1x1,1,0,0\n")


def test_a_finished_level_comes_back_and_its_batches_go(store):
    give_files(store)
    store.write_found(LEVEL, 0, Found(detections(5), SECONDS))
    assert store.finished(LEVEL) is None
    store.finish(LEVEL, Finished(metrics(), SIZES, 12.5, 1.25))
    assert store.finished(LEVEL) == Finished(metrics(), SIZES, 12.5, 1.25)
    assert not store.has_found(LEVEL, 0)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("predictions.json", None, id="detections gone"),
        pytest.param("layers.csv", None, id="layers gone"),
        pytest.param("layers.csv", "", id="layers empty"),
        pytest.param("layers.csv", "a,b\n1,2\n", id="other layers"),
        pytest.param(
            "metrics.json",
            json.dumps(asdict(metrics()) | {"seconds": 1, "prune_seconds": 1, "AP": "x"}),
            id="a text",
        ),
    ],
)
def test_a_level_with_a_damaged_file_counts_as_missing(store, name, text):
    give_files(store)
    store.finish(LEVEL, Finished(metrics(), SIZES, 1.0))
    assert store.finished(LEVEL) is not None
    path = store.level_folder(LEVEL) / name
    path.unlink()
    if text is not None:
        path.write_text(text)
    assert store.finished(LEVEL) is None


def test_a_row_of_an_older_sweep_names_no_head(store):
    give_files(store)
    store.finish(LEVEL, Finished(metrics(), SIZES, 1.0))
    path = store.level_folder(LEVEL) / "metrics.json"
    row = json.loads(path.read_text())
    assert row.pop("head") == "x"
    path.write_text(json.dumps(row))
    assert store.finished(LEVEL).metrics.head == ""


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"AP": 1}'])
def test_a_damaged_row_counts_as_missing(store, text):
    give_files(store)
    (store.level_folder(LEVEL) / "metrics.json").write_text(text)
    assert store.finished(LEVEL) is None


def test_a_row_has_the_keys_of_metrics_and_its_seconds(store):
    store.finish(LEVEL, Finished(metrics(), SIZES, 1.0))
    text = (store.level_folder(LEVEL) / "metrics.json").read_text()
    assert all(f'"{name}"' in text for name in (*asdict(metrics()), "seconds", "prune_seconds"))


def test_latency_comes_back_by_batch_size(store):
    assert store.latency(1, [LEVEL]) is None
    store.write_latency(1, [{"dense": [1.5], "layer_0.3": [2.0]}], "CPU A")
    store.write_latency(32, [{"dense": [3.0]}], "CPU B")
    assert store.latency(1, [DENSE, LEVEL]) == [{"dense": [1.5], "layer_0.3": [2.0]}]
    assert store.latency(32, [DENSE]) == [{"dense": [3.0]}]
    assert store.latency(32, [DENSE, LEVEL]) is None
    assert [store.latency_device(size) for size in (1, 32, 64)] == ["CPU A", "CPU B", ""]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"1": 5}', '{"1": [5], "devices": [1]}', '{"1": [{"dense": []}]}']
)
def test_damaged_latencies_count_as_missing(store, text):
    (store.folder / "latency.json").write_text(text)
    assert store.latency(1, [DENSE]) is None
    assert store.latency_device(1) == ""


def test_the_same_settings_go_on_and_keep_the_first_start(store):
    assert store.begin({"amounts": (0.1, 0.2)}, MONDAY) == MONDAY
    assert store.begin({"amounts": [0.1, 0.2]}, MONDAY | {"started": "friday"}) == MONDAY


def test_other_settings_are_refused_and_named(store):
    store.begin({"amounts": [0.1], "imgsz": 640, "torch": "2"}, MONDAY)
    with pytest.raises(InputError) as error:
        store.begin({"amounts": [0.2], "imgsz": 640, "half": True}, {})
    for words in (
        "amounts was [0.1], now is [0.2]",
        "torch was 2, now is None",
        "half was None, now is True",
    ):
        assert words in str(error.value)
    assert "imgsz" not in str(error.value)


def test_two_sweeps_never_share_a_folder(store):
    with pytest.raises(InputError, match="another sweep is running"), Store(store.folder).locked():
        pass


def test_a_lock_that_a_killed_sweep_left_does_not_hold(tmp_path):
    (tmp_path / ".lock").touch()
    with Store(tmp_path).locked():
        pass


def test_a_lock_stays_where_a_sweep_began(tmp_path):
    with Store(tmp_path).locked():
        Store(tmp_path).begin({}, {})
    assert (tmp_path / ".lock").exists()


def test_what_a_kill_left_half_written_goes(tmp_path):
    (tmp_path / "levels" / "dense").mkdir(parents=True)
    left_over = tmp_path / "levels" / "dense" / ".predictions.json.abc.part"
    left_over.touch()
    with Store(tmp_path).locked():
        assert not left_over.exists()


def test_levels_without_settings_are_refused(store):
    store.level_folder(LEVEL)
    with pytest.raises(InputError, match="but not its settings"):
        store.begin({}, {})


def test_nothing_is_left_of_a_sweep_that_never_began(tmp_path):
    with Store(tmp_path / "new").locked():
        pass
    assert list((tmp_path / "new").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="file: the results cannot be written"),
        Store(tmp_path / "file").locked(),
    ):
        pass
