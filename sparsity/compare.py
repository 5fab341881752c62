"""Put techniques side by side: what each makes of one checkpoint in accuracy, speed, memory and size.

python -m sparsity.compare --weights best.pt --data my.yaml --techniques fuse,prune,slim
"""

from __future__ import annotations

import json
import shlex
from argparse import Namespace
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import torch

from sparsity import cli
from sparsity.checkpoint import load
from sparsity.comparing.compare import Made, make, rows
from sparsity.comparing.techniques import TECHNIQUES, Asked, Command, Plan, plan
from sparsity.demo import data as demo
from sparsity.devices import describe_environment
from sparsity.download import ensure_calibration, ensure_weights
from sparsity.engines.registry import ENGINES, make_engines
from sparsity.errors import InputError
from sparsity.files import write_json, writing_into
from sparsity.identity import check_same_settings
from sparsity.latency import Rounds
from sparsity.opening import open_data
from sparsity.progress import say
from sparsity.pruning.amounts import Scope
from sparsity.pruning.apply import count_sparsity
from sparsity.pruning.method import OWN_SCOPES, Criterion
from sparsity.report.comparison import format_comparison, write_comparison
from sparsity.report.single import format_model
from sparsity.runs import run_folder
from sparsity.sweeping.setup import describe_setup
from sparsity.validation import ValidationSettings
from sparsity.yolo.network import has_norms

ABOUT = "compare.json"
SHARED = {"imgsz", "conf_thres", "iou_thres", "max_det", "workers", "single_cls", "device", "half"}
PLACES = {"weights", "data", "demo", "project", "name", "exist_ok"}
OF_TRAINING = (
    SHARED | PLACES | {"epochs", "sparsity", "criterion", "scope", "teacher", "resume", "images", "cfg"}
)
OF_SPARSE_TRAINING = OF_TRAINING - {"epochs"}
OF_SLIMMING = SHARED | PLACES | {"batch_size", "save", "engine"}
"""What the comparison says itself, and --training, --sparse-training and --slimming may not."""


def main() -> None:
    """Flags in, a table, a CSV and a plot out."""
    parser = cli.Parser(prog="compare", description=__doc__.splitlines()[0])
    cli.add_shared_flags(parser)
    _add_flags(parser)
    parser.set_defaults(name="compare")
    args = parser.parse_args()
    options, asked = cli.read_options(args), _read(args)
    names = list(dict.fromkeys(name.strip() for name in args.techniques.split(",")))
    _check([plan(name, asked, Path(name)) for name in names])
    rounds = Rounds(args.seconds, most=200)
    on_cpu = replace(options.settings, device="cpu", half=False)
    cli.announce("compare", args, on_cpu)

    place = run_folder(options.project, options.name, exist_ok=options.exist_ok, resume=args.resume)
    with place as folder:
        network = load(ensure_weights(options.weights, progress=True), fused=False)
        print(format_model(count_sparsity(network)))
        dataset, fitted = open_data(options.data, network, on_cpu)
        if asked.calib:
            ensure_calibration(asked.calib, progress=True)
        asked = replace(asked, **_forwarded(options.settings, fitted), fused=not has_norms(network))
        about = _begin(folder, describe_setup(network, dataset, fitted), resuming=bool(args.resume))

        plans = {name: plan(name, asked, folder / name) for name in names}
        made, failed = _make_all(plans, asked, folder, resuming=bool(args.resume))
        if made:
            done = rows(made, fitted.imgsz, rounds)
            about |= {"asked": asdict(asked), "latency": asdict(rounds), "failed": failed}
            title = f"{Path(options.weights).name} on {Path(options.data).name}, {fitted.imgsz} px"
            write_comparison(folder, done, title, str(about["environment"]["device"]))
            _write(folder, about)
            print("\n" + format_comparison(done) + f"\n\nResults saved to {folder}")
        if failed:
            told = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
            raise InputError(
                f"{len(failed)} of {len(plans)} techniques failed: {told}; --resume {folder} retries"
            )


def _add_flags(parser: cli.Parser) -> None:
    add, d = parser.add_argument, Asked("", "")
    add("--techniques", default=",".join(TECHNIQUES), help=f"any of {', '.join(TECHNIQUES)}")
    add("--engines", default=",".join(d.engines), help=f"that run what is made: {', '.join(ENGINES)}")
    add("--sparsity", default=f"{d.sparsity:g}", help="fraction of weights that prune and its kin set to 0")
    add(
        "--criterion",
        choices=get_args(Criterion),
        default=d.criterion,
        help="by which they are chosen; obs learns from --calib in prune, from training images in its kin",
    )
    add("--scope", choices=get_args(Scope), help="how the amount is shared out: layer, of obs measured")
    add("--percent", type=float, default=d.percent, help="share of the free channels that slim cuts")
    add("--epochs", type=int, default=d.epochs, help="of each training")
    add("--training", default="", metavar="FLAGS", help="more of finetune.py: --training='--lr0 0.001'")
    add("--slimming", default="", metavar="FLAGS", help="more of slim.py: --slimming='--round-to 8'")
    add(
        "--sparse-training",
        default="",
        metavar="FLAGS",
        help="train so before slim cuts: --sparse-training='--sparse-train 0.0025 --epochs 50'",
    )
    add("--calib", default="", metavar="FOLDER", help="images for int8-static and obs; no labels")
    add("--seconds", type=float, default=60.0, help="of timing latency, for all rows together")
    add("--resume", type=Path, metavar="FOLDER", help="go on in this folder, behind the commands that ended")


