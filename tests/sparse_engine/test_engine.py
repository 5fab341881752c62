"""Whole networks in the sparse engine, and its files on disk."""

import gc
import json
import os
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from sparsity import SlimmingSettings, load, prune, slim
from sparsity.base.errors import InputError
from sparsity.engines.making import make_engine
from sparsity.sparse_engine import CompiledNetwork, build, compile, explain, format_lines, tuning
from sparsity.sparse_engine.choices import Choice, fits
from sparsity.sparse_engine.graph import Convolution, Graph, Map
from sparsity.sparse_engine.layout import lay_out
from sparsity.sparse_engine.machine import MACHINE, this_machine
from sparsity.sparse_engine.private_folder import open_private, reason_against
from sparsity.sparse_engine.reading import read_graph
from sparsity.sparse_engine.team import Team

UNKNOWN = {
    "C3x, of CrossConv": "a convolution that is not square",
    "C3TR": "the operation",
    "Contract and Expand": "the operation",
}
"""Blocks that the engine does not support -> the words of its error."""


def assert_same(network, images, threads=1, compiled=None):
    found = (compiled or CompiledNetwork(network, threads))(images)
    with torch.inference_mode():
        expected = network(images)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert float((one - other).abs().max() / other.abs().max()) < 1e-5


def test_every_block_gives_what_torch_gives_or_is_named(odd_network):
    name, network = odd_network
    if UNKNOWN.get(name):
        with pytest.raises(
            InputError, match=f"the sparse engine does not support {UNKNOWN[name]}.*`engine` torch"
        ):
            CompiledNetwork(network)
        return
    assert_same(network, torch.randn(2, 3, 40, 56))
    assert_nearly_the_same(network, torch.randn(2, 3, 40, 56))


def assert_nearly_the_same(network, images, threads=1):
    """The maps differ from float32 by the rounding of bfloat16, which has 8 bits, and by that of bytes."""
    with torch.inference_mode():
        expected = network(images)
    for dtype, most in ((torch.bfloat16, 0.03), (torch.int8, 0.15)):
        found = CompiledNetwork(network, threads, dtype=dtype, calibration=[images])(images)
        for one, other in zip(found, expected, strict=True):
            assert one.shape == other.shape
            assert one.dtype == torch.float32
            assert float((one - other).norm() / other.norm()) < most


@pytest.mark.parametrize("amount", [0, 0.5, 0.95, 1])
@pytest.mark.parametrize("size", [(64, 64), (96, 224), (32, 352)])
def test_pruned_yolov5_and_yolov8(tiny, tiny_yolov8, amount, size):
    for network in (tiny, tiny_yolov8):
        for conv in (m for m in network.modules() if isinstance(m, torch.nn.Conv2d)):
            with torch.no_grad():
                conv.weight[torch.rand_like(conv.weight) < amount] = 0
        assert_same(network, torch.randn(2, 3, *size), threads=2)
        assert_nearly_the_same(network, torch.randn(2, 3, *size), threads=2)


def test_a_slimmed_network_with_odd_channels(tiny):
    cut = slim(tiny, SlimmingSettings(percent=0.3, by="l1", min_channels=1)).network
    odd = [conv for conv in cut.modules() if isinstance(conv, torch.nn.Conv2d) and conv.in_channels % 2]
    assert len(odd) > 3
    assert_same(cut, torch.randn(1, 3, 64, 96))
    assert_nearly_the_same(cut, torch.randn(1, 3, 64, 96))


def test_packed_weights_are_skipped_where_all_of_them_are_zero(network):
    conv = network.get_submodule("model.1.conv")
    with torch.no_grad():
        conv.weight[:, [0, 1, 2, 3, 4, 5, 7]] *= 0  # as masks do: a negative weight becomes -0
    assert conv.weight[conv.weight == 0].signbit().any()
    images = torch.rand(1, 3, 64, 64)
    weights = {}
    for dtype in (torch.float32, torch.bfloat16, torch.int8):
        program = CompiledNetwork(network, 1, dtype=dtype, calibration=[images]).program(64, 64)
        weights[dtype] = program.tasks[program.names.index("model.1.conv")].weights
    each = conv.out_channels * conv.kernel_size[0] ** 2
    assert conv.in_channels % 4 == 0
    assert weights[torch.float32] == each * (conv.in_channels - 7)
    assert weights[torch.bfloat16] == each * (conv.in_channels // 2 - 3), "half a pair is not skipped"
    fours = each * (conv.in_channels // 4 - 1)
    assert 0.99 * fours < weights[torch.int8] <= fours, "few are rounded to four zeros"


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        pytest.param(torch.float16, "`dtype` is torch.float16; one of torch.float32", id="half"),
        pytest.param(torch.int8, "int8 needs images; give some as `calibration`", id="no images"),
    ],
)
def test_data_types_that_cannot_be_used(tiny, dtype, words):
    with pytest.raises(InputError, match=words):
        CompiledNetwork(tiny, dtype=dtype)


