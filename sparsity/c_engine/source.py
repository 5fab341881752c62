"""Writes a network as C: the text of the .c file, and that of its header."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sparsity.base.errors import InputError
from sparsity.base.version import installed_version
from sparsity.c_engine.cpus import THIS
from sparsity.c_engine.heads import head_code
from sparsity.c_engine.plan import convolutions, estimate_choices, make_plan
from sparsity.c_engine.steps import layer_tables, plan_tables
from sparsity.c_engine.targets import WIDTHS, machine_of, machine_with
from sparsity.c_engine.text import identifier, quoted, template
from sparsity.c_engine.weights import list_weights
from sparsity.sparse_engine.choices import Choice
from sparsity.sparse_engine.compiled import CompiledNetwork
from sparsity.sparse_engine.graph import Graph
from sparsity.sparse_engine.machine import Machine
from sparsity.sparse_engine.tuning import tune
from sparsity.yolo.network import Network

CANDIDATES = 30_000
"""The most boxes that NAME_detect considers, as in validation."""


@dataclass(frozen=True)
class Source:
    """The two texts. name: the prefix of all names that a caller sees."""

    name: str
    code: str
    header: str


def write_source(network: Network, stem: str, height: int, width: int, target: str = THIS) -> Source:
    """Return the C code of a network for images of one size.

    stem: of the files' names; the names in the code follow from it. height, width: in pixels, multiples of
    the network's largest stride. target: the CPU that the code is tuned for (see targets): "this" measures.
    Raises InputError for a network that the sparse engine does not run, and for another size or target.
    """
    machine = machine_of(target)
    stride = network.largest_stride
    if min(height, width) < stride or height % stride or width % stride:
        raise InputError(f"`imgsz` is {height} x {width}; multiples of {stride} are expected for C code")
    compiled = _compiled(network)
    graph = compiled.graph
    if target == THIS:
        choices = _measured(compiled, height, width)
    else:
        choices = estimate_choices(graph, height, width, machine)
    name = identifier(stem)
    header = _named(_header(network, graph, height, width), name)
    code = _code(network, graph, height, width, choices, [machine_with(n, machine) for n in WIDTHS])
    weights = sum(step.weight.size for step in convolutions(graph))
    zeros = 1 - sum(int((step.weight != 0).sum()) for step in convolutions(graph)) / max(1, weights)
    top = template("top.c").replace("ZEROS", f"{zeros:.1%}").replace("SIZE", f"{height} x {width}")
    top = _named(top.replace("VERSION", installed_version()), name).replace("FILE", stem)
    return Source(name, f"{top}\n{header}\n{_named(code, name)}", header)


def _compiled(network: Network) -> CompiledNetwork:
    try:
        return CompiledNetwork(network, 1)
    except InputError as error:
        reason = str(error).partition(";")[0]
        raise InputError(f"C code can't run this network: {reason}; an .onnx file can") from error


def _measured(compiled: CompiledNetwork, height: int, width: int) -> list[Choice]:
    tune(compiled, height, width)
    program = compiled.program(height, width)
    return [program.choices[row] for row in sorted(program.choices)]


def _code(
    network: Network,
    graph: Graph,
    height: int,
    width: int,
    choices: Sequence[Choice],
    machines: Sequence[Machine],
) -> str:
    weights = [list_weights(step, one) for step, one in zip(convolutions(graph), choices, strict=True)]
    parts = [template("vectors.c"), layer_tables(graph, weights)]
    for machine in machines:
        plan = make_plan(graph, height, width, choices, machine)
        parts += [f"#if LANES == {machine.lanes}\n", plan_tables(graph, plan, weights), "#endif\n"]
    boxes = [_names(network), head_code(network.head, graph, height, width), template("boxes.c")]
    return "\n".join([*parts, template("operations.c"), *boxes])


def _header(network: Network, graph: Graph, height: int, width: int) -> str:
    cells = [(height // one.shrink) * (width // one.shrink) for one in graph.outputs]
    numbers = {
        "NMS_VALUE": int(network.head.dialect != "yolo26_one2one"),
        "HEIGHT_VALUE": height,
        "WIDTH_VALUE": width,
        "CLASSES_VALUE": network.head.nc,
        "CANDIDATES_VALUE": CANDIDATES,
        "MAPS_VALUE": sum(depth * count for depth, count in zip(graph.depths, cells, strict=True)),
    }
    text = template("header.h")
    for token, number in numbers.items():
        text = text.replace(token, str(number))
    return text


def _names(network: Network) -> str:
    """Return the definition of the classes' names."""
    names = ",\n".join(f"    {quoted(name)}" for name in network.names)
    return f"const char *const NAME_names[NAME_CLASSES] = {{\n{names}}};\n"


def _named(text: str, name: str) -> str:
    """Replace NAME_ by the network's name; in macros, which are in capitals, by its capitals."""
    text = re.sub(r"\bNAME_([A-Z]+)\b", lambda match: f"{name.upper()}_{match[1]}", text)
    return text.replace("NAME_", f"{name}_")
