"""Writes what the C code of boxes needs of a network's head."""

from __future__ import annotations

from sparsity.base.errors import InputError
from sparsity.c_engine.text import initialised, template
from sparsity.sparse_engine.graph import Graph
from sparsity.yolo.head import Head


def head_code(head: Head, graph: Graph, height: int, width: int) -> str:
    """Return the table of raw maps, and the C function that decodes one of them.

    Raises InputError for a head whose boxes C code can't decode.
    """
    if head.dialect == "yolov5":
        return _code("decode_anchors.c", head, graph, height, width, f"#define ANCHORS {head.na}\n")
    bins = getattr(head, "reg_max", None)
    if bins is None:
        raise InputError(f"C code can't decode the boxes of a {type(head).__name__}")
    return _code("decode_sides.c", head, graph, height, width, f"#define BINS {bins}\n")


def _code(file: str, head: Head, graph: Graph, height: int, width: int, sizes: str) -> str:
    rows = []
    for index, (one, depth) in enumerate(zip(graph.outputs, graph.depths, strict=True)):
        fields: list[tuple[str, object]] = [
            ("channels", depth),
            ("height", height // one.shrink),
            ("width", width // one.shrink),
            ("stride", head.strides[index]),
        ]
        if head.dialect == "yolov5":
            pixels = (head.anchors[index].float() * head.strides[index]).tolist()
            pairs = ", ".join(f"{{{w!r}f, {h!r}f}}" for w, h in pixels)
            fields.append(("anchors", f"{{{pairs}}}"))
        rows.append(f"    {initialised(fields)},\n")
    anchors = "    float anchors[ANCHORS][2]; /* width and height in pixels */\n"
    lines = [
        sizes,
        "\nstruct raw_map {\n    int channels, height, width, stride;\n",
        anchors if head.dialect == "yolov5" else "",
        "};\n\nstatic const struct raw_map raw_maps[] = {\n",
        *rows,
        "};\n\n",
    ]
    return "".join([*lines, template("decode.c"), template(file)])
