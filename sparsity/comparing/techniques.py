"""The techniques as data: the commands that make each one's files, and what then runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sparsity.base.errors import InputError
from sparsity.comparing.asked import Asked, Command
from sparsity.comparing.table import TECHNIQUES
from sparsity.engines.table import ENGINES
from sparsity.pruning.method import Method


@dataclass(frozen=True)
class Plan:
    """How a row comes about.

    commands: run one after another; they write into the row's folder. runs: engine -> the file that it
    validates and runs. counted: the file whose operations are counted. note: what the row shows. unfused:
    the batch norms stay apart in torch's latency. cut: slim.py's account of what went.
    """

    commands: tuple[Command, ...] = ()
    runs: Mapping[str, str] = field(default_factory=dict)
    counted: str = ""
    note: str = ""
    unfused: bool = False
    cut: str = ""


def plan(technique: str, asked: Asked, folder: Path) -> Plan:
    """The plan of one technique, its files in folder. Raises InputError for another name."""
    if technique not in TECHNIQUES:
        raise InputError(f"--techniques: {technique!r}; {', '.join(TECHNIQUES)} are expected")
    return TECHNIQUES[technique](asked, folder)


def dense(asked: Asked, _folder: Path) -> Plan:
    """The checkpoint as it is."""
    note = "as trained, batch norms apart (validated fused: the same function)"
    if asked.fused:
        note = "as it is; the checkpoint's batch norms are folded in already"
    return Plan((), {"torch": asked.weights}, asked.weights, note, unfused=True)


def fuse(asked: Asked, folder: Path) -> Plan:
    """Batch norms folded into the convolutions."""
    return _saved(asked.weights, asked, folder, (), "batch norms folded into the convolutions")


def prune(asked: Asked, folder: Path) -> Plan:
    """Pruned, without training."""
    flags = _pruning(asked)
    method = Method(asked.criterion, asked.scope)
    if method.needs_calibration:
        flags = (*flags, *_calibration(asked, f"--criterion {asked.criterion}, --scope {asked.scope}"))
    note = f"{asked.sparsity:g} of the weights are 0, by {method.label}"
    return _saved(asked.weights, asked, folder, flags, note)


def prune_finetune(asked: Asked, folder: Path) -> Plan:
    """Pruned, then trained; the zeros stay zero."""
    note = "pruned, then trained with the zeros kept"
    return _trained(asked.weights, asked, folder, _pruning(asked), note)


def distill(asked: Asked, folder: Path) -> Plan:
    """Pruned, then trained with the dense network as teacher."""
    flags = (*_pruning(asked), "--teacher", asked.weights)
    return _trained(asked.weights, asked, folder, flags, "the same, with the dense network as teacher")


def slim(asked: Asked, folder: Path) -> Plan:
    """Channels cut, then trained."""
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
    """Linear layers quantised to int8 when they run."""
    fused = fuse(asked, folder)
    note = "dynamic quantisation touches Linear layers alone: nothing changes without any"
    return Plan(fused.commands, {"torch": fused.counted}, fused.counted, note)


def int8_static(asked: Asked, folder: Path) -> Plan:
    """Convolutions quantised to int8 on calibration images."""
    file = str(folder / "int8.onnx")
    flags = ("--save", file, "--int8", *_calibration(asked, "int8-static"))
    command = ("val", "--weights", asked.weights, *_data(asked), *asked.making, *flags)
    note = "convolutions in int8, by images of --calib"
    runs = dict.fromkeys((engine for engine in asked.engines if ENGINES[engine].needs_graph), file)
    place = _place(folder, "made")
    return Plan(((*command, *place),), runs or {"onnxruntime": file}, asked.weights, note)


def validation(asked: Asked, engine: str, file: str, folder: Path) -> Command:
    """The command that validates a file in an engine, into folder."""
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
    """more: flags that come last, and so count where others say another."""
    command = ("finetune", "--weights", weights, *_data(asked), *asked.making, *flags)
    return (*command, "--epochs", str(asked.epochs), *asked.training, *more, *_place(folder, name))


def _pruning(asked: Asked) -> Command:
    how = ("--criterion", asked.criterion, "--scope", asked.scope)
    return ("--sparsity", str(asked.sparsity), *how)


def _calibration(asked: Asked, who: str) -> Command:
    if not asked.calib:
        raise InputError(f"{who} looks at images: --calib FOLDER names some (no labels needed)")
    return ("--calib", asked.calib)


def _data(asked: Asked) -> Command:
    return ("--data", asked.data, *asked.shared)


def _place(folder: Path, name: str) -> Command:
    return ("--project", str(folder), "--name", name, "--exist-ok")