def test_unfused_networks_are_fused_and_left_as_they_are(shallow_unfused):
    before = {name: value.clone() for name, value in shallow_unfused.state_dict().items()}
    assert_same(shallow_unfused, torch.randn(1, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in shallow_unfused.state_dict().items())


@pytest.mark.assets
@pytest.mark.parametrize("amount", [0, 0.5, 0.9])
def test_the_real_yolov5n_to_1e_4(assets, amount):
    network = prune(load(assets / "yolov5n.pt"), amount)
    compiled = CompiledNetwork(network, 2)
    for size in ((640, 640), (480, 672)):
        assert_same(network, torch.rand(1, 3, *size), compiled=compiled)


@pytest.mark.assets
def test_the_real_yolov8n(assets):
    network = prune(load(assets / "yolov8n_train50.pt"), 0.5)
    assert_same(network, torch.rand(1, 3, 320, 416), threads=2)


def test_calls_at_the_same_time_do_not_mix(tiny):
    compiled = CompiledNetwork(tiny, 2)
    images = [torch.randn(1, 3, 64, 32 * (1 + n % 3)) for n in range(12)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(compiled, images))
    for one, image in zip(found, images, strict=True):
        assert all(map(torch.equal, one, compiled(image)))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        pytest.param(torch.zeros(1, 3, 64, 50), r"\[1, 3, 64, 50\].*multiples of 32", id="side"),
        pytest.param(torch.zeros(1, 4, 64, 64), "3, height", id="channels"),
        pytest.param(torch.zeros(3, 64, 64), "float32", id="no batch"),
        pytest.param(torch.zeros(0, 3, 64, 64), "float32", id="empty"),
        pytest.param(torch.zeros(1, 3, 64, 64, dtype=torch.float16), "float16", id="half"),
        pytest.param(np.zeros((1, 3, 64, 64), np.float32), "a torch.Tensor is expected", id="numpy"),
    ],
)
def test_images_that_do_not_fit(tiny, images, words):
    with pytest.raises(InputError, match=words):
        CompiledNetwork(tiny)(images)


def test_no_threads(tiny):
    with pytest.raises(InputError, match="`threads` is 0"):
        CompiledNetwork(tiny, 0)


def test_maps_alive_at_the_same_time_do_not_overlap(tiny_yolov8):
    graph = read_graph(tiny_yolov8)
    places = lay_out(graph, 64, 96).places
    last = {}
    for number, step in enumerate(graph.steps):
        for one in (step.source, getattr(step, "residual", None)):
            if one is not None:
                last[one.home()[0]] = number
    held: dict[Map, range] = {}
    for number, step in enumerate(graph.steps):
        home = step.result.home()[0]
        place = places[step.result]
        mine = range(place.offset, place.offset + place.pitch * (place.cells.rows - 1) + place.plane)
        for other, taken in held.items():
            if other is not home and last.get(other, len(graph.steps)) >= number:
                assert mine.stop <= taken.start or taken.stop <= mine.start
        held[home] = mine if step.result is home else range(0, 0)
    assert sum(len(one) > 0 for one in held.values()) > 10


def test_compile_measures_once_and_explains(tiny, monkeypatch):
    compiled = compile(tiny, imgsz=64, threads=1)
    kept = json.loads(tuning._file().read_text())
    assert kept
    monkeypatch.setattr(tuning, "_measure", lambda *_: pytest.fail("measured again"))
    assert_same(tiny, torch.randn(1, 3, 64, 64), compiled=compile(tiny, imgsz=64, threads=1))
    lines = explain(compiled, 64, 64)
    convolutions = sum(isinstance(step, Convolution) for step in read_graph(tiny).steps)
    assert sum(line.share is not None for line in lines) == convolutions
    assert all(0 < line.share < 1.2 for line in lines if line.share is not None)
    assert "model.0.conv" in format_lines(lines)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("{", id="cut off"),
        pytest.param("[]", id="a list"),
        pytest.param('{"a": [1, 1, 1, 1]}', id="a number missing"),
        pytest.param('{"a": "b"}', id="words"),
    ],
)
def test_choices_on_disk_that_are_damaged_are_measured_anew(tiny, content):
    path = tuning._file()
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert tuning._read() == {}
    compile(tiny, imgsz=32, threads=1)
    assert tuning._read()


