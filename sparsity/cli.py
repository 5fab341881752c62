"""The flags that the scripts share, and how a script ends."""

from __future__ import annotations

import argparse
import io
import math
import platform
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn, get_args

import torch

from sparsity.calibration import limit_by_memory, read_calibration
from sparsity.demo import data as demo
from sparsity.devices import device_name, select_device, select_precision, usable_cores
from sparsity.download import ensure_calibration
from sparsity.engines.registry import ENGINES, TORCH, make_engine, make_engines
from sparsity.errors import InputError
from sparsity.files import probe_writing
from sparsity.formats import onnx_file
from sparsity.formats.onnx_file import OnnxNetwork
from sparsity.pruner import Pruner, no_calibration
from sparsity.pruning.amounts import Scope, check_amount
from sparsity.pruning.method import Criterion, Method, parse_methods
from sparsity.pruning.patterns import Pattern, parse_pattern
from sparsity.runs import DEFAULT_NAME
from sparsity.saving import FORMS, check_form
from sparsity.slimming.settings import SlimmingSettings
from sparsity.sweeping.sweep import BOOTSTRAP
from sparsity.training.settings import TrainingSettings
from sparsity.training.sparse import RECIPES
from sparsity.validation import ValidationSettings, fit
from sparsity.yolo.network import Network

DEFAULT_WEIGHTS = "yolov5x.pt"


@dataclass(frozen=True)
class Options:
    """What the flags of every script say."""

    weights: str
    data: str
    settings: ValidationSettings
    project: Path
    name: str
    exist_ok: bool
    verbose: bool


@dataclass(frozen=True)
class Pruning:
    """What the flags of methods say."""

    methods: tuple[Method, ...]
    keep: tuple[str, ...]
    pattern: Pattern | None
    calib: str
    calib_images: int
    calib_seed: int

    @property
    def method(self) -> Method:
        """The one method. Raises InputError where there are several."""
        if len(self.methods) > 1:
            labels = ", ".join(method.label for method in self.methods)
            raise InputError(
                f"--criterion, --scope: {labels} are {len(self.methods)} methods; one is expected"
            )
        return self.methods[0]


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the flags and exit with 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def run(main: Callable[[], None]) -> NoReturn:
    """Run a script's main and exit: 0, 2 with one line on input that can't be used, 130 on Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    try:
        main()
    except BrokenPipeError:
        # Whoever read the output has gone; the files are written.
        sys.stdout = None
        sys.exit(0)
    except InputError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Interrupted; no file was left half-written.", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)


def add_shared_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that YOLOv5's users know."""
    d = ValidationSettings()
    add = parser.add_argument
    add(
        "--weights",
        default=DEFAULT_WEIGHTS,
        help="checkpoint; yolov5n.pt to x, yolov8n.pt to x are downloaded",
    )
    add("--data", default="coco.yaml", help="data yaml or folder; coco.yaml is downloaded")
    add("--demo", action="store_true", help="a small detector and drawn images that need no download")
    add("--imgsz", "--img", "--img-size", type=int, help=f"image size in pixels ({d.imgsz})")
    add(
        "--batch-size",
        type=int,
        default=d.batch_size,
        help="images that share a shape (32; of YOLOv8 16)",
    )
    add("--conf-thres", type=float, default=d.conf_thres, help="least confidence of a detection")
    add(
        "--iou-thres",
        type=float,
        default=d.iou_thres,
        help="NMS suppresses above this IoU (0.65; of YOLOv8 0.7)",
    )
    add("--max-det", type=int, default=d.max_det, help="most detections an image")
    add("--device", default=d.device, help="cpu, 0, cuda:1; a GPU by itself where there is one")
    add("--half", action="store_true", help="float16 on a GPU, bfloat16 on a CPU that has it")
    add("--workers", type=int, default=d.workers, help="threads that decode images")
    add("--single-cls", action="store_true", help="count all classes as one")
    add("--project", type=Path, default=Path("results"), help="where runs are saved")
    add("--name", default=DEFAULT_NAME, help="the run's folder, numbered up where it exists")
    add("--exist-ok", action="store_true", help="write into the folder though it exists")
    add("--verbose", action="store_true", help="a row for each class; val_sparse.py, each layer too")


def add_amount_flag(parser: argparse.ArgumentParser) -> None:
    """Add how much to prune."""
    parser.add_argument("--sparsity", default="0", help="fraction of weights to prune, 0.3 for 30%%")


def add_scope_flag(parser: argparse.ArgumentParser) -> None:
    """Add how finetune.py shares the amount out."""
    add = parser.add_argument
    add("--scope", choices=get_args(Scope), default="layer", help="how it is shared out among layers")


