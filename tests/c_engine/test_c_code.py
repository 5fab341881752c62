"""C code: compiled, it gives what torch gives, in each width of vectors, and the boxes of validation."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from sparsity import Pruner, SlimmingSettings, compact, load, save, slim
from sparsity.base.errors import InputError
from sparsity.c_engine.source import write_source
from sparsity.c_engine.targets import TARGETS
from sparsity.c_engine.text import identifier, quoted
from sparsity.commands.running import run_command
from sparsity.formats.half import round_to_half
from sparsity.sparse_engine import CompiledNetwork, tuning
from sparsity.validation.nms import non_maximum_suppression
from sparsity.yolo.network import Network
from tests.narrow_networks import narrow

STRICT = ("-std=gnu11", "-Wall", "-Wextra", "-Werror")
WIDTHS = [
    *(("yolov5", lanes) for lanes in (4, 8, 16)),
    *(("yolov8", 8), ("yolo11", 4), ("yolo12", 16), ("yolo26", 8), ("yolo26 one2one", 4)),
]
"""Families, and numbers of lanes."""
CROSS = {"aarch64": "aarch64-linux-gnu-gcc", "riscv64": "riscv64-linux-gnu-gcc"}
FLOATS = np.ctypeslib.ndpointer(np.float32, flags="C")


def tool(name: str) -> str:
    """The path of a program; the test is skipped where there is none."""
    if (path := shutil.which(name)) is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.fixture
def family(request, tiny, tiny_yolov8) -> Network:
    """The narrow network that the test's parameter names."""
    return {"yolov5": tiny, "yolov8": tiny_yolov8}.get(request.param) or narrow(request.param)


def build_code(network: Network, folder: Path, *flags: str, size=(64, 96), target="x86-64-v4", cc="gcc"):
    """A shared library of a network's C code, in a folder of its own."""
    compiler = tool(cc)
    source = write_source(network, "net", *size, target)
    folder.mkdir(exist_ok=True)
    (folder / "net.c").write_text(source.code)
    (folder / "net.h").write_text(source.header)
    command = [compiler, "-O1", *STRICT, *flags, "-shared", "-fPIC", "net.c", "-o", "net.so", "-lm"]
    subprocess.run(command, check=True, cwd=folder)
    return ctypes.CDLL(str(folder / "net.so"))


def run_code(library: ctypes.CDLL, images: torch.Tensor, numbers: int) -> np.ndarray:
    """The raw maps of images, [images, numbers of an image's maps]."""
    run = library.net_run
    run.argtypes = [FLOATS, ctypes.c_int, FLOATS]
    maps = np.full((len(images), numbers), np.nan, np.float32)
    assert run(np.ascontiguousarray(images.numpy()), len(images), maps) == 0
    return maps


def pruned(network: Network, amount: float) -> Network:
    """A copy of the network, pruned by magnitude."""
    return Pruner(network).prune("l1", amount)


