"""Parsed flags -> values: settings, methods, files. What can't be used is refused here."""

from __future__ import annotations

import math
import unicodedata
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from sparsity.base.devices import select_device
from sparsity.base.errors import InputError
from sparsity.base.files import probe_writing
from sparsity.base.optional import optional_module
from sparsity.channels.slimming_settings import SlimmingSettings
from sparsity.cluster.settings import LOCAL, ClusterSettings
from sparsity.commands.flags import DEFAULT_WEIGHTS
from sparsity.commands.method_lists import parse_methods
from sparsity.data.sources import Split
from sparsity.demo import data as demo
from sparsity.engines.making import make_engine, make_engines
from sparsity.engines.table import ENGINES, SPARSE, TORCH, need_images
from sparsity.formats import onnx_file
from sparsity.formats.onnx_file import OnnxNetwork
from sparsity.formats.saving import check_form
from sparsity.pruning.budgets import LATENCY, WEIGHTS
from sparsity.pruning.method import Method, any_by_time
from sparsity.pruning.patterns import AnyPattern, parse_pattern
from sparsity.pruning.pruner import no_calibration
from sparsity.pruning.scopes import check_amount
from sparsity.sweeping.defaults import DENSE, RESOLUTION
from sparsity.sweeping.finetuning import Finetuning, of_training
from sparsity.sweeping.search import SearchSettings
from sparsity.timing.layer_prices import check_engine_of_budget
from sparsity.timing.speedup import check_speedup
from sparsity.training.preparation import Material
from sparsity.training.settings import TrainingSettings
from sparsity.validation.settings import ValidationSettings

LONGEST_NAME = 200
"""Bytes; file systems allow 255, and numbers and suffixes are added."""


@dataclass(frozen=True)
class Options:
    """The values of the flags that most commands share."""

    weights: str
    data: str
    task: Split
    ignore_names: bool
    settings: ValidationSettings
    head: str
    project: Path
    name: str
    exist_ok: bool
    verbose: bool


@dataclass(frozen=True)
class Pruning:
    """The values of the flags of methods."""

    methods: tuple[Method, ...]
    keep: tuple[str, ...]
    depthwise: bool
    pattern: AnyPattern | None
    calib: str
    calib_images: int
    calib_seed: int


def read_training(args: Namespace) -> TrainingSettings:
    """Return the flags of training as values; call read_options first. Raises InputError."""
    names = set(asdict(TrainingSettings())) - {"amount", "augment"}
    values = {name: getattr(args, name) for name in names}
    settings = TrainingSettings(amount=read_amount(args.sparsity), augment=not args.no_augment, **values)
    if settings.budget == LATENCY:
        check_engine_of_budget()
    return settings


def read_finetuning(args: Namespace, options: Options) -> Finetuning | None:
    """Return how the levels of a sweep are trained; None without --finetune.

    Raises InputError for a value out of range, and for a flag of training without --finetune.
    """
    d = TrainingSettings()
    own = ("amount", "augment", "criterion", "scope", "budget", "depthwise", "calib_images", "batch_size")
    names = {name for name in set(asdict(d)) - set(own) if hasattr(args, name)}
    values = {name: getattr(args, name) for name in names}
    values |= {"augment": not args.no_augment, "batch_size": args.train_batch_size}
    if args.epochs is None:
        shared = ("epochs", "imgsz", "workers")
        given = [name for name in values if name not in shared and values[name] != getattr(d, name)]
        given += [name for name in ("teacher", "images") if getattr(args, name)]
        given += ["prune_from"] if args.prune_from != DENSE else []
        if given:
            raise InputError(of_training(f"`{sorted(given)[0]}` is for training; give `epochs`, too"))
        return None
    try:
        settings = TrainingSettings(**values)
    except InputError as error:
        raise InputError(of_training(str(error))) from error
    named = ("weights", "data", "images", "teacher", "ignore_names")
    material = Material(**{name: getattr(args, name) for name in named})
    return Finetuning(material, settings, args.prune_from, options.settings)


def read_cluster(args: Namespace) -> ClusterSettings | None:
    """Return where the levels are computed; None for this process. Raises InputError for a wrong value."""
    given = {name: getattr(args, f"ray_{name}") for name in ("cpus", "gpus", "retries")}
    settings = ClusterSettings(address=args.ray or LOCAL, **given)
    if args.ray is None:
        if settings != ClusterSettings():
            name = next(name for name, value in given.items() if value != getattr(ClusterSettings, name))
            raise InputError(f"`ray_{name}` goes with `ray`; give that, or leave it out")
        return None
    optional_module("ray", "`ray`")
    return settings


