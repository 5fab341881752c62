"""Downloads, from a server on this machine that can be told to misbehave."""

import io
import socket
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sparsity.base.errors import InputError
from sparsity.data import downloads as download
from sparsity.data.downloads import ensure_data, ensure_weights

BODY = bytes(range(256)) * 5000
IMAGES = "/zips/val2017.zip"
ANNOTATIONS = "/annotations/annotations_trainval2017.zip"


class Server(ThreadingHTTPServer):
    """Serves files from memory.

    ranges: whether Range is honoured. cut: break the connection after so many bytes of a body.
    status: refuse everything with it. asked: path and Range of each request.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.ranges, self.cut, self.status = True, None, None
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append((self.path, asked))
        body = server.files.get(self.path)
        if server.status or body is None:
            return self.send_error(server.status or 404)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        if start and start >= len(body):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start:][: server.cut])
        self.close_connection = True
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The server, in the environment; the working folder is tmp_path."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("no_proxy", "*")
        monkeypatch.setenv("SPARSITY_WEIGHTS_URL", running.url)
        monkeypatch.setenv("SPARSITY_COCO_URL", running.url)
        yield running
        running.shutdown()
        thread.join()


def listing(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def archive(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "name", [f"yolo{version}{size}.pt" for version in ("v5", "v8", 11, 12, 26) for size in "nsmlx"]
)
def test_weights_by_name(server, tmp_path, name):
    server.files[f"/{name}"] = BODY
    path = ensure_weights(name)
    assert path.read_bytes() == BODY
    assert listing(tmp_path) == [name]


def test_each_family_has_its_own_address(monkeypatch):
    monkeypatch.delenv("SPARSITY_WEIGHTS_URL", raising=False)
    asked = []
    monkeypatch.setattr(download, "_fetch", lambda url, *_: asked.append(url))
    ensure_weights("yolov5x.pt")
    ensure_weights("somewhere/yolov8n.pt")
    for name in ("yolo11n.pt", "yolo12s.pt", "yolo26x.pt"):
        ensure_weights(name)
    assert asked == [
        "https://github.com/ultralytics/yolov5/releases/download/v7.0/yolov5x.pt",
        "https://github.com/ultralytics/assets/releases/download/v8.1.0/yolov8n.pt",
        "https://github.com/ultralytics/assets/releases/download/v8.4.0/yolo11n.pt",
        "https://github.com/ultralytics/assets/releases/download/v8.4.0/yolo12s.pt",
        "https://github.com/ultralytics/assets/releases/download/v8.4.0/yolo26x.pt",
    ]


def test_weights_to_a_folder_that_is_made(server, tmp_path):
    server.files["/yolov5n.pt"] = BODY
    wanted = tmp_path / "weights" / "new" / "yolov5n.pt"
    assert ensure_weights(str(wanted)) == wanted
    assert wanted.read_bytes() == BODY


@pytest.mark.parametrize(
    ("name", "present"),
    [
        pytest.param("yolov5n.pt", True, id="a file that is there"),
        pytest.param("best.pt", True, id="one's own file"),
        pytest.param("best.pt", False, id="a missing file of another name"),
        pytest.param("yolov5n6.pt", True, id="a file of weights that aren't offered"),
        pytest.param("weights/yolov5n6.pt", False, id="a path of weights that aren't offered"),
        pytest.param("yolov5n_mine.pt", False, id="a missing file, called after its network"),
    ],
)
def test_what_is_not_fetched(server, tmp_path, name, present):
    server.files[f"/{name}"] = BODY
    if present:
        (tmp_path / name).write_bytes(b"mine")
    assert ensure_weights(name) == Path(name)
    assert server.asked == []
    assert listing(tmp_path) == ([name] if present else [])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("yolo13n.pt", "it is of another family", id="another family"),
        pytest.param("yolov9c.pt", "it is of another family", id="another family, with a v"),
        pytest.param("yolo26t.pt", "there is no such size", id="another size of a family without a v"),
        pytest.param("yolov8n-seg.pt", "the task of -seg is not supported", id="segmentation"),
        pytest.param("yolo11n-pose.pt", "the task of -pose is not supported", id="poses"),
        pytest.param("yolov8n-oiv7.pt", "it is another variant", id="other training data"),
        pytest.param("yolov5n6.pt", "it is a network for 1280 pixels", id="P6"),
        pytest.param("yolov5nu.pt", "it is a YOLOv5u, which has the head", id="YOLOv5u"),
        pytest.param("yolov5x6u.pt", "it is a YOLOv5u for 1280 pixels", id="YOLOv5u, P6"),
        pytest.param("yolov5t.pt", "there is no such size", id="another size"),
    ],
)
def test_published_weights_that_are_not_offered(server, name, reason):
    with pytest.raises(
        InputError, match=f"^{name}: no such file, and it cannot be downloaded: {reason}"
    ) as said:
        ensure_weights(name)
    assert "yolov5, yolov8, yolo11, yolo12 and yolo26 in the sizes n, s, m, l and x can be" in str(said.value)
    assert server.asked == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        pytest.param("yolov5n", "yolov5n.pt", id="no suffix"),
        pytest.param("YOLOv8N.pt", "yolov8n.pt", id="capitals"),
        pytest.param("yolov11n.pt", "yolo11n.pt", id="a v too many"),
        pytest.param("yolo8n", "yolov8n.pt", id="no v"),
    ],
)
def test_a_name_that_is_nearly_one_of_the_offered(server, name, meant):
    with pytest.raises(InputError, match=f"^{name}: no such file; {meant} can be downloaded"):
        ensure_weights(name)
    assert server.asked == []


@pytest.mark.parametrize("cut", [pytest.param(0, id="no byte came"), pytest.param(300_000, id="some came")])
@pytest.mark.parametrize("ranges", [pytest.param(True, id="range"), pytest.param(False, id="range ignored")])
def test_a_broken_connection_is_told_and_taken_up_again(server, tmp_path, ranges, cut):
    server.files["/yolov5n.pt"] = BODY
    server.ranges, server.cut = ranges, cut
    with pytest.raises(InputError, match=rf"got {cut} of {len(BODY)} bytes; start again"):
        ensure_weights("yolov5n.pt")
    assert listing(tmp_path) == ["yolov5n.pt.part"]
    assert (tmp_path / "yolov5n.pt.part").read_bytes() == BODY[:cut]
    server.cut = None
    assert ensure_weights("yolov5n.pt").read_bytes() == BODY
    assert listing(tmp_path) == ["yolov5n.pt"]
    assert server.asked == [("/yolov5n.pt", None), ("/yolov5n.pt", f"bytes={cut}-" if cut else None)]


def test_broken_off_again_and_again(server, tmp_path):
    server.files["/yolov5n.pt"] = BODY
    server.cut = 500_000
    for have in (500_000, 1_000_000):
        with pytest.raises(InputError, match=rf"got {have} of {len(BODY)} bytes"):
            ensure_weights("yolov5n.pt")
    assert ensure_weights("yolov5n.pt").read_bytes() == BODY


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(BODY, id="whole already"),
        pytest.param(BODY + b"more", id="longer than the file"),
    ],
)
def test_a_part_that_the_server_has_nothing_to_add_to(server, tmp_path, part):
    server.files["/yolov5n.pt"] = BODY
    (tmp_path / "yolov5n.pt.part").write_bytes(part)
    assert ensure_weights("yolov5n.pt").read_bytes() == BODY
    assert listing(tmp_path) == ["yolov5n.pt"]


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_a_refusal_says_which_file_to_put_where(server, tmp_path, status):
    server.status = status
    with pytest.raises(InputError) as caught:
        ensure_weights("yolov5n.pt")
    message = str(caught.value)
    assert f"{server.url}/yolov5n.pt" in message
    assert f"Put the file at {tmp_path / 'yolov5n.pt'}" in message
    assert "SPARSITY_WEIGHTS_URL" in message
    assert "\n" not in message
    assert listing(tmp_path) == []


def test_a_refusal_keeps_the_part(server, tmp_path):
    server.status = 503
    (tmp_path / "yolov5n.pt.part").write_bytes(BODY[:1000])
    with pytest.raises(InputError):
        ensure_weights("yolov5n.pt")
    assert (tmp_path / "yolov5n.pt.part").read_bytes() == BODY[:1000]


@pytest.mark.parametrize(
    ("ensure", "name", "variable", "put"),
    [
        pytest.param(ensure_weights, "yolov5s.pt", "SPARSITY_WEIGHTS_URL", "yolov5s.pt", id="weights"),
        pytest.param(ensure_data, "coco.yaml", "SPARSITY_COCO_URL", "datasets/coco/val2017.zip", id="COCO"),
    ],
)
def test_no_server(tmp_path, monkeypatch, ensure, name, variable, put):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv(variable, f"http://127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="refused") as caught:
        ensure(name)
    assert f"Put the file at {tmp_path / put}" in str(caught.value)
    assert variable in str(caught.value)
    assert listing(tmp_path) == []


def test_the_folder_cannot_be_made(server, tmp_path):
    server.files["/yolov5n.pt"] = BODY
    (tmp_path / "weights").write_text("a file", encoding="utf-8")
    with pytest.raises(InputError, match="weights"):
        ensure_weights("weights/yolov5n.pt")


@pytest.fixture
def coco(server):
    """A server that has a small COCO."""
    images = {"val2017/": b"", "val2017/1.jpg": b"one", "val2017/2.jpg": b"two"}
    files = {"annotations/captions_val2017.json": b"{}", "annotations/instances_val2017.json": BODY}
    server.files = {IMAGES: archive(images, zipfile.ZIP_STORED), ANNOTATIONS: archive(files)}
    return server


COCO = ["annotations/instances_val2017.json", "images/val2017/1.jpg", "images/val2017/2.jpg"]


@pytest.mark.parametrize("name", ["coco", "coco.yaml"])
def test_coco_is_unpacked(coco, tmp_path, name):
    assert ensure_data(name) == Path("datasets/coco")
    assert listing(tmp_path / "datasets" / "coco") == COCO
    assert Path("datasets/coco/images/val2017/2.jpg").read_bytes() == b"two"
    assert Path("datasets/coco/annotations/instances_val2017.json").read_bytes() == BODY
    assert [path for path, _ in coco.asked] == [IMAGES, ANNOTATIONS]


def test_coco_is_fetched_once(coco):
    ensure_data("coco.yaml")
    coco.asked.clear()
    assert ensure_data("coco.yaml") == Path("datasets/coco")
    assert coco.asked == []


def test_only_what_is_missing_of_coco_is_fetched(coco, tmp_path):
    folder = tmp_path / "datasets" / "coco" / "images" / "val2017"
    folder.mkdir(parents=True)
    (folder / "9.jpg").write_bytes(b"mine")
    ensure_data("coco")
    assert [path for path, _ in coco.asked] == [ANNOTATIONS]
    assert listing(folder) == ["9.jpg"]


def test_archives_put_there_by_hand_are_unpacked(coco, tmp_path):
    folder = tmp_path / "datasets" / "coco"
    folder.mkdir(parents=True)
    for path in (IMAGES, ANNOTATIONS):
        (folder / Path(path).name).write_bytes(coco.files[path])
    ensure_data("coco")
    assert coco.asked == []
    assert listing(folder) == COCO


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_data_that_are_there_are_taken(coco, tmp_path, kind):
    if kind == "file":
        (tmp_path / "coco.yaml").write_text("path: .", encoding="utf-8")
    else:
        (tmp_path / "coco.yaml").mkdir()
    assert ensure_data("coco.yaml") == Path("coco.yaml")
    assert coco.asked == []


def test_other_data_are_not_fetched(coco):
    assert ensure_data("mine.yaml") == Path("mine.yaml")
    assert coco.asked == []


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes(255 - b for b in content[at : at + 8]) + content[at + 8 :]


IMAGE_ZIP = archive({"val2017/1.jpg": b"one" * 3000}, zipfile.ZIP_STORED)
DEFLATED_ZIP = archive({"val2017/1.jpg": bytes(range(256)) * 40})


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"<html>sign in</html>", id="a page in its place"),
        pytest.param(b"", id="empty"),
        pytest.param(IMAGE_ZIP[:-30], id="cut off"),
        pytest.param(flipped(IMAGE_ZIP, 500), id="stored bytes changed"),
        pytest.param(flipped(DEFLATED_ZIP, 45), id="deflated bytes changed at the start"),
        pytest.param(flipped(DEFLATED_ZIP, 300), id="deflated bytes changed in the middle"),
        pytest.param(archive({"train2017/1.jpg": b"one"}), id="another archive"),
    ],
)
def test_a_damaged_archive(coco, tmp_path, content):
    coco.files[IMAGES] = content
    with pytest.raises(InputError, match=r"val2017\.zip: damaged .*; delete it and start again"):
        ensure_data("coco")
    assert not (tmp_path / "datasets/coco/images/val2017").exists()
    assert listing(tmp_path) == ["datasets/coco/val2017.zip"]


def test_a_broken_download_of_coco_leaves_no_archive(coco, tmp_path):
    coco.cut = 50
    with pytest.raises(InputError, match="start again"):
        ensure_data("coco")
    assert listing(tmp_path) == ["datasets/coco/val2017.zip.part"]
    coco.cut = None
    ensure_data("coco")
    assert listing(tmp_path / "datasets" / "coco") == COCO