def in_torch(network: Network, images: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return torch.cat([raw.flatten(1) for raw in network.eval()(images)], 1).numpy()


def assert_same(network: Network, folder: Path, *flags: str, size=(64, 96), **options: str) -> None:
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    expected = in_torch(network, images)
    library = build_code(network, folder, *flags, size=size, **options)
    found = run_code(library, images, expected.shape[1])
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


class Box(ctypes.Structure):
    _fields_ = [(name, ctypes.c_float) for name in ("x1", "y1", "x2", "y2", "score")] + [
        ("label", ctypes.c_int)
    ]


class Fit(ctypes.Structure):
    _fields_ = [
        ("width", ctypes.c_int),
        ("height", ctypes.c_int),
        ("gain", ctypes.c_float),
        ("left", ctypes.c_int),
        ("top", ctypes.c_int),
    ]


def numbers_of(boxes: ctypes.Array, count: int) -> np.ndarray:
    return np.array([[getattr(one, name) for name, _ in Box._fields_] for one in boxes[:count]]).reshape(
        -1, 6
    )


@pytest.mark.slow
@pytest.mark.parametrize(("family", "lanes"), WIDTHS, indirect=["family"])
def test_every_family_gives_what_torch_gives(family, lanes, tmp_path):
    assert_same(pruned(family, 0.5), tmp_path, f"-DNET_LANES={lanes}", size=(96, 160))


@pytest.mark.slow
def test_every_block_gives_what_torch_gives_or_is_named(odd_network, tmp_path):
    _, network = odd_network
    try:
        write_source(network, "net", 64, 64, "x86-64-v4")
    except InputError as error:
        with pytest.raises(InputError, match="the sparse engine does not support") as named:
            CompiledNetwork(network)
        reason = str(named.value).partition(";")[0]
        assert str(error) == f"C code can't run this network: {reason}; an .onnx file can"  # noqa: PT017
        return
    assert_same(network, tmp_path, size=(64, 64))


@pytest.mark.parametrize("size", [(32, 32), (64, 160)])
@pytest.mark.parametrize("amount", [0, 0.9])
def test_other_sizes_and_amounts(tiny, tmp_path, size, amount):
    assert_same(pruned(tiny, amount) if amount else tiny, tmp_path, size=size)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_every_target_is_right(tiny, tmp_path, target):
    assert_same(pruned(tiny, 0.4), tmp_path, target=target)


def test_choices_of_this_machine_are_measured(tiny, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(tuning, "_measure", lambda _network, *given: asked.append(given[:2]) or {})
    assert_same(tiny, tmp_path, target="this")
    assert asked == [(64, 96)]


def test_slimmed_and_compacted_networks(tiny, tmp_path):
    slimmed = slim(tiny, SlimmingSettings(percent=0.3, min_channels=3, round_to=1, by="l1")).network
    assert_same(slimmed, tmp_path / "slimmed")
    with torch.no_grad():
        tiny.get_parameter("model.2.cv1.conv.weight")[1:3] = 0
        tiny.get_parameter("model.2.cv1.conv.bias")[1:3] = -1
    compact(tiny)
    assert_same(tiny, tmp_path / "compacted")


@pytest.mark.slow
@pytest.mark.parametrize("cc", ["gcc", "clang"])
def test_sanitizers_find_nothing(tiny, tmp_path, cc):
    """Of a program, because a sanitizer must be loaded first. One run of all that a caller uses."""
    network = pruned(tiny, 0.5)
    program = write_program(network, tmp_path)
    flags = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    command = [tool(cc), *flags, *STRICT, *program, "-o", "main", "-lm"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    if "cannot find" in done.stderr and "clang_rt" in done.stderr:
        pytest.skip("clang has no sanitizers here")
    assert not done.stderr
    check_program([str(tmp_path / "main")], network, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("cpu", CROSS)
def test_other_cpus_under_qemu(tiny, tmp_path, cpu):
    network = pruned(tiny, 0.5)
    program = write_program(network, tmp_path)
    command = [tool(CROSS[cpu]), "-O2", "-static", *STRICT, *program, "-o", "main", "-lm"]
    emulator = tool(f"qemu-{cpu}")
    subprocess.run(command, check=True, cwd=tmp_path)
    check_program([emulator, str(tmp_path / "main")], network, tmp_path)


MAIN = """
#include <stdio.h>
#include "net.h"

static float images[2 * 3 * NET_HEIGHT * NET_WIDTH], maps[2 * NET_MAPS];
static struct net_box boxes[1000];

int main(int count, char **names)
{
    FILE *file = fopen(names[1], "rb");
    if (count != 3 || fread(images, sizeof(float), sizeof images / 4, file) != sizeof images / 4)
        return 2;
    fclose(file);
    if (net_run(images, 2, maps) || net_run(images, 0, maps) != -1)
        return 3;
    if (net_detect(images, 0.01f, 0.5f, boxes, 1000) < 1)
        return 4;
    file = fopen(names[2], "wb");
    fwrite(maps, sizeof(float), sizeof maps / 4, file);
    return fclose(file);
}
"""


def write_program(network: Network, folder: Path) -> list[str]:
    """Write a program that runs a network on two images in a file. Returns its sources."""
    source = write_source(network, "net", 64, 96, "x86-64-v3")
    for name, text in (("net.c", source.code), ("net.h", source.header), ("main.c", MAIN)):
        (folder / name).write_text(text)
    return ["net.c", "main.c"]


def check_program(command: list[str], network: Network, folder: Path) -> None:
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    images.numpy().tofile(folder / "images")
    found = []
    for name in ("first", "second"):
        subprocess.run([*command, folder / "images", folder / name], check=True, cwd=folder)
        found.append(np.fromfile(folder / name, np.float32))
    expected = in_torch(network, images).ravel()
    assert np.abs(found[0] - expected).max() < 1e-4 * np.abs(expected).max()
    assert np.array_equal(found[0].view(np.uint32), found[1].view(np.uint32))


@pytest.mark.assets
@pytest.mark.parametrize("lanes", [4, 16])
def test_the_real_yolov5n_to_1e_4(assets, tmp_path, lanes):
    network = pruned(load(assets / "yolov5n.pt"), 0.8)
    assert_same(network, tmp_path, f"-DNET_LANES={lanes}", size=(256, 320))


def test_results_are_the_same_bits_with_any_number_of_threads(tiny, tmp_path):
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    count = in_torch(tiny, images).shape[1]
    alone = run_code(build_code(tiny, tmp_path / "one"), images, count)
    for threads in (1, 3):
        flags = ("-fopenmp", f"-DNET_THREADS={threads}")
        team = run_code(build_code(tiny, tmp_path / str(threads), *flags), images, count)
        assert np.array_equal(alone.view(np.uint32), team.view(np.uint32))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["yolov5", "yolov8", "yolo26", "yolo26 one2one"], indirect=True)
def test_boxes_are_those_of_validation(family, tmp_path):
    """Suppression is compared apart, because random networks give many boxes of nearly equal scores."""
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        scores = family.head.candidates(family(images), 0.0).scores
        conf = float(scores.sort(descending=True).values[min(200, len(scores) - 1)]) - 1e-6
        expected = family.head.candidates(family(images), conf)
    library = build_code(family, tmp_path)
    maps = run_code(library, images, in_torch(family, images).shape[1])
    boxes = (Box * 1000)()
    count = decode(library, maps, conf, boxes)
    assert count == pytest.approx(len(expected.scores), abs=2)
    assert count > 50
    for box in numbers_of(boxes, count):
        same = (expected.classes.numpy() == box[5]) & (np.abs(expected.scores.numpy() - box[4]) < 1e-5)
        apart = np.abs(expected.boxes_xyxy.numpy()[same] - box[:4]).max(1)
        assert apart.min() < 1e-2
    if family.dialect == "yolo26_one2one":
        order = np.argsort(-numbers_of(boxes, count)[:, 4], kind="stable")
        count, kept = min(count, 300), numbers_of(boxes, count)[order][:300]
    else:
        count = suppress(library, boxes, count, 0.45, agnostic=False)
        kept = numbers_of(boxes, count)
    found = (Box * 300)()
    detect = library.net_detect
    detect.argtypes = [FLOATS, ctypes.c_float, ctypes.c_float, ctypes.POINTER(Box), ctypes.c_int]
    assert detect(np.ascontiguousarray(images.numpy()), conf, 0.45, found, 300) == count
    assert np.array_equal(numbers_of(found, count)[:, 4], kept[:, 4])


def decode(library: ctypes.CDLL, maps: np.ndarray, conf: float, boxes: ctypes.Array) -> int:
    library.net_decode.argtypes = [FLOATS, ctypes.c_float, ctypes.POINTER(Box), ctypes.c_int]
    return library.net_decode(maps, conf, boxes, len(boxes))


def suppress(
    library: ctypes.CDLL, boxes: ctypes.Array, count: int, iou: float, *, agnostic: bool, most=300
) -> int:
    library.net_nms.argtypes = [
        ctypes.POINTER(Box),
        ctypes.c_int,
        ctypes.c_float,
        ctypes.c_int,
        ctypes.c_int,
    ]
    return library.net_nms(boxes, count, iou, int(agnostic), most)


@pytest.mark.parametrize("agnostic", [False, True])
def test_suppression_is_that_of_validation(tiny, tmp_path, agnostic):
    library, generator = build_code(tiny, tmp_path), torch.Generator().manual_seed(1)
    corners = torch.rand(400, 2, generator=generator) * 60
    sides = torch.rand(400, 2, generator=generator) * 40
    boxes_xyxy, scores = torch.cat((corners, corners + sides), 1), torch.rand(400, generator=generator)
    classes = torch.randint(3, (400,), generator=generator)
    image = torch.zeros(400, dtype=torch.int64)
    options = {"images": 1, "iou_thres": 0.45, "max_det": 300, "agnostic": agnostic}
    (expected,) = non_maximum_suppression(image, boxes_xyxy, scores, classes, **options)
    rows = zip(boxes_xyxy.tolist(), scores.tolist(), classes.tolist(), strict=True)
    boxes = (Box * 400)(*(Box(*box, score, label) for box, score, label in rows))
    found = numbers_of(boxes, suppress(library, boxes, 400, 0.45, agnostic=agnostic))
    assert 20 < len(expected) < 300
    assert np.array_equal(found[:, :4], expected.boxes_xyxy.double().numpy())
    assert np.array_equal(found[:, 5], expected.classes.numpy())


def test_decoding_counts_what_does_not_fit(tiny, tmp_path):
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    library = build_code(tiny, tmp_path)
    maps = run_code(library, images, in_torch(tiny, images).shape[1])
    boxes = (Box * 4)()
    with torch.inference_mode():
        expected = len(tiny.head.candidates(tiny(images), 0.1).scores)
    assert expected > 4
    assert decode(library, maps, 0.1, (Box * 3).from_buffer(boxes)) == pytest.approx(expected, abs=1)
    assert boxes[2].score > 0.1
    assert boxes[3].score == 0


def test_nms_of_a_case_by_hand(tiny, tmp_path):
    library = build_code(tiny, tmp_path)
    rows = [(0, 0, 10, 10, 0.5, 0), (0, 0, 10, 9, 0.9, 0), (0, 0, 10, 10, 0.8, 1), (50, 50, 60, 60, 0.7, 0)]

    def left(agnostic: bool, most: int) -> list[tuple[float, int]]:
        boxes = (Box * 4)(*(Box(*row) for row in rows))
        count = suppress(library, boxes, 4, 0.5, agnostic=agnostic, most=most)
        return [(round(one.score, 3), one.label) for one in boxes[:count]]

    assert left(False, 300) == [(0.9, 0), (0.8, 1), (0.7, 0)]
    assert left(True, 300) == [(0.9, 0), (0.7, 0)]
    assert left(False, 1) == [(0.9, 0)]


@pytest.mark.parametrize("shape", [(40, 100), (200, 120), (64, 96), (1, 1)])
def test_a_picture_is_letterboxed_and_boxes_mapped_back(tiny, tmp_path, shape):
    height, width = shape
    library = build_code(tiny, tmp_path)
    picture = np.full((height, width, 3), (10, 20, 30), np.uint8)
    rgb = np.zeros((3, 64, 96), np.float32)
    library.net_letterbox.restype = Fit
    library.net_letterbox.argtypes = [
        np.ctypeslib.ndpointer(np.uint8, flags="C"),
        ctypes.c_int,
        ctypes.c_int,
        FLOATS,
    ]
    fit = library.net_letterbox(picture, width, height, rgb)
    assert fit.gain == pytest.approx(min(64 / height, 96 / width))
    inside = rgb[:, fit.top : 64 - fit.top, fit.left : 96 - fit.left]
    assert np.allclose(inside * 255, np.array([10, 20, 30])[:, None, None], atol=1e-3)
    across, down = round(width * fit.gain), round(height * fit.gain)
    grey = np.isclose(rgb, 114 / 255).all(0)
    assert (~grey).sum() == across * down
    corners = (fit.left, fit.top, fit.left + across, fit.top + down)
    boxes = (Box * 1)(Box(*corners, 0.5, 0))
    library.net_to_picture(ctypes.byref(fit), boxes, 1)
    assert numbers_of(boxes, 1)[0, :4] == pytest.approx([0, 0, width, height], abs=0.51 / fit.gain)


def test_a_header_for_cpp(tiny, tmp_path):
    source = write_source(tiny, "net", 32, 32, "x86-64-v3")
    (tmp_path / "net.h").write_text(source.header)
    (tmp_path / "a.cpp").write_text('#include "net.h"\nint main() { return net_names[0] == nullptr; }\n')
    subprocess.run([tool("g++"), "-Wall", "-Werror", "-c", "a.cpp"], check=True, cwd=tmp_path)


def test_names_of_classes_are_texts_of_c(tiny, tmp_path):
    tiny.names = ('a "cat"\\', "dög ??/", "*/ \n")
    library = build_code(tiny, tmp_path)
    names = (ctypes.c_char_p * 3).in_dll(library, "net_names")
    assert tuple(name.decode() for name in names) == tiny.names


@pytest.mark.parametrize(
    ("stem", "name"), [("yolov5n-50", "yolov5n_50"), ("80%", "net_80"), ("", "network"), ("é", "network")]
)
def test_identifiers(stem, name):
    assert identifier(stem) == name


def test_quoted():
    assert quoted('a?\\"é') == '"a\\077\\134\\042\\303\\251"'


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"imgsz": 100}, "`imgsz` is 100 x 100; multiples of 32 are expected for C code"),
        ({"imgsz": (64, 0)}, "`imgsz` is 64 x 0; multiples of 32"),
        ({"imgsz": 200000}, "`imgsz` is 200000 x 200000: such images are too large for C code"),
        ({"target": "pentium"}, "`target` is 'pentium'; one of this, cortex-a53"),
    ],
)
def test_what_cannot_be_written(tiny, tmp_path, options, words):
    with pytest.raises(InputError, match=re.escape(words)):
        save(tiny, tmp_path / "a.c", **({"imgsz": 64, "target": "riscv64"} | options))
    assert list(tmp_path.glob("*.c")) == []


