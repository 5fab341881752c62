"""The techniques as data: the commands that make each one's files, and what then runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sparsity.errors import InputError

Command = tuple[str, ...]


@dataclass(frozen=True)
class Asked:
    """What all techniques share.

    weights, data, calib: as the scripts' flags. sparsity: fraction pruned. percent: channels slimmed.
    epochs: of each training; training: more flags of finetune.py. criterion: for pruning.
    shared: flags that every script is given, such as --imgsz.
    """

    weights: str
    data: str
    calib: str = ""
    sparsity: float = 0.5
    percent: float = 0.5
    epochs: int = 10
    criterion: str = "l1"
    training: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """How a row comes about.

    commands: run one after another; they write into the row's folder. runs: engine -> the file that it
    validates and runs. counted: the file whose operations are counted. note: what the row shows. unfused:
    the batch norms stay apart in torch's latency.
    """

    commands: tuple[Command, ...] = ()
    runs: Mapping[str, str] = field(default_factory=dict)
    counted: str = ""
    note: str = ""
    unfused: bool = False


def plan(technique: str, asked: Asked, folder: Path) -> Plan:
    """The plan of one technique, its files in folder. Raises InputError for another name."""
    if technique not in TECHNIQUES:
        raise InputError(f"--techniques: {technique!r}; {', '.join(TECHNIQUES)} are expected")
    return TECHNIQUES[technique](asked, folder)


def _dense(asked: Asked, _folder: Path) -> Plan:
    note = "as trained, batch norms apart (validated fused: the same function)"
    return Plan((), {"torch": asked.weights}, asked.weights, note, unfused=True)


def _fuse(asked: Asked, folder: Path) -> Plan:
    return _saved(asked.weights, asked, folder, (), "batch norms folded into the convolutions")


def _prune(asked: Asked, folder: Path) -> Plan:
    return _saved(asked.weights, asked, folder, _pruning(asked), f"{asked.sparsity:g} of the weights are 0")


def _prune_finetune(asked: Asked, folder: Path) -> Plan:
    pruned = ("--sparsity", f"{asked.sparsity:g}", "--criterion", asked.criterion)
    return _trained(asked.weights, asked, folder, pruned, "pruned, then trained with the zeros kept")


def _distill(asked: Asked, folder: Path) -> Plan:
    pruned = ("--sparsity", f"{asked.sparsity:g}", "--criterion", asked.criterion, "--teacher", asked.weights)
    return _trained(asked.weights, asked, folder, pruned, "the same, with the dense network as teacher")


def _slim(asked: Asked, folder: Path) -> Plan:
    slim = ("slim.py", "--weights", asked.weights, "--percent", f"{asked.percent:g}", *_place(folder, "slim"))
    trained = _trained(str(folder / "slim" / "slimmed.pt"), asked, folder, (), "")
    note = f"{asked.percent:g} of the free channels cut, then trained"
    return Plan((slim, *trained.commands), trained.runs, trained.counted, note)


def _int8_dynamic(asked: Asked, folder: Path) -> Plan:
    fused = _fuse(asked, folder)
    note = "dynamic quantisation touches Linear layers alone: nothing changes without any"
    return Plan(fused.commands, {"torch": fused.runs["torch"]}, fused.counted, note)


def _int8_static(asked: Asked, folder: Path) -> Plan:
    if not asked.calib:
        raise InputError("int8-static looks at images: --calib FOLDER names some (no labels needed)")
    file = str(folder / "int8.onnx")
    save = ("val_sparse.py", "--weights", asked.weights, *_shared(asked), "--save", file, "--int8")
    command = (*save, *_calibration(asked), *_place(folder, "made"))
    note = "convolutions in int8, by images of --calib"
    return Plan((command,), {"onnxruntime": file}, asked.weights, note)


TECHNIQUES: Mapping[str, Callable[[Asked, Path], Plan]] = {
    "dense": _dense,
    "fuse": _fuse,
    "prune": _prune,
    "prune+finetune": _prune_finetune,
    "distill": _distill,
    "slim": _slim,
    "int8-dynamic": _int8_dynamic,
    "int8-static": _int8_static,
}


def validation(asked: Asked, engine: str, file: str, folder: Path) -> Command:
    """The command that validates a file in an engine, into folder."""
    engine_flag = () if engine == "torch" else ("--engine", engine)
    return (
        "val_sparse.py",
        "--weights",
        file,
        *_shared(asked),
        *engine_flag,
        *_place(folder, f"val_{engine}"),
    )


def _saved(weights: str, asked: Asked, folder: Path, flags: Command, note: str) -> Plan:
    files = {"torch": str(folder / "network.safetensors"), "onnxruntime": str(folder / "network.onnx")}
    saves = (*("--save", files["torch"]), *("--save", files["onnxruntime"]))
    command = (
        "val_sparse.py",
        "--weights",
        weights,
        *_shared(asked),
        *flags,
        *saves,
        *_place(folder, "made"),
    )
    return Plan((command,), files, files["torch"], note)


def _trained(weights: str, asked: Asked, folder: Path, flags: Command, note: str) -> Plan:
    train = ("finetune.py", "--weights", weights, *_shared(asked), *flags, "--epochs", f"{asked.epochs}")
    saved = _saved(str(folder / "train" / "best.pt"), asked, folder, (), note)
    commands = ((*train, *asked.training, *_place(folder, "train")), *saved.commands)
    return Plan(commands, saved.runs, saved.counted, note)


def _pruning(asked: Asked) -> Command:
    flags = ("--sparsity", f"{asked.sparsity:g}", "--criterion", asked.criterion)
    return (*flags, *(_calibration(asked) if asked.criterion == "obs" else ()))


def _calibration(asked: Asked) -> Command:
    return ("--calib", asked.calib) if asked.calib else ()


def _shared(asked: Asked) -> Command:
    return ("--data", asked.data, *asked.shared)


def _place(folder: Path, name: str) -> Command:
    return ("--project", str(folder), "--name", name, "--exist-ok")
