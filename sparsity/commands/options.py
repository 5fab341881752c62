"""Parsed flags -> values: settings, methods, files. What can't be used is refused here."""

from __future__ import annotations

import math
from argparse import Namespace
from dataclasses import asdict, dataclass
from pathlib import Path

from sparsity.base.devices import select_device
from sparsity.base.errors import InputError
from sparsity.base.files import probe_writing
from sparsity.channels.slimming_settings import SlimmingSettings
from sparsity.commands.flags import DEFAULT_WEIGHTS
from sparsity.commands.method_lists import parse_methods
from sparsity.demo import data as demo
from sparsity.engines.making import make_engine, make_engines
from sparsity.engines.table import TORCH
from sparsity.formats import onnx_file
from sparsity.formats.onnx_file import OnnxNetwork
from sparsity.formats.saving import check_form
from sparsity.pruning.method import Method
from sparsity.pruning.patterns import Pattern, parse_pattern
from sparsity.pruning.pruner import no_calibration
from sparsity.pruning.scopes import check_amount
from sparsity.training.settings import TrainingSettings
from sparsity.validation.settings import ValidationSettings


@dataclass(frozen=True)
class Options:
    """The values of the flags that most commands share."""

    weights: str
    data: str
    settings: ValidationSettings
    project: Path
    name: str
    exist_ok: bool
    verbose: bool


@dataclass(frozen=True)
class Pruning:
    """The values of the flags of methods."""

    methods: tuple[Method, ...]
    keep: tuple[str, ...]
    pattern: Pattern | None
    calib: str
    calib_images: int
    calib_seed: int


def read_training(args: Namespace) -> TrainingSettings:
    """The flags of training as values, those that read_options has looked at. Raises InputError."""
    names = set(asdict(TrainingSettings())) - {"amount", "augment"}
    values = {name: getattr(args, name) for name in names}
    return TrainingSettings(amount=read_amount(args.sparsity), augment=not args.no_augment, **values)


def read_pruning(args: Namespace) -> Pruning:
    """The flags of methods as values. Raises InputError for one that can't be used."""
    methods = parse_methods(args.criterion, args.scope)
    calib = args.calib or (demo.NAME if args.demo else "")
    needy = [method for method in methods if method.needs_calibration]
    if needy and not calib:
        raise InputError(no_calibration(needy[0]))
    pattern = parse_pattern(args.pattern)
    return Pruning(methods, tuple(args.keep), pattern, calib, args.calib_images, args.calib_seed)


def read_slimming(args: Namespace) -> SlimmingSettings:
    """The flags of slimming as values. Raises InputError for one out of range."""
    names = ("percent", "by", "tied", "min_channels", "round_to")
    return SlimmingSettings(**{name: getattr(args, name) for name in names}, fold=not args.no_fold)


def read_save(args: Namespace) -> tuple[Path, ...]:
    """The files that --save names. Raises InputError where one can't be written, or is there already."""
    files = tuple(check_form(file, int8=getattr(args, "int8", False)) for file in args.save)
    for file in files:
        check_target(file, args.weights, exist_ok=args.exist_ok)
    return files


def read_saving(args: Namespace) -> tuple[Path, ...]:
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


def read_options(args: Namespace) -> Options:
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
