"""The command convert: turn one saved form of a network into another, rounded to half precision."""

from __future__ import annotations

from argparse import Namespace

from sparsity.commands.options import check_target
from sparsity.formats.loading import load
from sparsity.formats.saving import check_form, save
from sparsity.report.validation import format_saved


def run(args: Namespace, _line: str) -> None:
    """Read the source, and write the target."""
    target = check_form(args.target)
    check_target(target, args.source, exist_ok=args.exist_ok)
    # An exported graph has no batch norms; the others keep those that training needs.
    network = load(args.source, fused=target.suffix == ".onnx")
    save(network, target, static_imgsz=args.static_imgsz, opset=args.opset)
    print(format_saved(target))