def add_method_flags(parser: argparse.ArgumentParser) -> None:
    """Add by which methods to prune."""
    add = parser.add_argument
    add(
        "--criterion",
        default="l1",
        help="l1 (magnitude); lamp, erk (magnitude, shared out among layers so); obs (learns from --calib)",
    )
    add(
        "--scope",
        default="",
        help="how l1 and obs share the amount out: layer (l1's own), global, lamp, erk, measured (obs's own)",
    )
    add("--pattern", default="", help="N:M such as 2:4: at most N of every M input channels stay")
    add(
        "--keep",
        action="append",
        default=[],
        metavar="NAME",
        help="layers that stay dense, such as 'model.24.*'; may be given several times",
    )
    add("--calib", default="", metavar="FOLDER", help="images that obs and measured learn from; no labels")
    add("--calib-images", type=int, default=64, metavar="N", help="how many of them, drawn at random")
    add("--calib-seed", type=int, default=0, metavar="N", help="of that draw")


def add_engine_flag(parser: argparse.ArgumentParser) -> None:
    """Add what runs the network."""
    parser.add_argument(
        "--engine",
        default=TORCH,
        help=f"{', '.join(ENGINES)}; all but torch on the CPU, where they are faster",
    )


def add_compact_flag(parser: argparse.ArgumentParser) -> None:
    """Add whether dead channels go."""
    parser.add_argument(
        "--compact",
        action="store_true",
        help="take dead channels out after pruning: the same function of a smaller network",
    )


def add_save_flag(parser: argparse.ArgumentParser) -> None:
    """Add where the network is saved."""
    parser.add_argument(
        "--save",
        action="append",
        default=[],
        metavar="FILE",
        help=f"keep the network as it was validated, in half precision: {', '.join(FORMS)}; may be repeated",
    )


def add_saving_flags(parser: argparse.ArgumentParser) -> None:
    """Add where the network is saved, in which forms."""
    add_save_flag(parser)
    parser.add_argument(
        "--int8", action="store_true", help="quantise .onnx files to int8, by the images of --calib"
    )


def add_slimming_flags(parser: argparse.ArgumentParser) -> None:
    """Add which channels go."""
    add = parser.add_argument
    add("--percent", type=float, required=True, help="share of all free channels to cut, 0.5 for half")
    add("--by", default=SlimmingSettings.by, help="bn: batch norms' scales; l1: filters' weights")
    add("--tied", action="store_true", help="cut channels that residual additions tie as well, together")
    add(
        "--min-channels",
        type=int,
        default=SlimmingSettings.min_channels,
        metavar="N",
        help="what each layer keeps at least",
    )
    add(
        "--round-to",
        type=int,
        default=SlimmingSettings.round_to,
        metavar="N",
        help="round each layer's channels up to a multiple, such as 8: odd counts run slower",
    )
    add("--no-fold", action="store_true", help="forget what cut channels still gave, as other tools do")


def slimming_parser(**about: str) -> Parser:
    """The parser of slim.py's flags. about: what ArgumentParser takes."""
    parser = Parser(**about)
    add_shared_flags(parser)
    add_slimming_flags(parser)
    add_save_flag(parser)
    add_engine_flag(parser)
    parser.set_defaults(name="slim", data="")
    return parser


def add_sweep_flags(parser: argparse.ArgumentParser) -> None:
    """Add what to sweep."""
    add = parser.add_argument
    add("levels", help="sparsities: 0.1:0.9, 0.1:0.9:0.05, or 0,0.3,0.5; the dense baseline comes by itself")
    add(
        "--engines",
        default=TORCH,
        help=f"in which each level runs: {', '.join(ENGINES)}; all but torch on the CPU, and torch then too",
    )
    add_compact_flag(parser)
    add("--batch-sizes", default="1,32", help="at which latency is measured; none to leave it out")
    add(
        "--bootstrap",
        type=int,
        default=BOOTSTRAP,
        metavar="N",
        help="times the images are drawn anew for intervals of AP; 0 for none",
    )
    add("--title", default="", help="of the plots and the report")
    add("--resume", type=Path, metavar="FOLDER", help="go on with the sweep in this folder")


def add_sensitivity_flags(parser: argparse.ArgumentParser) -> None:
    """Add what to measure of which layers."""
    add = parser.add_argument
    add("--amounts", default="0.5,0.7,0.9", help="sparsities of the one layer that is pruned")
    add("--layers", action="append", default=[], metavar="NAME", help="with wildcards; may be repeated; all")
    add("--images", type=int, default=100, help="images of the data, drawn at random; 0 for all")
    add("--resume", type=Path, metavar="FOLDER", help="go on with the run in this folder")


