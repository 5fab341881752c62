"""The techniques as data: the commands that make the files of each, and the engines that run them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sparsity.base.errors import InputError
from sparsity.comparing.asked import Asked, Command
from sparsity.comparing.table import TECHNIQUES
from sparsity.engines.table import ENGINES
from sparsity.pruning.budgets import WEIGHTS
from sparsity.pruning.method import Method


@dataclass(frozen=True)
class Plan:
    """How the rows of a technique are made.

    commands: run one after another; they write into the technique's folder. runs: engine -> the file that it
    validates and runs. counted: the file whose operations are counted. note: a description, for the rows.
    unfused: whether latency in torch is measured with separate batch norms. cut: the slim.json that counts
    the cut channels; "" if none are cut.
    """

    commands: tuple[Command, ...] = ()
    runs: Mapping[str, str] = field(default_factory=dict)
    counted: str = ""
    note: str = ""
    unfused: bool = False
    cut: str = ""


def plan(technique: str, asked: Asked, folder: Path) -> Plan:
    """Return the plan of one technique, with its files in folder. Raises InputError for an unknown name."""
    if technique not in TECHNIQUES:
        raise InputError(
            f"`techniques` names {technique!r}; one or more of {', '.join(TECHNIQUES)} are expected"
        )
    return TECHNIQUES[technique](asked, folder)


def dense(asked: Asked, _folder: Path) -> Plan:
    """Plan dense: the checkpoint as it is."""
    note = "as trained, with separate batch norms (validated with folded ones: the same function)"
    if asked.fused:
        note = "as it is; the checkpoint's batch norms are already folded"
    return Plan((), {"torch": asked.weights}, asked.weights, note, unfused=True)


def fuse(asked: Asked, folder: Path) -> Plan:
    """Plan fuse: batch norms are folded into the convolutions."""
    return _saved(asked.weights, asked, folder, (), "batch norms folded into the convolutions")


def prune(asked: Asked, folder: Path) -> Plan:
    """Plan prune: the checkpoint is pruned, without training."""
    flags = _pruning(asked)
    method = Method(asked.criterion, asked.scope, asked.budget)
    if method.needs_calibration:
        flags = (*flags, *_calibration(asked, f"`criterion` {asked.criterion} with `scope` {asked.scope}"))
    note = f"{asked.sparsity:g} of the {asked.budget} are pruned, by {method.label}"
    return _saved(asked.weights, asked, folder, flags, note)


def prune_finetune(asked: Asked, folder: Path) -> Plan:
    """Plan prune+finetune: the checkpoint is pruned, then trained; the zeros stay zero."""
    note = "pruned, then trained with the zeros kept"
    return _trained(asked.weights, asked, folder, (*_pruning(asked), "--teacher", "none"), note)


def distill(asked: Asked, folder: Path) -> Plan:
    """Plan distill: as prune+finetune, with the dense network as teacher."""
    flags = (*_pruning(asked), "--teacher", asked.weights)
    note = "pruned, then trained with the zeros kept and the dense network as teacher"
    return _trained(asked.weights, asked, folder, flags, note)


def slim(asked: Asked, folder: Path) -> Plan:
    """Plan slim: channels are cut, then the network is trained."""
    weights, before = asked.weights, ()
    if asked.sparse_training:
        before = (_training(weights, asked, folder, "sparse", more=asked.sparse_training),)
        weights = str(folder / "sparse" / "last.pt")
    command = ("slim", "--weights", weights, "--percent", str(asked.percent), *asked.slimming)
    cut = (*command, *asked.shared, *asked.making, *_place(folder, "slim"))
    trained = _trained(str(folder / "slim" / "slimmed.pt"), asked, folder, (), "")
    note = f"channels cut, then trained{'; sparse-trained before' if before else ''}"
    file = str(folder / "slim" / "slim.json")
    return Plan((*before, cut, *trained.commands), trained.runs, trained.counted, note, cut=file)


def int8_dynamic(asked: Asked, folder: Path) -> Plan:
    """Plan int8-dynamic: Linear layers are quantised to int8 at run time."""
    fused = fuse(asked, folder)
    note = "dynamic quantisation changes only Linear layers; a network without any stays the same"
    return Plan(fused.commands, {"torch": fused.counted}, fused.counted, note)


def int8_static(asked: Asked, folder: Path) -> Plan:
    """Plan int8-static: convolutions are quantised to int8, calibrated on images."""
    calibration = _calibration(asked, "int8-static")
    engines = [name for name in asked.engines if ENGINES[name].needs_graph] or ["onnxruntime"]
    runtimes = {name: ENGINES[name].package for name in engines}
    files = {runtime: str(folder / f"int8_{runtime}.onnx") for runtime in runtimes.values()}
    commands = tuple(
        (
            *("val", "--weights", asked.weights, *_data(asked), *asked.making),
            *("--save", file, "--int8", runtime, *calibration, *_place(folder, f"made_{runtime}")),
        )
        for runtime, file in files.items()
    )
    note = "convolutions in int8 by NNCF, calibrated on the images of --calib"
    runs = {name: files[runtime] for name, runtime in runtimes.items()}
    return Plan(commands, runs, asked.weights, note)


def validation(asked: Asked, engine: str, file: str, folder: Path) -> Command:
    """Return the command that validates a file in an engine, and writes into folder."""
    flags = (*asked.validating, *(() if engine == "torch" else ("--engine", engine)))
    return ("val", "--weights", file, *_data(asked), *flags, *_place(folder, f"val_{engine}"))


def _saved(weights: str, asked: Asked, folder: Path, flags: Command, note: str) -> Plan:
    compressed, exported = str(folder / "network.safetensors"), str(folder / "network.onnx")
    runs = {name: exported if ENGINES[name].needs_graph else compressed for name in asked.engines}
    saves = tuple(word for file in dict.fromkeys([compressed, *runs.values()]) for word in ("--save", file))
    command = ("val", "--weights", weights, *_data(asked), *asked.making, *flags, *saves)
    return Plan(((*command, *_place(folder, "made")),), runs, compressed, note)


def _trained(weights: str, asked: Asked, folder: Path, flags: Command, note: str) -> Plan:
    saved = _saved(str(folder / "train" / "best.pt"), asked, folder, (), note)
    train = _training(weights, asked, folder, "train", flags)
    return Plan((train, *saved.commands), saved.runs, saved.counted, note)


def _training(
    weights: str, asked: Asked, folder: Path, name: str, flags: Command = (), more: Command = ()
) -> Command:
    """Return the command of a training. more: flags that come last, and so override earlier ones."""
    command = ("finetune", "--weights", weights, *_data(asked), *asked.making, *flags)
    epochs = () if asked.epochs is None else ("--epochs", str(asked.epochs))
    return (*command, *epochs, *asked.training, *more, *_place(folder, name))


def _pruning(asked: Asked) -> Command:
    budget = () if asked.budget == WEIGHTS else ("--budget", asked.budget)
    depthwise = ("--depthwise",) if asked.depthwise else ()
    how = ("--criterion", asked.criterion, "--scope", asked.scope, *budget, *depthwise)
    return ("--sparsity", str(asked.sparsity), *how)


def _calibration(asked: Asked, subject: str) -> Command:
    if not asked.calib:
        raise InputError(
            f"{subject} needs calibration images; give a folder as `calibration` (no labels needed)"
        )
    return ("--calib", asked.calib)


def _data(asked: Asked) -> Command:
    return ("--data", asked.data, *asked.shared)


def _place(folder: Path, name: str) -> Command:
    return ("--project", str(folder), "--name", name, "--exist-ok")