def read_search(args: Namespace) -> SearchSettings | None:
    """Return what is searched for; None where the levels are given. Raises InputError for both or neither."""
    if args.keep_ap is None:
        for name, given in (("save", args.save), ("search_images", args.search_images)):
            if given:
                raise InputError(f"`{name}` goes with `keep_ap`; give that, or leave it out")
        if args.resolution != RESOLUTION:
            raise InputError("`resolution` goes with `keep_ap`; give that, or leave it out")
        if args.levels is None:
            raise InputError("the following arguments are required: levels, or --keep-ap")
        return None
    if args.levels is not None:
        raise InputError(f"`keep_ap` searches for the level; leave LEVELS {args.levels} out")
    if args.prune_from != DENSE:
        raise InputError("`keep_ap` prunes each level from the dense network; leave `prune_from` out")
    return SearchSettings(args.keep_ap, args.resolution, args.search_images)


def read_found_files(args: Namespace, pruning: Pruning) -> tuple[Path, ...]:
    """Return the files for the network that is found. Raises InputError as read_save, or for several methods.

    With --resume, they may exist: the stopped search may have written them.
    """
    if args.save and len(pruning.methods) > 1:
        names = ", ".join(method.label for method in pruning.methods)
        raise InputError(f"`save` takes the network of one method, but {names} are searched; leave one")
    return tuple(check_form(file) for file in args.save) if args.resume else read_save(args)


def read_pruning(args: Namespace) -> Pruning:
    """Return the flags of methods as values. Raises InputError for one that can't be used."""
    methods = parse_methods(args.criterion, args.scope, args.budget, read_steps(args))
    pattern = parse_pattern(args.pattern)
    check_budgets(methods, pattern)
    calib = args.calib or (demo.NAME if args.demo else "")
    needy = [method for method in methods if method.needs_calibration]
    if needy and not calib:
        raise InputError(no_calibration(needy[0]))
    return Pruning(
        methods=methods,
        keep=tuple(args.keep),
        depthwise=args.depthwise,
        pattern=pattern,
        calib=calib,
        calib_images=args.calib_images,
        calib_seed=args.calib_seed,
    )


def read_steps(args: Namespace) -> int:
    """Return --reconstruct. Raises InputError for a number below 0."""
    if args.reconstruct < 0:
        raise InputError(f"--reconstruct is {args.reconstruct}; a number of steps from 0 on is expected")
    return args.reconstruct


def check_budgets(methods: Sequence[Method], pattern: AnyPattern | None = None) -> None:
    """Raise InputError for a budget of time without the engine that it is measured in, or with N:M.

    Layers are timed for a minute before the amounts, and N:M with them, are checked.
    """
    if any_by_time(methods):
        check_engine_of_budget()
        if pattern and pattern.sparsity:
            raise InputError(f"--pattern {pattern} goes with --budget weights only; leave one of them out")


def read_speedup(args: Namespace) -> float | None:
    """Return --speedup, which sets --budget to latency; None where it is not given.

    Raises InputError for a number that is not above 1, and for flags that do not go with it.
    """
    if args.speedup is None:
        return None
    speedup = check_speedup(args.speedup)
    for flag, given, fitting in (
        ("--sparsity", args.sparsity, ("0",)),
        ("--budget", args.budget, (WEIGHTS, LATENCY)),
        ("--engine", args.engine, ("", SPARSE)),
    ):
        if given not in fitting:
            raise InputError(
                f"--speedup {speedup:g} is a speedup in the sparse engine and sets how much is pruned; leave "
                f"{flag} {given} out"
            )
    args.budget = LATENCY
    return speedup


def read_slimming(args: Namespace) -> SlimmingSettings:
    """Return the flags of slimming as values. Raises InputError for one out of range."""
    names = ("percent", "by", "tied", "min_channels", "round_to")
    return SlimmingSettings(**{name: getattr(args, name) for name in names}, fold=not args.no_fold)


def read_save(args: Namespace) -> tuple[Path, ...]:
    """Return the files of --save. Raises InputError where one can't be written, or exists already."""
    files = tuple(check_form(file, int8=bool(getattr(args, "int8", ""))) for file in args.save)
    for file in files:
        check_target(file, args.weights, exist_ok=args.exist_ok)
    return files


def read_saving(args: Namespace) -> tuple[Path, ...]:
    """Return the files of --save. Raises InputError for --int8 without an .onnx file or without images."""
    files = read_save(args)
    if args.int8 and not any(file.suffix == ".onnx" for file in files):
        raise InputError("--int8 quantises .onnx files, and --save names none")
    if args.int8 and not (args.calib or args.demo):
        raise InputError("--int8 looks at images: --calib FOLDER names some (no labels needed)")
    return files