@pytest.mark.parametrize(
    "choice",
    [
        pytest.param([9, 9, 1, 1, 1], id="an unknown tile"),
        pytest.param([*max(MACHINE.tiles), 1, 1, 1], id="a tile larger than the maps"),
        pytest.param([1, 1, 0, 1, 1], id="no channels"),
        pytest.param([1, 1, 1, 10_000, 1], id="more spans than outputs"),
        pytest.param([1, 1, 1, -1, 1], id="less than one span"),
    ],
)
def test_choices_on_disk_that_fit_no_task_are_measured_anew(tiny, choice, monkeypatch):
    measured = []
    monkeypatch.setattr(tuning, "_measure", lambda *given: measured.extend(given[3]) or {})
    compiled = CompiledNetwork(tiny, 1)
    tasks = compiled.program(32, 32).tasks.values()
    path = tuning._file()
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({tuning._key(task): choice for task in tasks}))
    tuning.tune(compiled, 32, 32)
    assert measured
    program = compiled.program(32, 32)
    assert all(fits(task, program.choices[index]) for index, task in program.tasks.items())
    assert_same(tiny, torch.randn(1, 3, 32, 32), compiled=compiled)


def test_a_choice_is_taken(tiny):
    compiled = CompiledNetwork(tiny, 1)
    task = next(iter(compiled.program(32, 32).tasks.values()))
    compiled.choose({task: Choice(MACHINE.tiles[0], 1, 1, 1)})
    assert next(iter(compiled.program(32, 32).choices.values())).block == 1
    assert_same(tiny, torch.randn(1, 3, 32, 32), compiled=compiled)


def _kernel(program, threads, counters, batch, memory, sums, scratch, images, maps, tables):
    """A stand-in for the kernels, which compiles quickly."""


def test_machine_code_is_kept_and_damage_does_no_harm(monkeypatch, tmp_path):
    monkeypatch.setattr(build.kernels, "run_program", _kernel)
    build._load.__wrapped__(np.float32)
    files = list((tmp_path / "cache").rglob("*.nbc"))
    assert len(files) == 1
    again = build._load.__wrapped__(np.float32)
    assert sum(again.stats.cache_hits.values()) == 1
    files[0].write_bytes(files[0].read_bytes()[:100])
    assert build._load.__wrapped__(np.float32).signatures
    monkeypatch.setattr(build, "cache_folder", lambda: Path("/proc/nowhere"))
    assert build._load.__wrapped__(np.float32).signatures


def test_a_missing_numba_is_named_with_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(InputError, match=r"`engine` sparse needs the package numba.*pip install numba"):
        make_engine("sparse")


def test_the_package_without_numba_names_the_pip_line():
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "from sparsity import InputError\n"
        "try:\n    from sparsity.sparse_engine import compile\n"
        "except InputError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "the sparse engine needs the package numba" in done.stdout
    assert "pip install numba" in done.stdout


def test_the_folder_of_machine_code_is_private(monkeypatch, tmp_path):
    monkeypatch.setattr(build.kernels, "run_program", _kernel)
    before = os.umask(0o002)  # as many systems have it: what numba writes can be written by the group
    try:
        build._load.__wrapped__(np.float32)
    finally:
        os.umask(before)
    folder = build._folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 2
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)
    assert open_private(folder) == ""
    assert sum(build._load.__wrapped__(np.float32).stats.cache_hits.values()) == 1


@pytest.mark.parametrize("what", ["folder", "file", "link"])
def test_machine_code_that_others_can_write_is_not_read(monkeypatch, capsys, what):
    monkeypatch.setattr(build.kernels, "run_program", _kernel)
    build._load.__wrapped__(np.float32)
    folder = build._folder()
    file = next(folder.rglob("*.nbi"))
    if what == "link":
        (folder / "link").symlink_to(file)
    else:
        (folder if what == "folder" else file).chmod(0o777)
    held = file.read_bytes(), file.stat().st_mtime_ns
    loaded = build._load.__wrapped__(np.float32)
    assert loaded.signatures
    assert loaded.stats.cache_path is None, "compiled in memory"
    out = capsys.readouterr().out
    assert ("is a link" if what == "link" else "can be written by other users") in out
    assert len(out.strip().splitlines()) == 1
    assert (file.read_bytes(), file.stat().st_mtime_ns) == held


