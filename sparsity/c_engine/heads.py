"""Writes what the C code of boxes needs of a network's head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sparsity.base.errors import InputError
from sparsity.c_engine.text import initialised, template
from sparsity.sparse_engine.graph import Graph
from sparsity.yolo.head import Head
from sparsity.yolo.yolov5.detect import Detect

Fields = list[tuple[str, object]]
"""The fields of a struct in C: name and value."""


@dataclass(frozen=True)
class _Decoding:
    """How C code decodes the boxes of a kind of head.

    file: the template of the function. sizes: its macros. declared: the declarations of the fields that each
    raw map has in addition. fields: a raw map's number -> these fields.
    """

    file: str
    sizes: str
    declared: str = ""
    fields: Callable[[int], Fields] = lambda _index: []


def head_code(head: Head, graph: Graph, height: int, width: int) -> str:
    """Return the table of raw maps, and the C function that decodes one of them.

    Raises InputError for a head whose boxes C code can't decode.
    """
    decoding = _decoding(head)
    rows = []
    for index, (one, depth) in enumerate(zip(graph.outputs, graph.depths, strict=True)):
        shape: Fields = [
            ("channels", depth),
            ("height", height // one.shrink),
            ("width", width // one.shrink),
        ]
        fields = [*shape, ("stride", head.strides[index]), *decoding.fields(index)]
        rows.append(f"    {initialised(fields)},\n")
    lines = [
        decoding.sizes,
        "\nstruct raw_map {\n    int channels, height, width, stride;\n",
        decoding.declared,
        "};\n\nstatic const struct raw_map raw_maps[] = {\n",
        *rows,
        "};\n\n",
    ]
    return "".join([*lines, template("decode.c"), template(decoding.file)])


def _decoding(head: Head) -> _Decoding:
    if isinstance(head, Detect):
        return _by_anchors(head)
    if bins := getattr(head, "reg_max", None):
        return _Decoding("decode_sides.c", f"#define BINS {bins}\n")
    raise InputError(f"C code can't decode the boxes of a {type(head).__name__}")


def _by_anchors(head: Detect) -> _Decoding:
    def fields(index: int) -> Fields:
        pixels = (head.anchors[index].float() * head.strides[index]).tolist()
        pairs = ", ".join(f"{{{w!r}f, {h!r}f}}" for w, h in pixels)
        return [("anchors", f"{{{pairs}}}")]

    declared = "    float anchors[ANCHORS][2]; /* width and height in pixels */\n"
    return _Decoding("decode_anchors.c", f"#define ANCHORS {head.na}\n", declared, fields)
