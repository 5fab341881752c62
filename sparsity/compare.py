"""Put techniques side by side: what each makes of one checkpoint in accuracy, speed, memory and size.

python -m sparsity.compare --weights best.pt --data my.yaml --techniques fuse,prune,slim
"""

from __future__ import annotations

import shlex
from pathlib import Path

from sparsity import cli
from sparsity.comparing.compare import make, rows
from sparsity.comparing.techniques import TECHNIQUES, Asked, plan
from sparsity.demo import data as demo
from sparsity.download import ensure_weights
from sparsity.latency import Rounds
from sparsity.progress import say
from sparsity.report.comparison import format_comparison, write_comparison
from sparsity.runs import run_folder


def main() -> None:
    """Flags in, a table, a CSV and a plot out."""
    parser = cli.Parser(prog="compare", description=__doc__.splitlines()[0])
    cli.add_shared_flags(parser)
    _add_flags(parser)
    parser.set_defaults(name="compare")
    args = parser.parse_args()
    options = cli.read_options(args)
    calib = args.calib or (demo.NAME if args.demo else "")
    ensure_weights(options.weights, progress=True)
    asked = Asked(
        options.weights,
        options.data,
        calib,
        cli.read_amount(args.sparsity),
        args.percent,
        args.epochs,
        args.criterion,
        tuple(shlex.split(args.training)),
        ("--imgsz", str(options.settings.imgsz), "--device", "cpu", "--workers", str(args.workers)),
    )
    names = [name.strip() for name in args.techniques.split(",")]
    with run_folder(options.project, options.name, exist_ok=options.exist_ok) as folder:
        plans = {name: plan(name, asked, folder / name) for name in dict.fromkeys(names)}
        made = []
        for name, one in plans.items():
            say(f"{name}: {one.note}")
            made += make(name, one, asked, folder / name, say)
        done = rows(made, options.settings.imgsz, Rounds())
        title = f"{Path(options.weights).name} on {Path(options.data).name}"
        write_comparison(folder, done, title)
        print("\n" + format_comparison(done) + f"\n\nResults saved to {folder}")


def _add_flags(parser: cli.Parser) -> None:
    add, d = parser.add_argument, Asked("", "")
    add("--techniques", default=",".join(TECHNIQUES), help=f"any of {', '.join(TECHNIQUES)}")
    add("--sparsity", default=f"{d.sparsity:g}", help="fraction of weights that prune and its kin set to 0")
    add("--criterion", default=d.criterion, help="by which they are chosen: l1 or obs")
    add("--percent", type=float, default=d.percent, help="fraction of channels that slim cuts")
    add("--epochs", type=int, default=d.epochs, help="of each training")
    add("--training", default="", metavar="FLAGS", help="more flags of finetune.py, in one string")
    add("--calib", default="", metavar="FOLDER", help="images for int8-static and obs; no labels")


if __name__ == "__main__":
    cli.run(main)
