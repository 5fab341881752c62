"""The demo's data set: what is written, and that it is there whole or not at all."""

import os
import shutil
import tempfile
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from sparsity.base.errors import InputError
from sparsity.data.dataset import read_dataset
from sparsity.demo import data as module
from sparsity.demo.data import ensure_demo_data
from sparsity.demo.drawing import CLASSES, draw_scene

FEW = {"train": 4, "val": 2}


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(module, "COUNTS", FEW)


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def times(folder: Path) -> list[int]:
    return [path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))]


def test_files_are_where_yolov5_expects_them(tmp_path):
    assert ensure_demo_data(tmp_path / "a" / "b") == tmp_path / "a" / "b" / "demo.yaml"
    expected = ["demo.yaml"]
    for split, count in FEW.items():
        for i in range(count):
            expected += [f"images/{split}/{i:06}.jpg", f"labels/{split}/{i:06}.txt"]
    assert listing(tmp_path / "a" / "b") == sorted(expected)


def test_the_default_folder_is_in_the_users_cache(tmp_path, monkeypatch):
    assert ensure_demo_data() == tmp_path / "cache" / "sparsity" / "demo-v1" / "demo.yaml"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert ensure_demo_data() == tmp_path / "home" / ".cache" / "sparsity" / "demo-v1" / "demo.yaml"


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """The folder of temporary files."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def test_a_user_without_a_home_gets_a_temporary_folder(temporary, monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", nowhere)
    said: list[str] = []
    data = ensure_demo_data(say=said.append)
    assert data == temporary / f"sparsity-{os.getuid()}" / "demo-v1" / "demo.yaml"
    assert data.is_file()
    assert said[0].startswith(f"there is no home folder; the demo data are in {data.parent} (set XDG_CACHE")


def test_a_cache_that_cannot_be_written_is_replaced_by_a_temporary_folder(tmp_path, temporary, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    said: list[str] = []
    data = ensure_demo_data(say=said.append)
    before = times(data.parent)
    assert data.parent.parent == temporary / f"sparsity-{os.getuid()}"
    assert data.parent.parent.stat().st_mode & 0o777 == 0o700
    assert (
        "sparsity/demo-v1: the demo data cannot be written (Not a directory); the demo data are in" in said[0]
    )
    assert ensure_demo_data(say=said.append) == data, "later runs find it again"
    assert times(data.parent) == before


@pytest.mark.parametrize("taken", ["writable by others", "a link", "a file"])
def test_a_temporary_folder_that_others_may_write_is_not_used(tmp_path, temporary, monkeypatch, taken):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    place = temporary / f"sparsity-{os.getuid()}"
    if taken == "a link":
        place.symlink_to(tmp_path)
    elif taken == "a file":
        place.write_text("")
    else:
        place.mkdir()
        place.chmod(0o777)
    data = ensure_demo_data(say=lambda _: None)
    assert data.is_file()
    assert data.parents[2] == temporary
    assert data.parents[1] != place


@pytest.mark.parametrize("split", FEW)
def test_files_agree_with_the_scenes(tmp_path, split):
    folder = ensure_demo_data(tmp_path / "demo").parent
    for i in range(FEW[split]):
        scene = draw_scene(module.FIRST_SEEDS[split] + i)
        bgr = cv2.imread(str(folder / "images" / split / f"{i:06}.jpg"))
        assert bgr.shape == (320, 320, 3)
        assert np.abs(bgr[..., ::-1].astype(int) - scene.pixels).mean() < 8
        text = (folder / "labels" / split / f"{i:06}.txt").read_text()
        rows = np.array([line.split() for line in text.splitlines()], float)
        np.testing.assert_array_equal(rows[:, 0], scene.classes)
        boxes = np.concatenate((rows[:, 1:3] - rows[:, 3:] / 2, rows[:, 1:3] + rows[:, 3:] / 2), 1) * 320
        np.testing.assert_allclose(boxes, scene.boxes_xyxy, atol=1e-3)
        assert all(len(word.split(".")[1]) == 6 for line in text.splitlines() for word in line.split()[1:])


def test_splits_share_no_scene():
    train, val = (set(range(module.FIRST_SEEDS[s], module.FIRST_SEEDS[s] + 10_000)) for s in FEW)
    assert not train & val


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_data_set_reads_it_wherever_it_lies(tmp_path, monkeypatch, elsewhere):
    data = ensure_demo_data(tmp_path / "demo")
    if elsewhere:
        data = Path(shutil.move(data.parent, tmp_path / "moved")) / data.name
        monkeypatch.chdir("/")
    dataset = read_dataset(data, CLASSES)
    assert len(dataset.images) == dataset.scan.found == FEW["val"]
    assert (dataset.scan.missing, dataset.scan.corrupt) == (0, 0)
    assert {(image.width, image.height) for image in dataset.images} == {(320, 320)}
    assert all("val" in image.path.parts for image in dataset.images)


def test_what_is_there_is_left_as_it_is(tmp_path):
    data = ensure_demo_data(tmp_path / "demo")
    before = times(data.parent)
    assert ensure_demo_data(tmp_path / "demo") == data
    assert times(data.parent) == before


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "demo").mkdir()
    assert ensure_demo_data(tmp_path / "demo").is_file()


def test_two_at_once_both_end_well(tmp_path, monkeypatch):
    both = threading.Barrier(2)
    build = module._build

    def slowly(*args):
        build(*args)
        both.wait(timeout=60)

    monkeypatch.setattr(module, "_build", slowly)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(ensure_demo_data(tmp_path / "demo"))) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [tmp_path / "demo" / "demo.yaml"] * 2
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["demo"]
    assert len(listing(tmp_path / "demo")) == 2 * sum(FEW.values()) + 1


def test_a_folder_that_another_process_has_just_made_is_no_obstacle(tmp_path, monkeypatch):
    make, check = module._make, module._check_place

    def late(folder):
        make(folder, FEW, False)
        check(folder)

    monkeypatch.setattr(module, "_check_place", late)
    assert ensure_demo_data(tmp_path / "demo").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch, error):
    def stop(seed):
        if seed == module.FIRST_SEEDS["val"]:
            raise error
        return draw_scene(seed)

    monkeypatch.setattr(module, "draw_scene", stop)
    with pytest.raises(error):
        ensure_demo_data(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setattr(module, "COUNTS", FEW)
    assert ensure_demo_data(tmp_path / "demo").is_file()


def test_an_interrupted_run_ends_soon(tmp_path, monkeypatch):
    drawn = []

    def stop(seed):
        drawn.append(seed)
        if seed == 0:
            raise KeyboardInterrupt
        return draw_scene(seed)

    monkeypatch.setattr(module, "COUNTS", {"train": 1000})
    monkeypatch.setattr(module, "draw_scene", stop)
    with pytest.raises(KeyboardInterrupt):
        ensure_demo_data(tmp_path / "demo")
    assert len(drawn) < 200


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/demo: the demo data cannot be written"):
        ensure_demo_data(tmp_path / "file" / "demo")
    with pytest.raises(InputError, match="file: a new or empty folder is expected"):
        ensure_demo_data(tmp_path / "file")


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match="a new or empty folder is expected"):
        ensure_demo_data(tmp_path)
    assert listing(tmp_path) == ["mine.txt"]


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        InputError, match=r"demo: the demo data cannot be written \(No space left on device\)"
    ):
        ensure_demo_data(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []
