"""The command compare: what each technique makes of one checkpoint, side by side."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from sparsity.base.devices import describe_environment
from sparsity.base.errors import InputError
from sparsity.base.progress import say
from sparsity.base.resumable import ResumableFolder
from sparsity.base.run_folders import run_folder
from sparsity.cluster.comparing import ray_makers
from sparsity.cluster.connection import check_address
from sparsity.cluster.settings import ClusterSettings
from sparsity.commands.announcement import announce
from sparsity.commands.flags import DATA, HARDWARE, VALIDATION
from sparsity.commands.forwarding import as_words, own_flags, read_more
from sparsity.commands.method_lists import read_method
from sparsity.commands.opening import open_data
from sparsity.commands.options import (
    check_budgets,
    read_amount,
    read_cluster,
    read_engines,
    read_options,
    read_slimming,
    read_training,
    refuse_images,
)
from sparsity.commands.parsers import compare_parser, finetune_parser, slim_parser
from sparsity.commands.table import COMMANDS
from sparsity.commands.translation import speaking_of
from sparsity.comparing.asked import Asked, Command
from sparsity.comparing.intervals import changes, check_samples
from sparsity.comparing.making import Job, MakeAll, make_here
from sparsity.comparing.row import ComparedRow
from sparsity.comparing.running import Made, rows
from sparsity.comparing.techniques import Plan, plan
from sparsity.data.dataset import Dataset
from sparsity.data.downloads import ensure_calibration, ensure_weights
from sparsity.demo import data as demo
from sparsity.engines.making import make_engines
from sparsity.engines.table import engine_packages
from sparsity.formats.loading import load
from sparsity.pruning.zeros import count_sparsity
from sparsity.report.advice import Advice, advise, format_advice
from sparsity.report.comparison import format_comparison, write_comparison
from sparsity.report.titles import describe_run
from sparsity.report.validation import format_model
from sparsity.timing.latency import Rounds
from sparsity.training.tracking import check_tracker
from sparsity.validation.settings import ValidationSettings
from sparsity.validation.setup import describe_setup
from sparsity.yolo.heads import choose_head
from sparsity.yolo.network import has_norms

ABOUT = "compare.json"


def run(args: Namespace, line: str) -> None:
    """Compare as the flags say; print a table, write tables, a plot and a page."""
    options, asked, samples = read_options(args), _read(args), check_samples(args.bootstrap)
    cluster = read_cluster(args)
    if cluster is not None:
        check_address(cluster.address)  # It connects later, when its folder is there.
    names = list(dict.fromkeys(name.strip() for name in args.techniques.split(",")))
    _check([plan(name, asked, Path(name)) for name in names])
    rounds = Rounds(args.seconds, most=200)
    on_cpu = replace(options.settings, device="cpu", half=False)
    announce("compare", args, on_cpu)

    made_folder = run_folder(options.project, options.name, exist_ok=options.exist_ok, resume=args.resume)
    with made_folder as folder:
        network = load(ensure_weights(options.weights, progress=True), fused=False)
        network = choose_head(network, options.head) if options.head else network
        print(format_model(count_sparsity(network)))
        dataset, fitted = open_data(options, network, on_cpu)
        if asked.calib:
            ensure_calibration(asked.calib, progress=True)
        asked = replace(
            asked, **_forwarded(args, cluster, options.settings, fitted), fused=not has_norms(network)
        )
        setup = describe_setup(network, dataset, fitted)
        environment = describe_environment(torch.device("cpu"), engine_packages())
        about = {"command": line, "environment": environment}
        place = ResumableFolder(folder, ABOUT, "comparison")
        if args.resume:
            place.resume(setup)
        place.begin(setup, **about)

        plans = {name: plan(name, asked, folder / name) for name in names}
        make_all = make_here if cluster is None else _on_cluster(cluster, args, dataset)
        made, failed = _make_all(make_all, plans, asked, folder, resuming=bool(args.resume))
        if made:
            done = rows(made, changes(made, dataset, fitted, samples), fitted.imgsz, rounds)
            facts = {"command": line, "seconds of latency": rounds.seconds, **setup, **environment}
            title = describe_run(options.weights, options.data, len(dataset.images))
            advice = _report(folder, done, f"{title}, {fitted.imgsz} px", facts)
            said = {"asked": asdict(asked), "latency": asdict(rounds), "bootstrap": samples, "failed": failed}
            place.begin(setup, **about, **said, advice=asdict(advice))
        if failed:
            told = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
            raise InputError(
                f"{len(failed)} of {len(plans)} techniques failed: {told}; --resume {folder} retries"
            )


def _read(args: Namespace) -> Asked:
    """Return the values of the flags that need no network. Raises InputError for one that can't be used."""
    mine = compare_parser("")
    training, slimming = finetune_parser("compare --training"), slim_parser("compare --slimming")
    sparse_training = finetune_parser("compare --sparse-training")
    own = own_flags(mine, training)
    sparse = read_more("--sparse-training", args.sparse_training, sparse_training, own - {"epochs"})
    if sparse and not finetune_parser("").parse_args(sparse).sparse_train:
        raise InputError("--sparse-training: --sparse-train RATE is expected in it, such as 0.0025")
    method = read_method(args.criterion, args.scope, args.budget)
    check_budgets([method])
    return Asked(
        args.weights,
        args.data,
        engines=refuse_images(read_engines(args.engines), "compare"),
        calib=args.calib or (demo.NAME if args.demo else ""),
        sparsity=read_amount(args.sparsity),
        percent=args.percent,
        epochs=args.epochs,
        criterion=method.name,
        scope=method.scope,
        budget=method.budget,
        depthwise=args.depthwise,
        training=read_more("--training", args.training, training, own),
        slimming=read_more("--slimming", args.slimming, slimming, own_flags(mine, slimming)),
        sparse_training=sparse,
    )


