"""Train a pruned YOLOv5 or YOLOv8 checkpoint with its zeros kept, or a dense one, by labels or by a teacher.

python finetune.py --weights best.pt --data my.yaml --sparsity 0.5 --epochs 10
"""

from contextlib import nullcontext
from dataclasses import replace

from sparsity import cli
from sparsity.download import ensure_data, ensure_weights
from sparsity.progress import say
from sparsity.pruning.apply import count_sparsity
from sparsity.report.scales import write_scales
from sparsity.report.single import format_model, format_sparsity
from sparsity.report.training import write_training
from sparsity.runs import run_folder
from sparsity.training.start import Material, from_main_process, join_processes, make_run
from sparsity.validation import ValidationSettings


def main() -> None:
    """Flags in, files out."""
    args = cli.training_parser(description=__doc__.splitlines()[0]).parse_args()
    options = cli.read_options(args)
    if args.demo and args.cfg:
        args.weights = ""
    settings = cli.read_training(args)
    validation = replace(options.settings, batch_size=ValidationSettings.batch_size)
    given = (args.weights, args.cfg, args.data, args.images, args.teacher)
    material = Material(*given)
    is_main = join_processes(options.settings)
    tell = say if is_main else _keep_quiet
    cli.announce("finetune", args, options.settings, tell)

    place = run_folder(options.project, options.name, exist_ok=options.exist_ok, resume=args.resume)
    with place if is_main else nullcontext(args.resume) as own_folder:
        folder = from_main_process(own_folder)
        material = replace(
            material,
            weights=ensure_weights(args.weights, progress=True) if args.weights else "",
            teacher=ensure_weights(args.teacher, progress=True) if args.teacher else "",
            data=ensure_data(args.data, progress=True) if args.data else "",
        )
        run = make_run(material, settings, validation, folder, resuming=bool(args.resume), progress=True)
        if args.resume:
            run.resume()
        counted = count_sparsity(run.trainer.average.network)
        tell(format_model(counted))
        tell(format_sparsity(counted))
        tell(f"Training into {folder}; if it is stopped, --resume {folder} goes on")
        run.run(progress=True, say=tell, on_epoch=lambda: write_scales(folder, run.scales))
        if is_main:
            write_training(folder, run.rows)
        tell(f"Results saved to {folder}")


def _keep_quiet(_line: str) -> None:
    """What the other processes of a training say."""


if __name__ == "__main__":
    cli.run(main)