def _read(args: Namespace) -> Asked:
    """What the flags ask for, as far as no network is needed. Raises InputError for what can't be."""
    training = cli.training_parser(prog="compare --training")
    slimming = cli.slimming_parser(prog="compare --slimming")
    percent = str(args.percent)
    sparse = _read_flags("--sparse-training", args.sparse_training, training, OF_SPARSE_TRAINING)
    if sparse and not training.parse_args(sparse).sparse_train:
        raise InputError("--sparse-training: --sparse-train RATE is expected in it, such as 0.0025")
    return Asked(
        args.weights,
        args.data,
        engines=cli.read_engines(args.engines),
        calib=args.calib or (demo.NAME if args.demo else ""),
        sparsity=cli.read_amount(args.sparsity),
        percent=args.percent,
        epochs=args.epochs,
        criterion=args.criterion,
        scope=args.scope or OWN_SCOPES[args.criterion],
        training=_read_flags("--training", args.training, training, OF_TRAINING),
        slimming=_read_flags("--slimming", args.slimming, slimming, OF_SLIMMING, ("--percent", percent)),
        sparse_training=sparse,
    )


def _read_flags(flag: str, text: str, parser: cli.Parser, own: set[str], always: Command = ()) -> Command:
    """A script's flags out of one. own: those that the comparison gives; always: what goes before them."""
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise InputError(f"{flag} is {text!r}: {error}; flags as in a shell are expected") from error
    given = vars(parser.parse_args([*always, *words], Namespace(**dict.fromkeys(own))))
    clashes = [f"--{name.replace('_', '-')}" for name in sorted(own) if given[name] is not None]
    if always and given["percent"] != float(always[1]):
        clashes.append("--percent")
    if clashes:
        raise InputError(f"{flag}: {', '.join(clashes)}: the comparison says that itself, by its own flags")
    return words


def _check(plans: list[Plan]) -> None:
    """Raise InputError where a script would refuse its flags, or an engine's package is missing."""
    for command in (command for one in plans for command in one.commands):
        script, *words = command
        if script == "finetune.py":
            args = cli.training_parser(prog=script).parse_args(words)
            cli.read_options(args)
            cli.read_training(args)
        elif script == "slim.py":
            cli.read_slimming(cli.slimming_parser(prog=script).parse_args(words))
    make_engines([engine for one in plans for engine in one.runs])


def _forwarded(settings: ValidationSettings, fitted: ValidationSettings) -> dict[str, Command]:
    """The flags that the commands are given. settings: as asked; fitted: as the network needs them."""
    default = ValidationSettings()
    shared = ["--imgsz", str(fitted.imgsz), "--workers", str(settings.workers)]
    for name in ("conf_thres", "iou_thres", "max_det"):
        if getattr(settings, name) != getattr(default, name):
            shared += [f"--{name.replace('_', '-')}", str(getattr(settings, name))]
    if settings.single_cls:
        shared.append("--single-cls")
    making = [*(("--device", settings.device) if settings.device else ()), *(["--half"] * settings.half)]
    validating = ["--device", "cpu"]
    if settings.batch_size is not None:
        validating += ["--batch-size", str(settings.batch_size)]
    return {"shared": tuple(shared), "making": tuple(making), "validating": tuple(validating)}


def _begin(folder: Path, settings: dict[str, Any], *, resuming: bool) -> dict[str, Any]:
    """Write down what is compared where, or check that it is the same. Raises InputError where it isn't."""
    about = {"settings": settings, "environment": describe_environment(torch.device("cpu"))}
    if resuming:
        try:
            made = json.loads((folder / ABOUT).read_text(encoding="utf-8"))["settings"]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"--resume {folder}: holds no comparison ({ABOUT})") from error
        check_same_settings(folder, "comparison", made, json.loads(json.dumps(settings)))
    _write(folder, about)
    return about


def _write(folder: Path, about: dict[str, Any]) -> None:
    with writing_into(folder):
        write_json(folder / ABOUT, about, indent=1)


def _make_all(
    plans: dict[str, Plan], asked: Asked, folder: Path, *, resuming: bool
) -> tuple[list[Made], dict[str, str]]:
    """What was made, and by technique why one was not: the others don't suffer for it."""
    made: list[Made] = []
    failed = {}
    for name, one in plans.items():
        say(f"{name}: {one.note}")
        try:
            made += make(name, one, asked, folder / name, say, resume=resuming)
        except InputError as error:
            failed[name] = str(error)
            say(f"  FAILED: {error}")
    return made, failed


if __name__ == "__main__":
    cli.run(main)