def test_nothing_is_cached_beside_the_source_where_the_folder_cant_be_made(monkeypatch, tmp_path):
    source = tmp_path / "module_with_a_kernel.py"
    names = "program, threads, counters, batch, memory, sums, scratch, images, maps, tables"
    source.write_text(f"def kernel({names}):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(build.kernels, "run_program", import_module("module_with_a_kernel").kernel)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(build, "cache_folder", lambda: tmp_path / "file" / "below")
    assert build._load.__wrapped__(np.float32).signatures
    assert not (tmp_path / "__pycache__").exists()


ME, OTHER = 1000, 1001


@pytest.mark.parametrize(
    ("mode", "owner", "reason"),
    [
        pytest.param(stat.S_IFDIR | 0o700, ME, "", id="private"),
        pytest.param(stat.S_IFREG | 0o644, ME, "", id="readable by all"),
        pytest.param(stat.S_IFREG | 0o660, ME, "can be written by other users", id="by the group"),
        pytest.param(stat.S_IFDIR | 0o1777, ME, "can be written by other users", id="by all, sticky"),
        pytest.param(stat.S_IFREG | 0o600, OTHER, "belongs to another user", id="of another"),
        pytest.param(stat.S_IFREG | 0o600, 0, "belongs to another user", id="of root"),
        pytest.param(stat.S_IFLNK | 0o777, ME, "is a link", id="link"),
    ],
)
def test_what_is_not_trusted(mode, owner, reason):
    assert reason_against(mode, owner, ME) == reason


def test_a_backbone_that_goes_deeper_than_the_head(two_heads):
    assert read_graph(two_heads).largest == 32
    assert_same(two_heads, torch.randn(1, 3, 64, 96))
    with pytest.raises(InputError, match="multiples of 32"):
        CompiledNetwork(two_heads)(torch.zeros(1, 3, 48, 64))


def test_the_number_of_lanes_is_checked(monkeypatch):
    monkeypatch.setenv("SPARSITY_ENGINE_LANES", "7")
    with pytest.raises(InputError, match="SPARSITY_ENGINE_LANES is '7'; 4, 8 or 16"):
        this_machine()


def test_maps_too_small_for_their_halo_are_refused():
    image = Map(3, 8)
    weight = np.ones((3, 3, 13, 13), np.float32)
    step = Convolution("wide", image, Map(3, 8), weight, np.zeros(3, np.float32), padding=6)
    with pytest.raises(InputError, match=r"a map of 1 x 1 cells is too small.*larger `imgsz`"):
        lay_out(Graph(image, (step,), (step.result,), 8, (step.result.channels,)), 8, 8)


def test_the_threads_of_a_network_end_with_it(tiny):
    before = threading.active_count()
    compiled = CompiledNetwork(tiny, 3)
    for width in (32, 64, 96, 128):
        compiled(torch.randn(1, 3, 32, width))
    assert threading.active_count() > before
    del compiled
    gc.collect()
    for _ in range(100):
        if threading.active_count() == before:
            break
        time.sleep(0.05)
    assert threading.active_count() == before


def test_what_goes_wrong_in_a_thread_is_raised():
    team = Team(3)

    def fail(number):
        if number == 2:
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        team.run(fail)
    seen = []
    team.run(seen.append)
    assert sorted(seen) == [0, 1, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("side", [64, 96])
def test_cells_where_the_engine_computed_them_are_those_of_the_raw_maps(tiny, dtype, side):
    images = torch.rand(3, 3, 64, side)
    maps = CompiledNetwork(tiny, 2, dtype=dtype).compute(images)
    raw = maps.tensors()
    expected = tiny.candidates(raw, 0.1)
    found = tiny.candidates(maps.cells(), 0.1)
    assert len(expected.scores) > 0
    for name in ("image", "boxes_xyxy", "scores", "classes"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    assert len(maps) == len(raw)
    assert torch.equal(maps[0], raw[0])


def test_raw_maps_stay_while_the_network_runs_again(tiny):
    images = torch.rand(2, 3, 64, 64)
    compiled = CompiledNetwork(tiny, 1)
    held = compiled.compute(images)
    before = compiled(images)
    compiled(images + 1)
    assert all(map(torch.equal, held.tensors(), before))


def test_the_memory_of_raw_maps_is_used_again_once_they_are_gone(tiny):
    compiled = CompiledNetwork(tiny, 1)
    addresses = set()
    for _ in range(4):
        addresses.add(compiled.compute(torch.rand(1, 3, 64, 64)).cells()[0].values.data_ptr())
    assert len(addresses) == 1
    compiled(torch.rand(5, 3, 64, 64))
    assert torch.equal(compiled(torch.ones(2, 3, 64, 64))[0][:1], compiled(torch.ones(1, 3, 64, 64))[0])
