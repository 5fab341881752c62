"""Turn one saved form of a network into another, rounded to half precision.

python -m sparsity.convert pruned.safetensors pruned.pt
"""

from __future__ import annotations

from pathlib import Path

from sparsity import cli
from sparsity.checkpoint import load
from sparsity.report.single import format_saved
from sparsity.saving import check_form, save


def main() -> None:
    """Flags in, a file out."""
    parser = cli.Parser(prog="convert", description=__doc__.splitlines()[0])
    parser.add_argument("source", help="a YOLOv5 checkpoint (.pt) or a .safetensors of ours")
    parser.add_argument("target", help="a file that ends in .pt, .safetensors or .onnx")
    parser.add_argument("--exist-ok", action="store_true", help="write the file though it exists")
    args = parser.parse_args()
    target = check_form(args.target)
    cli.check_target(target, args.source, exist_ok=args.exist_ok)
    # An exported graph has no batch norms; the others keep those that training needs.
    network = load(args.source, fused=target.suffix == ".onnx")
    save(network, target)
    print(format_saved(Path(target)))


if __name__ == "__main__":
    cli.run(main)
