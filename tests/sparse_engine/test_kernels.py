"""The kernels against torch, for random shapes; nothing is read or written outside a buffer."""

import ctypes
import mmap
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

pytest.importorskip("numba")

from sparsity.sparse_engine.choices import ranked
from sparsity.sparse_engine.graph import Attention, Convolution, Graph, Map, Moving, Pooling
from sparsity.sparse_engine.machine import MACHINE
from sparsity.sparse_engine.operations import Activation
from sparsity.sparse_engine.packed_graph import pack_halves
from sparsity.sparse_engine.packing import ZERO_POINT
from sparsity.sparse_engine.program import Tables, make_program
from sparsity.sparse_engine.quantizing import quantize_by
from sparsity.sparse_engine.ranges import Range
from sparsity.sparse_engine.running import NOTHING, make_workspace, run

ACTIVATIONS = {
    Activation.NONE: lambda x: x,
    Activation.SILU: functional.silu,
    Activation.RELU: functional.relu,
    Activation.LEAKY_RELU: lambda x: functional.leaky_relu(x, 0.1),
    Activation.HARDSWISH: functional.hardswish,
}
GUARDED, CASES = "--guarded", "--cases"


def compute(graph, images, threads, choices=None, place=lambda array: array):
    """Run a graph on images. place: called with each buffer, returns the one to use."""
    program = make_program(graph, *images.shape[2:], threads, choices)
    workspace = make_workspace(program, threads, len(images))
    workspace.memory = place(workspace.memory)
    workspace.sums = [place(one) for one in workspace.sums]
    workspace.scratch = [place(one) for one in workspace.scratch]
    tables = Tables(*map(place, program.tables))
    pixels = place(images.numpy().reshape(-1))
    sizes = [len(images) * int(np.prod(size)) for size in program.outputs]
    maps = place(np.full(sum(sizes), np.nan, np.float32))
    placed = replace(program, tables=tables)
    run(placed, program.rows, workspace, len(images), pixels, NOTHING)
    run(placed, program.for_batch(len(images)), workspace, len(images), NOTHING, maps)
    parts = torch.from_numpy(maps.copy()).split(sizes)
    return [part.view(len(images), *size) for part, size in zip(parts, program.outputs, strict=True)]


def kept_as_is(x):
    return x


def rounded(x):
    """Round to bfloat16."""
    return x.bfloat16().float()


