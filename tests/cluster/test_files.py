"""Files that a machine does not see are shipped to it, and those that it sees are read in place."""

from pathlib import Path

import pytest

from sparsity.base.errors import InputError
from sparsity.cluster import files
from sparsity.cluster.files import Shipment, localise, missing_paths, ship
from sparsity.data.dataset import identify, read_images


@pytest.fixture
def images(shapes):
    return read_images(shapes.parent / "images")


@pytest.fixture(autouse=True)
def _temporary(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()


def shipped(paths: list[Path]) -> Shipment:
    store: list[dict[str, bytes]] = []

    def put(chunk: dict[str, bytes]) -> int:
        store.append(dict(chunk))
        return len(store) - 1

    return ship(paths, put, store.__getitem__)


def test_a_machine_that_lacks_the_images_gets_the_same_ones(images, monkeypatch):
    monkeypatch.setattr(files, "CHUNK_BYTES", 5000)
    before, content = identify(images), [image.path.read_bytes() for image in images]
    shipment = shipped([image.path for image in images])
    assert len(shipment.chunks) > 1
    for image in images:
        image.path.unlink()
    assert missing_paths([image.path for image in images]) == [image.path for image in images]
    found = localise(images, shipment)
    assert [image.path.read_bytes() for image in found] == content
    assert identify(found) == before
    assert localise(images, shipment) == found, "written once"


def test_files_with_one_name_stay_apart(tmp_path):
    paths = [tmp_path / name / "a.png" for name in ("x", "y")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(path.parent.name)
    shipment = shipped(paths)
    for path in paths:
        path.unlink()
    assert [shipment.local(path).read_text() for path in paths] == ["x", "y"]


def test_what_a_machine_sees_is_read_in_place(images, tmp_path):
    shipment = shipped([image.path for image in images])
    assert localise(images, shipment) == tuple(images)
    assert not list((tmp_path / "temporary").iterdir())
    assert Shipment().local(Path("anything")) == Path("anything")


def test_too_much_to_ship(images, monkeypatch):
    monkeypatch.setattr(files, "MOST_BYTES", 100)
    words = "0.png: not every machine of the cluster sees this path, and 0.0 GiB are too much to ship"
    with pytest.raises(InputError, match=words):
        shipped([image.path for image in images])