def _check(plans: list[Plan]) -> None:
    """Raise InputError where a command would refuse its flags, or an engine's package is missing."""
    for name, *words in (command for one in plans for command in one.commands):
        parser = COMMANDS[name].make_parser(f"sparsity {name}")
        args = parser.parse_args(words)
        with speaking_of(parser):
            if name == "finetune":
                read_options(args)
                read_training(args)
                check_tracker(args.log_with)
            elif name == "slim":
                read_slimming(args)
    make_engines([engine for one in plans for engine in one.runs])


def _forwarded(
    args: Namespace,
    cluster: ClusterSettings | None,
    settings: ValidationSettings,
    fitted: ValidationSettings,
) -> dict[str, Command]:
    """Return the flags that every command gets. settings: as the user gave them; fitted: for the network."""
    # On a cluster, a task sees the GPU that Ray gives it, and no other one.
    device = args.device if cluster is None or args.device == "cpu" else ""
    parser = compare_parser("")
    given = Namespace(**{**vars(args), "imgsz": fitted.imgsz, "device": device})
    batch = () if settings.batch_size is None else ("--batch-size", str(settings.batch_size))
    return {
        "shared": (
            *as_words(parser, given, VALIDATION, without=("batch_size", "bootstrap")),
            *as_words(parser, given, DATA, without=("weights", "data", "demo")),
        ),
        "making": as_words(parser, given, HARDWARE),
        "validating": ("--device", "cpu", *batch),
    }


def _report(folder: Path, done: Sequence[ComparedRow], title: str, facts: Mapping[str, object]) -> Advice:
    """Write and print the tables, and what they come to, which is returned."""
    advice, machine = advise(done), str(facts["device"])
    write_comparison(folder, done, title, machine, facts)
    print(f"\n{format_comparison(done)}\n\nFor this data and this CPU ({title}, {machine}):")
    print(f"{format_advice(advice)}\n\nResults saved to {folder}")
    return advice


def _on_cluster(cluster: ClusterSettings, args: Namespace, dataset: Dataset) -> MakeAll:
    """Return what makes the techniques on a cluster, whose machines must see the files that are given."""
    named = (args.weights, args.data, args.calib)
    files = [Path(name) for name in named if name and name != demo.NAME and Path(name).exists()]
    return ray_makers(cluster, args.device, [*files, *(image.path for image in dataset.images)])


def _make_all(
    make_all: MakeAll, plans: dict[str, Plan], asked: Asked, folder: Path, *, resuming: bool
) -> tuple[list[Made], dict[str, str]]:
    """Return what was made, and the error of each technique that failed."""
    jobs = [Job(name, one, folder / name, resuming) for name, one in plans.items()]
    outcomes = dict(zip(plans, make_all(jobs, asked, say), strict=True))
    made = [one for outcome in outcomes.values() for one in outcome.made]
    return made, {name: outcome.error for name, outcome in outcomes.items() if outcome.error}