def random_case(seed, store=kept_as_is, seen=None):
    """Return a graph of some random steps, images for it, and torch's result.

    store: rounds what a map holds, and the weights. The result is that of a convolution, and not rounded.
    seen: filled with the value of each map.
    """
    seen = {} if seen is None else seen
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    height, width = (8 * int(n) for n in random.integers(1, 9, 2))
    images = torch.randn(int(random.integers(1, 4)), 3, height, width)
    current, x, steps = Map(3, 1), store(images), []
    image = current
    seen[image] = x
    for number in range(int(random.integers(1, 6))):
        kind = random.choice(["conv", "conv", "conv", "pool", "up"])
        if kind == "pool":
            kernel = int(random.choice([3, 5]))
            step = Pooling(current, Map(current.channels, current.shrink), kernel)
            x = functional.max_pool2d(x, kernel, 1, kernel // 2)
        elif kind == "up" and current.shrink > 1:
            step = Moving(current, Map(current.channels, current.shrink // 2), shift=1)
            x = functional.interpolate(x, scale_factor=2)
        else:
            step, x = random_convolution(random, number, current, x, store)
            x = store(x)
        steps.append(step)
        current = step.result
        seen[current] = x
    if store is not kept_as_is:
        step, x = random_convolution(random, len(steps), current, x, store, adds=False)
        steps.append(step)
        current = step.result
        seen[current] = x
    return Graph(image, tuple(steps), (current,), 8, (current.channels,)), images, x


def random_convolution(random, number, source, x, store, adds=True):
    kernel = int(random.choice([1, 3, 5, 6]))
    stride = 2 if kernel == 6 or (source.shrink < 8 and random.random() < 0.4) else 1
    if source.shrink == 8:
        kernel, stride = min(kernel, 5), 1
    padding = 2 if kernel == 6 else kernel // 2
    groups = int(random.choice([g for g in (1, 2, source.channels) if source.channels % g == 0]))
    outputs = groups * int(random.integers(1, 12))
    weight = random.standard_normal((outputs, source.channels // groups, kernel, kernel), np.float32)
    weight[random.random(weight.shape) < random.choice([0, 0.3, 0.8, 0.98, 1])] = 0
    bias = random.standard_normal(outputs, np.float32)
    activation = Activation(int(random.integers(len(Activation))))
    result = Map(outputs, source.shrink * stride)
    step = Convolution(f"conv{number}", source, result, weight, bias, stride, padding, 1, groups, activation)
    step.slope = 0.1
    y = functional.conv2d(
        x.double(),
        store(torch.from_numpy(weight)).double(),
        torch.from_numpy(bias).double(),
        stride,
        padding,
        1,
        groups,
    )
    y = ACTIVATIONS[activation](y)
    if outputs == source.channels and stride == 1 and adds:
        step.residual = source
        y = y + x
    return step, y.float()


def attention_case(seed, store=kept_as_is, seen=None):
    """Return a graph of attention between convolutions, as networks have it; images, and torch's result.

    The arguments are those of random_case. Maps have any size, and packed heads have multiples of 4 channels.
    """
    seen = {} if seen is None else seen
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    heads, areas, kernel = (int(random.choice(some)) for some in ((1, 2, 3), (1, 4), (3, 7)))
    keys, values = (int(n) for n in random.integers(1, 20, 2) * (1 if store is kept_as_is else 4))
    height, width = (int(n) for n in random.integers(1, 22, 2))
    width = -(-width // 4) * 4 if height * width % areas else width
    images = torch.randn(int(random.integers(1, 4)), 3, height, width)

    image, qkv = Map(3, 1), Map(heads * (2 * keys + values), 1)
    v = Map(heads * values, 1, inside=(qkv, 2 * heads * keys))
    scales = np.full(heads * keys, keys**-0.5, np.float32), np.ones(heads * values, np.float32)
    first = linear("qkv", image, qkv, random)
    attention = Attention(qkv, Map(v.channels, 1), heads, keys, values, areas, *scales)
    weight = random.standard_normal((v.channels, 1, kernel, kernel), np.float32) / kernel
    places = Convolution("pe", v, Map(v.channels, 1), weight, np.zeros(v.channels, np.float32))
    places.padding, places.groups, places.residual = kernel // 2, v.channels, attention.result
    last = linear("last", places.result, Map(int(random.integers(1, 9)), 1), random)

    seen[image] = store(images)
    seen[qkv] = store(convolved(first, seen[image], store))
    seen[v] = seen[qkv][:, 2 * heads * keys :]
    seen[attention.result] = store(attended(attention, seen[qkv]).float())
    seen[places.result] = store(convolved(places, seen[v], store) + seen[attention.result])
    expected = convolved(last, seen[places.result], store)
    graph = Graph(image, (first, attention, places, last), (last.result,), 1, (last.result.channels,))
    return graph, images, expected


def linear(name, source, result, random):
    """Return a 1 x 1 convolution that keeps the size of numbers."""
    weight = random.standard_normal((result.channels, source.channels, 1, 1), np.float32)
    weight[random.random(weight.shape) < 0.3] = 0
    bias = random.standard_normal(result.channels, np.float32)
    return Convolution(name, source, result, weight / source.channels**0.5, bias)


def convolved(step, x, store):
    """Return what a convolution gives without its residual, in float64."""
    weight, bias = (torch.from_numpy(numbers).double() for numbers in (step.weight, step.bias))
    weight = store(weight.float()).double()
    return functional.conv2d(x.double(), weight, bias, 1, step.padding, 1, step.groups).float()


def attended(step, x):
    """Return what attention gives, in float64."""
    sizes = [step.heads * n for n in (step.keys, step.keys, step.values)]
    scales = torch.ones(sum(sizes)).double()
    scales[: sizes[0]] = torch.from_numpy(step.key_scales)
    parts = (x.double() * scales[:, None, None]).split(sizes, 1)
    q, k, v = (
        part.unflatten(1, (step.heads, -1)).flatten(3).unflatten(3, (step.areas, -1)).transpose(2, 3)
        for part in parts
    )
    weights = (q.transpose(-2, -1) @ k).softmax(-1)
    sums = (v @ weights.transpose(-2, -1)).transpose(2, 3).reshape(len(x), sizes[2], *x.shape[2:])
    return sums * torch.from_numpy(step.value_scales).double()[:, None, None]


def assert_close(found, expected):
    scale = expected.abs().max().clamp(min=1e-6)
    assert float((found - expected).abs().max() / scale) < 1e-5


def assert_nearly(found, expected):
    """Sums in another order, or rounded after another exp, can differ by one rounding, but seldom do."""
    scale = expected.abs().max().clamp(min=1e-6)
    difference = (found - expected).abs() / scale
    assert float(difference.max()) < 0.02
    assert float(difference.mean()) < 5e-4


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_give_what_torch_gives(seed):
    graph, images, expected = random_case(seed)
    assert_close(compute(graph, images, threads=1 + seed % 3)[0], expected)


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_of_pairs_give_what_torch_gives_in_bfloat16(seed):
    graph, images, expected = random_case(seed, rounded)
    assert_nearly(compute(pack_halves(graph), images, threads=1 + seed % 3)[0], expected)


@pytest.mark.parametrize("seed", range(40))
def test_random_attention_gives_what_torch_gives(seed):
    graph, images, expected = attention_case(seed)
    assert_close(compute(graph, images, threads=1 + seed % 3)[0], expected)


@pytest.mark.parametrize("seed", range(40))
def test_random_attention_in_packed_maps_gives_what_torch_gives(seed):
    graph, images, expected = attention_case(seed, rounded)
    assert_nearly(compute(pack_halves(graph), images, threads=1 + seed % 3)[0], expected)
    graph, images, expected = quantized_case(seed, attention_case)
    assert_nearly(compute(graph, images, threads=1 + seed % 3)[0], expected)


@pytest.mark.parametrize("areas", [1, 4])
def test_a_nan_spreads_to_its_area_and_large_scores_do_not_overflow(areas):
    image, one = Map(3, 1), np.ones(1, np.float32)
    attention = Attention(image, Map(1, 1), 1, 1, 1, areas, 100 * one, one)
    images = 10 * torch.randn(2, 3, 16, 8)
    images[0, 1, 2, 3] = torch.nan
    found = compute(Graph(image, (attention,), (attention.result,), 1, (1,)), images, 2)[0]
    torch.testing.assert_close(found, attended(attention, images).float(), equal_nan=True)
    assert int(found.isnan().sum()) == 16 * 8 // areas


def quantized_case(seed, case=random_case):
    """Return a random graph of bytes, its images, and the result by integers in torch."""
    seen = {}
    graph, images, _ = case(seed, rounded, seen)
    packed = quantize_by(graph, {one: range_of(x) for one, x in seen.items()})
    return packed, images, run_by_integers(packed, images)


def range_of(x):
    return Range(x.amin((0, 2, 3)).numpy(), x.amax((0, 2, 3)).numpy(), x.mean((0, 2, 3)).numpy())


def parts_of(numbers):
    """Return the bytes of packed numbers [outputs, n, k, k] as [outputs, 4 n, k, k]."""
    return (
        torch.from_numpy(numbers.view(np.uint8).reshape(*numbers.shape, 4).copy())
        .movedim(-1, 2)
        .flatten(1, 2)
    )


def run_by_integers(graph, images):
    """Run a graph of bytes with torch's convolutions of whole numbers, in float64, where they are exact."""
    padded = functional.pad(images, (0, 0, 0, 0, 0, 1)).double() * graph.pixel
    maps = {graph.image: (padded + ZERO_POINT).round().clamp(0, 255)}
    for step in graph.steps:
        home, first = step.source.home()
        x = maps[home][:, 4 * first : 4 * (first + step.source.channels)]
        if isinstance(step, Attention):
            x = (attended(step, x - ZERO_POINT) + ZERO_POINT).round().clamp(0, 255)
        elif isinstance(step, Pooling):
            x = functional.max_pool2d(x, step.kernel, 1, step.kernel // 2)
        elif isinstance(step, Moving):
            x = functional.interpolate(x, scale_factor=2)
        else:
            weight = parts_of(step.weight).to(torch.int8).double()
            sums = functional.conv2d(
                x - ZERO_POINT, weight, None, step.stride, step.padding, groups=step.groups
            )
            # The biases include the zero point's part.
            bias = torch.from_numpy(step.bias.view(np.int32)).double() + ZERO_POINT * weight.sum((1, 2, 3))
            unit, results, added = torch.from_numpy(step.scales).double()[:, :, None, None]
            x = (sums + bias[:, None, None]) * unit
            x = ACTIVATIONS[step.activation](x)
            if step.residual is not None:
                x = x + (maps[step.residual] - ZERO_POINT) * added
            if step.shared > 1:
                x = (x * results + ZERO_POINT).round().clamp(0, 255)
        maps[step.result] = x
    return maps[graph.outputs[0]][:, : graph.depths[0]].float()


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_of_bytes_give_what_integers_give(seed):
    graph, images, expected = quantized_case(seed)
    assert_nearly(compute(graph, images, threads=1 + seed % 3)[0], expected)


@pytest.mark.parametrize(("stride", "kernel"), [(1, 1), (1, 3), (2, 3)])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
def test_every_choice_gives_the_same(stride, kernel, threads, kind):
    """Tiles, blocks, spans and dense groups, in a map with room for each tile."""
    store = rounded if kind == "bfloat16" else kept_as_is
    random = np.random.default_rng(kernel)
    images = torch.rand(1, 3, 256, 256)
    image, middle = Map(3, 1), Map(24, 1)
    # Positive maps use most of the 256 bytes, so that one rounding is small.
    positive = np.abs(random.standard_normal((24, 3, 1, 1), np.float32))
    first = Convolution("first", image, middle, positive, np.zeros(24, np.float32))
    weight = random.standard_normal((60, 24, kernel, kernel), np.float32)
    weight[random.random(weight.shape) < 0.4] = 0
    bias = random.standard_normal(60, np.float32)
    second = Convolution("second", middle, Map(60, stride), weight, bias, stride, kernel // 2)
    graph = Graph(image, (first, second), (second.result,), 8, (60,))
    x = store(functional.conv2d(store(images), store(torch.from_numpy(first.weight))))
    weight = store(torch.from_numpy(weight))
    expected = functional.conv2d(x, weight, torch.from_numpy(bias), stride, kernel // 2)
    if kind == "bfloat16":
        graph = pack_halves(graph)
    elif kind == "int8":
        graph = quantize_by(graph, {image: range_of(images), middle: range_of(x)})
        expected = run_by_integers(graph, images)
    task = list(make_program(graph, 256, 256, threads).tasks.values())[1]
    choices = ranked(task)
    assert {choice.group > 1 for choice in choices} == {True, False}
    for choice in choices:
        for block in (choice.block, 5):
            tried = {task: replace(choice, block=block)}
            check = assert_close if kind == "float32" else assert_nearly
            check(compute(graph, images, threads, tried)[0], expected)


def test_infinities_and_nan_pass_as_in_torch_and_denormals_do_no_harm():
    image = Map(3, 1)
    weight = np.zeros((3, 3, 1, 1), np.float32)
    weight[[0, 1, 2], [0, 1, 2]] = 1
    step = Convolution("one", image, Map(3, 1), weight, np.zeros(3, np.float32), activation=Activation.SILU)
    images = torch.randn(1, 3, 16, 16)
    images[0, 0, 3, 4], images[0, 0, 3, 5], images[0, 0, 9, 9] = torch.inf, torch.nan, -1e30
    images[0, 1] = 1e-42
    found = compute(Graph(image, (step,), (step.result,), 8, (3,)), images, 1)[0]
    expected = functional.silu(images)
    torch.testing.assert_close(found, expected, equal_nan=True)
    assert found[0, 0, 3, 4] == torch.inf
    assert torch.isnan(found[0, 0, 3, 5])


def test_pooling_keeps_nan():
    image = Map(3, 1)
    images = torch.randn(1, 3, 16, 24)
    images[0, 1, 5, 7] = torch.nan
    step = Pooling(image, Map(3, 1), 5)
    found = compute(Graph(image, (step,), (step.result,), 8, (3,)), images, 2)[0]
    torch.testing.assert_close(found, functional.max_pool2d(images, 5, 1, 2), equal_nan=True)


def run_here(flag, kernels, **environment):
    """Run this file in a separate process, with a cache folder, and return the words that it prints."""
    own = {"PYTHONPATH": str(Path(__file__).parents[2]), "XDG_CACHE_HOME": str(kernels)}
    environment = os.environ | own | environment
    command = [sys.executable, __file__, flag]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="pages are guarded by mprotect")
def test_nothing_is_read_or_written_outside_a_buffer(compiled_kernels):
    """In a separate process, because a failure ends the process."""
    assert run_here(GUARDED, compiled_kernels) == ["begin", "end", "caught"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "lanes", "fma"),
    [
        pytest.param({"SPARSITY_ENGINE_LANES": "16"}, "16", None, id="as AVX-512"),
        pytest.param({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}, "4", "False", id="portable"),
    ],
)
def test_other_widths_of_vectors_give_the_same(environment, lanes, fma, compiled_kernels):
    found = run_here(CASES, compiled_kernels, **environment)
    assert found[0] == lanes
    assert fma in (None, found[1])


class Guarded:
    """Places arrays between two protected pages, next to the first one or to the last one."""

    def __init__(self, at_end: bool) -> None:
        self.at_end, self.libc = at_end, ctypes.CDLL(None, use_errno=True)
        self.kept = []

    def __call__(self, array: np.ndarray) -> np.ndarray:
        page = mmap.PAGESIZE
        size = -(-max(array.nbytes, 1) // page) * page
        room = mmap.mmap(-1, size + 2 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(room))
        for guard in (start, start + page + size):
            assert self.libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) == 0
        # Vectors are aligned to 64 bytes, so an end may be up to 63 bytes before its page.
        offset = page + ((size - array.nbytes) // 64 * 64 if self.at_end else 0)
        placed = np.frombuffer(room, array.dtype, array.size, offset).reshape(array.shape)
        placed[...] = array
        self.kept.append(room)
        return placed


def check_guarded() -> None:
    for name, at_end in (("begin", False), ("end", True)):
        for seed in range(20):
            graph, images, expected = random_case(seed)
            place = Guarded(at_end)
            assert_close(compute(graph, images, 1 + seed % 2, place=place)[0], expected)
            graph, images, expected = random_case(seed, rounded)
            found = compute(pack_halves(graph), images, 1 + seed % 2, place=place)[0]
            assert_nearly(found, expected)
            graph, images, expected = quantized_case(seed)
            assert_nearly(compute(graph, images, 1 + seed % 2, place=place)[0], expected)
            graph, images, expected = attention_case(seed)
            assert_close(compute(graph, images, 1 + seed % 2, place=place)[0], expected)
            graph, images, expected = attention_case(seed, rounded)
            assert_nearly(compute(pack_halves(graph), images, 1 + seed % 2, place=place)[0], expected)
            graph, images, expected = quantized_case(seed, attention_case)
            assert_nearly(compute(graph, images, 1 + seed % 2, place=place)[0], expected)
        print(name, flush=True)
    # A child process touches the guard, to show that it works.
    child = os.fork()
    if not child:
        array = Guarded(True)(np.zeros(16, np.float32))
        ctypes.c_float.from_address(array.ctypes.data + array.nbytes).value = 1.0
        os._exit(0)
    print("caught" if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) < 0 else "missed", flush=True)
    os._exit(0)


def check_cases() -> None:
    for seed in range(20):
        graph, images, expected = random_case(seed)
        assert_close(compute(graph, images, 1 + seed % 2)[0], expected)
        graph, images, expected = random_case(seed, rounded)
        assert_nearly(compute(pack_halves(graph), images, 1 + seed % 2)[0], expected)
        graph, images, expected = quantized_case(seed)
        assert_nearly(compute(graph, images, 1 + seed % 2)[0], expected)
        graph, images, expected = attention_case(seed)
        assert_close(compute(graph, images, 1 + seed % 2)[0], expected)
        graph, images, expected = attention_case(seed, rounded)
        assert_nearly(compute(pack_halves(graph), images, 1 + seed % 2)[0], expected)
        graph, images, expected = quantized_case(seed, attention_case)
        assert_nearly(compute(graph, images, 1 + seed % 2)[0], expected)
    print(MACHINE.lanes, MACHINE.fma)


if __name__ == "__main__":
    {GUARDED: check_guarded, CASES: check_cases}[sys.argv[1]]()