def test_save_writes_the_code_and_its_header(tiny, tmp_path):
    save(tiny, tmp_path / "my-net.c", imgsz=(64, 96), target="riscv64")
    rounded = write_source(round_to_half(tiny), "my-net", 64, 96, "riscv64")
    assert (tmp_path / "my-net.c").read_text() == rounded.code
    assert (tmp_path / "my-net.h").read_text() == rounded.header
    assert "NAME_" not in rounded.code + rounded.header


def test_c_code_is_not_read(tmp_path):
    (tmp_path / "a.c").write_text("int x;")
    with pytest.raises(InputError, match=r"C code is not read; give the \.pt or \.safetensors"):
        load(tmp_path / "a.c")


def test_convert_says_what_its_flags_are_for(capsys, tiny, tmp_path):
    def convert(*line: str) -> str:
        with pytest.raises(SystemExit):
            run_command("convert", list(line))
        said = capsys.readouterr()
        return said.out + said.err

    save(tiny, tmp_path / "a.pt")
    source, target = str(tmp_path / "a.pt"), str(tmp_path / "a.c")
    assert "a.c" in convert(source, target, "--imgsz", "64x96", "--for", "cortex-a76")
    assert "64 x 96 pixels" in (tmp_path / "a.c").read_text()[:400]
    for line, words in (
        ([source, target], "a.c: exists already"),
        ([source, str(tmp_path / "b.c"), "--imgsz", "big"], "'big' is not a size"),
        ([source, str(tmp_path / "b.c"), "--for", "vax"], "--for is 'vax'"),
        ([source, str(tmp_path / "b.onnx"), "--imgsz", "64"], "--imgsz and --for are for C code"),
    ):
        assert words in convert(*line)