def check_target(file: Path, source: str, *, exist_ok: bool) -> None:
    """Raise InputError where the file is the source, or exists and must not be overwritten."""
    if file.exists() and Path(source).exists() and file.samefile(source):
        raise InputError(f"{file}: is the very file that is read; give another name")
    written = [file, file.with_suffix(".h")] if file.suffix == ".c" else [file]
    for one in written:
        if one.exists() and not exist_ok:
            raise InputError(f"{one}: exists already; give another name, or --exist-ok to write over it")
    probe_writing(file.parent)


def read_exported(options: Options, *changes: object) -> OnnxNetwork | None:
    """Return the ONNX file of --weights; None for another form.

    changes: what the other flags would do to a network. Raises InputError where there is such, or the
    file can't be read or run.
    """
    if not options.weights.endswith(".onnx"):
        return None
    if any(changes) or options.head:
        raise InputError(
            f"{options.weights}: an exported network is validated as it is, without --sparsity and the flags "
            "of how, --compact, --head or --save; give the .pt or .safetensors it was made from"
        )
    if not ENGINES[options.settings.engine].needs_graph:
        *others, last = (name for name in ENGINES if ENGINES[name].needs_graph)
        names = f"{', '.join(others)} or {last}"
        raise InputError(
            f"{options.weights}: --engine {names} runs ONNX files, {options.settings.engine} does not"
        )
    return onnx_file.read(Path(options.weights))


def _default_engine(weights: str) -> str:
    """Return the engine for a file where none is given: torch; for an .onnx file the first installed one."""
    if not weights.endswith(".onnx"):
        return TORCH
    graphs = [name for name in ENGINES if ENGINES[name].needs_graph]
    installed = [name for name in graphs if find_spec(ENGINES[name].package)]
    return (installed or graphs)[0]


def read_engines(text: str) -> tuple[str, ...]:
    """Return --engines as names. Raises InputError for an unknown one, or one whose package is missing."""
    return tuple(make_engines([name.strip() for name in text.split(",")]))


def refuse_images(engines: Sequence[str], command: str) -> tuple[str, ...]:
    """Return the engines. Raises InputError for one that needs images, which this command does not give."""
    for name in engines:
        if need_images([name]):
            raise InputError(f"`engine` {name} needs images, and {command} gives it none; sweep and val do")
    return tuple(engines)


def read_batch_sizes(text: str) -> tuple[int, ...]:
    """Return --batch-sizes as numbers; () for "none". Raises InputError for anything else."""
    if text.strip().lower() == "none":
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"--batch-sizes is {text!r}; numbers such as 1,32, or none, are expected") from error


def read_options(args: Namespace) -> Options:
    """Return the flags that commands share as values. Raises InputError for one out of range."""
    _check_texts(args)
    if args.demo:
        given = args.weights not in ("", DEFAULT_WEIGHTS)
        args.weights, args.data = args.weights if given else demo.NAME, demo.NAME
    if args.imgsz is None:
        args.imgsz = demo.IMGSZ if args.demo else ValidationSettings.imgsz
    if getattr(args, "engine", None) == "":
        args.engine = _default_engine(args.weights)
    fields = {name: getattr(args, name, default) for name, default in asdict(ValidationSettings()).items()}
    settings = ValidationSettings(**fields)
    select_device(settings.device)
    make_engine(settings.engine)
    return Options(
        weights=args.weights,
        data=args.data,
        task=getattr(args, "task", "val"),
        ignore_names=args.ignore_names,
        settings=settings,
        head=args.head,
        project=args.project,
        name=args.name,
        exist_ok=args.exist_ok,
        verbose=args.verbose,
    )


def _check_texts(args: Namespace) -> None:
    """Raise InputError for a --name that is no folder's, or text that a terminal would not print as it is."""
    name = args.name
    if not name or name in (".", "..") or Path(name).name != name:
        raise InputError(f"--name is {name!r}; the name of a folder, without /, is expected")
    if len(name.encode("utf-8", "surrogateescape")) > LONGEST_NAME:
        raise InputError(f"--name has {len(name)} characters; at most {LONGEST_NAME} bytes are expected")
    for flag in ("name", "title"):
        text = getattr(args, flag, "")
        if any(unicodedata.category(character) == "Cc" for character in text):
            raise InputError(f"--{flag} is {text!a}; text without control characters is expected")


def read_amount(text: str) -> float:
    """Return --sparsity as a fraction. Raises InputError unless it is a number from 0 to below 1."""
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if math.isnan(amount):
        raise InputError(f"--sparsity is {text!r}; a fraction such as 0.3 is expected")
    return check_amount(amount)