def add_training_flags(parser: argparse.ArgumentParser) -> None:
    """Add how to train."""
    d, add = TrainingSettings(), parser.add_argument
    add(
        "--cfg",
        default="",
        help="yolov5n to yolov5x, yolov8n to yolov8x: begin from random weights instead of --weights",
    )
    add("--images", default="", help="folder of images without labels, to distil on; instead of --data")
    add("--teacher", default="", help="dense checkpoint to distil from")
    add("--distil", type=float, default=d.distil, help="weight of the distillation's loss")
    add(
        "--criterion",
        choices=get_args(Criterion),
        default=d.criterion,
        help="l1: the smallest go; obs: what training images say is missed least, the rest makes up for it",
    )
    add(
        "--calib-images",
        type=int,
        default=d.calib_images,
        help="training images that --criterion obs looks at",
    )
    add(
        "--sparse-train",
        type=float,
        default=d.sparse_train,
        metavar="RATE",
        help="pull batch norms' scales towards 0, for slim.py: 0.0025, say",
    )
    add("--sparse-recipe", default=d.sparse_recipe, help=f"{' or '.join(RECIPES)}: how shifts are pulled")
    add("--tied", action="store_true", help="pull those too whose channels residual additions tie")
    add("--freeze-bn", action="store_true", help="keep batch norms' statistics; obs always does")
    add("--noval", action="store_true", help="validate after the last epoch alone")
    add("--epochs", type=int, default=d.epochs, help="times over the images")
    add("--gradual", type=int, default=d.gradual, metavar="EPOCHS", help="prune along these first epochs")
    add("--nominal-batch", type=int, default=d.nominal_batch, help="images to a step, gathered over batches")
    add("--optimizer", default=d.optimizer, help="SGD or AdamW")
    add("--lr0", type=float, default=d.lr0, help="first learning rate")
    add("--lrf", type=float, default=d.lrf, help="last learning rate, as a share of the first")
    add("--momentum", type=float, default=d.momentum, help="SGD's momentum, AdamW's first beta")
    add("--decay", type=float, default=d.decay, help="weight decay")
    add("--warmup", type=float, default=d.warmup, help="epochs over which the learning rate rises")
    add("--patience", type=int, default=d.patience, help="epochs without a better AP before it ends")
    add("--mosaic", type=float, default=d.mosaic, help="probability of putting four images together")
    add("--no-augment", action="store_true", help="train on the images as they are")
    add("--seed", type=int, default=d.seed, help="a seed makes a run repeatable")
    add("--resume", type=Path, metavar="FOLDER", help="go on with the training in this folder")


def training_parser(**about: str) -> Parser:
    """The parser of finetune.py's flags. about: what ArgumentParser takes."""
    parser = Parser(**about)
    add_shared_flags(parser)
    add_amount_flag(parser)
    add_scope_flag(parser)
    add_training_flags(parser)
    parser.set_defaults(name="train", weights="", data="", batch_size=TrainingSettings.batch_size)
    return parser


def read_training(args: argparse.Namespace) -> TrainingSettings:
    """The flags of training as values, those that read_options has looked at. Raises InputError."""
    names = set(asdict(TrainingSettings())) - {"amount", "augment"}
    values = {name: getattr(args, name) for name in names}
    return TrainingSettings(amount=read_amount(args.sparsity), augment=not args.no_augment, **values)


def read_pruning(args: argparse.Namespace) -> Pruning:
    """The flags of methods as values. Raises InputError for one that can't be used."""
    methods = parse_methods(args.criterion, args.scope)
    calib = args.calib or (demo.NAME if args.demo else "")
    needy = [method for method in methods if method.needs_calibration]
    if needy and not calib:
        raise InputError(no_calibration(needy[0]))
    pattern = parse_pattern(args.pattern)
    return Pruning(methods, tuple(args.keep), pattern, calib, args.calib_images, args.calib_seed)


def read_slimming(args: argparse.Namespace) -> SlimmingSettings:
    """The flags of slimming as values. Raises InputError for one out of range."""
    names = ("percent", "by", "tied", "min_channels", "round_to")
    return SlimmingSettings(**{name: getattr(args, name) for name in names}, fold=not args.no_fold)


def read_save(args: argparse.Namespace) -> tuple[Path, ...]:
    """The files that --save names. Raises InputError where one can't be written, or is there already."""
    files = tuple(check_form(file, int8=getattr(args, "int8", False)) for file in args.save)
    for file in files:
        check_target(file, args.weights, exist_ok=args.exist_ok)
    return files


def read_saving(args: argparse.Namespace) -> tuple[Path, ...]:
    """As read_save, with int8. Raises InputError where that is asked of no .onnx, or without images."""
    files = read_save(args)
    if args.int8 and not any(file.suffix == ".onnx" for file in files):
        raise InputError("--int8 quantises .onnx files, and --save names none")
    if args.int8 and not (args.calib or args.demo):
        raise InputError("--int8 looks at images: --calib FOLDER names some (no labels needed)")
    return files


