"""The command convert: turn one saved form of a network into another, rounded to half precision."""

from __future__ import annotations

from argparse import Namespace

from sparsity.base.errors import InputError
from sparsity.c_engine.cpus import IMGSZ, THIS
from sparsity.commands.options import check_target
from sparsity.formats.c_file import SUFFIX
from sparsity.formats.loading import load
from sparsity.formats.saving import check_form, save
from sparsity.report.validation import format_saved


def run(args: Namespace, _line: str) -> None:
    """Read the source, and write the target."""
    target = check_form(args.target)
    if target.suffix != SUFFIX and (args.imgsz != IMGSZ or args.cpu != THIS):
        raise InputError(f"{target}: --imgsz and --for are for C code, a file that ends in {SUFFIX}")
    check_target(target, args.source, exist_ok=args.exist_ok)
    # Exported graphs and C code have no batch norms; the others keep those that training needs.
    network = load(args.source, fused=target.suffix in (".onnx", SUFFIX))
    save(
        network,
        target,
        static_imgsz=args.static_imgsz,
        opset=args.opset,
        imgsz=args.imgsz,
        target=args.cpu,
    )
    print(format_saved(target))