def check_target(file: Path, source: str, *, exist_ok: bool) -> None:
    """Raise InputError where file is the one that is read, or exists and may not be written over."""
    if file.exists() and Path(source).exists() and file.samefile(source):
        raise InputError(f"{file}: is the very file that is read; give another name")
    if file.exists() and not exist_ok:
        raise InputError(f"{file}: exists already; give another name, or --exist-ok to write over it")
    probe_writing(file.parent)


def read_exported(options: Options, *changes: object) -> OnnxNetwork | None:
    """The ONNX file that --weights names, None for another form.

    changes: what the other flags would do to a network. Raises InputError where there is such, or the
    file can't be read or run.
    """
    if not options.weights.endswith(".onnx"):
        return None
    if any(changes):
        raise InputError(
            f"{options.weights}: an exported network is validated as it is, without --sparsity and the flags "
            "of how, --compact or --save; give the .pt or .safetensors it was made from"
        )
    if options.settings.engine == TORCH:
        raise InputError(
            f"{options.weights}: --engine onnxruntime or openvino runs ONNX files, torch does not"
        )
    return onnx_file.read(Path(options.weights))


def make_pruner(network: Network, pruning: Pruning, settings: ValidationSettings) -> Pruner:
    """The pruner that the flags ask for; it reads calibration images where a method needs them."""
    device = select_device(settings.device)
    given = {"keep": pruning.keep, "pattern": pruning.pattern, "seed": pruning.calib_seed}
    if not any(method.needs_calibration for method in pruning.methods):
        return Pruner(network, **given, device=device, progress=True)
    calibration = read_images(network, pruning, settings)
    return Pruner(network, **given, calibration=calibration, device=device, progress=True)


def read_images(network: Network, pruning: Pruning, settings: ValidationSettings) -> list[torch.Tensor]:
    """The calibration images, as many as memory holds the maps of."""
    imgsz, device = fit(settings, network).imgsz, select_device(settings.device)
    calibration = read_calibration(
        ensure_calibration(pruning.calib, progress=True),
        limit_by_memory(pruning.calib_images, network, imgsz, device),
        imgsz=imgsz,
        stride=max(network.strides),
        seed=pruning.calib_seed,
        workers=min(settings.workers, max(1, usable_cores() // 2)),
    )
    print(f"Calibration: {sum(map(len, calibration))} images of {pruning.calib}")
    return calibration


def read_engines(text: str) -> tuple[str, ...]:
    """--engines as names. Raises InputError for one that there isn't, or whose package is missing."""
    return tuple(make_engines([name.strip() for name in text.split(",")]))


def read_batch_sizes(text: str) -> tuple[int, ...]:
    """--batch-sizes as numbers; none for "none". Raises InputError unless it lists whole numbers."""
    if text.strip().lower() == "none":
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"--batch-sizes is {text!r}; numbers such as 1,32, or none, are expected") from error


def read_options(args: argparse.Namespace) -> Options:
    """The shared flags as values. Raises InputError for one out of range."""
    if not args.name or Path(args.name).name != args.name:
        raise InputError(f"--name is {args.name!r}; the name of a folder, without /, is expected")
    if args.demo:
        given = args.weights not in ("", DEFAULT_WEIGHTS)
        args.weights, args.data = args.weights if given else demo.NAME, demo.NAME
    if args.imgsz is None:
        args.imgsz = demo.IMGSZ if args.demo else ValidationSettings.imgsz
    fields = {name: getattr(args, name, default) for name, default in asdict(ValidationSettings()).items()}
    settings = ValidationSettings(**fields)
    select_device(settings.device)
    make_engine(settings.engine)
    return Options(args.weights, args.data, settings, args.project, args.name, args.exist_ok, args.verbose)


def read_amount(text: str) -> float:
    """--sparsity as a fraction. Raises InputError unless it is a number from 0 to below 1."""
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if math.isnan(amount):
        raise InputError(f"--sparsity is {text!r}; a fraction such as 0.3 is expected")
    return check_amount(amount)


def announce(
    script: str,
    args: argparse.Namespace,
    settings: ValidationSettings,
    tell: Callable[[str], object] = print,
) -> None:
    """Print what a script was asked, and where it runs."""
    tell(f"{script}: " + ", ".join(f"{key}={value}" for key, value in vars(args).items()))
    tell(_format_environment(settings) + "\n")


def _format_environment(settings: ValidationSettings) -> str:
    """Versions, device and precision, with a warning where --half changes nothing."""
    device = select_device(settings.device)
    dtype = select_precision(device, settings.half)
    line = (
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"{device} ({device_name(device)}), {str(dtype).removeprefix('torch.')}"
    )
    if settings.half and dtype == torch.float32:
        line += "\nWARNING: --half has no effect: this CPU has no bfloat16 arithmetic"
    return line
