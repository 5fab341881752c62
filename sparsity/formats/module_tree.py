"""The stored modules of a checkpoint -> architecture, and the places of its tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sparsity.formats.architecture import UnreadableError
from sparsity.formats.torch_file import StoredFile
from sparsity.formats.unpickle import Record, StoredTensor
from sparsity.yolo.attributes import misfit, shown
from sparsity.yolo.families import CHOICES, OTHER_TASKS, family_names
from sparsity.yolo.registry import HEADS, KINDS
from sparsity.yolo.spec import Architecture, Layer, ModuleSpec, Value
from sparsity.yolo.yolov5.published import LEGACY_BUFFERS

MOST_MODULES = 4_000
"""The largest published network, yolov5x6, has under 1,000."""
DEEPEST_MODULE = 50
NOTES = frozenset({"training", "dump_patches", "i", "f", "type", "np"})
"""Attributes of any module that have no effect on what it computes."""
GETATTR = frozenset({"builtins.getattr", "__builtin__.getattr"})
"""The class names of a method of an object that is stored as an attribute."""
FUSED_FORWARD = frozenset({"forward_fuse", "fuseforward"})
"""Methods of a published Conv without batch norm that compute what it computes here."""
HOOKS = ("_forward_hooks", "_forward_pre_hooks")
PRUNING = "torch.nn.utils.prune."
"""The beginning of the class names of hooks that apply masks."""
ORIGINAL, MASK = "_orig", "_mask"
"""The endings that torch.nn.utils.prune gives the names of a parameter and its mask."""


class TreeReader:
    """Walks the stored modules. Returns their specs, and collects their tensors by name.

    tensors: by name. masks: name of a tensor -> its mask, which is to be multiplied with it.
    """

    def __init__(self, stored: StoredFile) -> None:
        self.stored = stored
        self.tensors: dict[str, StoredTensor] = {}
        self.masks: dict[str, StoredTensor] = {}
        self._modules_left = MOST_MODULES

    def read_layers(self, model: Record) -> Architecture:
        _check_hooks(model, "its model")
        layers = _children(model).get("model")
        if not isinstance(layers, Record) or layers.class_name != "Sequential":
            raise UnreadableError("its model has no layers (an nn.Sequential called model is expected)")
        _check_hooks(layers, "model")
        named = _children(layers)
        if list(named) != [str(index) for index in range(len(named))] or not named:
            raise UnreadableError("its layers are not numbered from 0 on")
        read = tuple(
            Layer(self._read(record, f"model.{name}"), _sources(record, int(name)))
            for name, record in named.items()
        )
        if read[-1].module.kind not in HEADS:
            raise UnreadableError(f"its last layer is {read[-1].module.kind}; Detect is expected")
        return read

    def _read(self, record: object, name: str) -> ModuleSpec:
        self._modules_left -= 1
        if self._modules_left < 0 or name.count(".") > DEEPEST_MODULE:
            raise UnreadableError("its modules are nested without end")
        if not isinstance(record, Record):
            raise UnreadableError(f"{name} is not a module of a detector")
        if record.class_name not in KINDS.keys() | CHOICES.keys():
            raise UnreadableError(refusal(record.class_name, self.stored, name))
        kind = _kind(record, name)
        _check_hooks(record, name)
        _check_attributes(record, kind, name)
        self._gather_tensors(record, name)
        attributes = {key: self._attribute(record, kind, key, name) for key in KINDS[kind].all_attributes}
        children = {key: self._read(child, f"{name}.{key}") for key, child in _children(record).items()}
        return ModuleSpec(kind, attributes, {} if KINDS[kind].whole else children)

    def _gather_tensors(self, record: Record, name: str) -> None:
        transient = record.state.get("_non_persistent_buffers_set", set())
        if not isinstance(transient, set):
            raise UnreadableError(f"{name}._non_persistent_buffers_set is not a set")
        masked = _masked(record)
        for key, value in _tensors(record):
            if key in transient or key in LEGACY_BUFFERS:
                continue
            plain = key.removesuffix(ORIGINAL).removesuffix(MASK)
            if plain in masked and key == plain + MASK:
                self.masks[f"{name}.{plain}"] = value
            else:
                self.tensors[f"{name}.{plain if plain in masked else key}"] = value

    def _attribute(self, record: Record, kind: str, key: str, name: str) -> Value:
        state = record.state
        if key in KINDS[kind].present:
            parameter = KINDS[kind].present[key]
            return parameter in dict(_tensors(record)) or parameter in _masked(record)
        if kind in HEADS and key == "strides":
            return self._strides(state.get("stride"))
        if key not in state and key in KINDS[kind].defaults:
            return KINDS[kind].defaults[key]
        if key not in state:
            raise UnreadableError(f"{name} has no attribute {key}")
        value = _plain(state[key], f"{name}.{key}")
        if expected := misfit(key, value):
            raise UnreadableError(f"{name}.{key} is {shown(value)}; {expected} is expected")
        return value

    def _strides(self, stored: object) -> tuple[int, ...]:
        if not isinstance(stored, StoredTensor) or stored.dtype.is_complex:
            raise UnreadableError("its Detect layer has no stride (a tensor of numbers is expected)")
        strides = self.stored.read_tensors({"stride": stored})["stride"].flatten().tolist()
        whole = tuple(int(s) if float(s).is_integer() else s for s in strides)
        if expected := misfit("strides", whole):
            raise UnreadableError(f"its strides are {shown(whole)}; {expected} are expected")
        return whole


def refusal(name: str, stored: StoredFile, module: str = "") -> str:
    """Return why a file is refused whose network, or the module called module, is of the class name."""
    tasks = [one for one in (name, *sorted(stored.unknown)) if one in OTHER_TASKS]
    if tasks:
        expected = f"a detection checkpoint of {family_names()} is expected"
        return f"{OTHER_TASKS[tasks[0]]} ({tasks[0]}); {expected}"
    where = f" as {module}" if module else ""
    return (
        f"refused: it names {name[:200]}{where}, which no detection checkpoint of {family_names()} "
        "needs; nothing in the file was run. If you trust it, save its weights again with the family's own "
        "classes"
    )


def _children(record: Record) -> dict[str, Any]:
    """Return the submodules by name, without those that are None."""
    modules = record.state.get("_modules")
    modules = modules if isinstance(modules, dict) else {}
    if not all(isinstance(name, str) for name in modules):
        raise UnreadableError("has a module without a name")
    return {name: module for name, module in modules.items() if module is not None}


def _tensors(record: Record) -> Iterator[tuple[str, StoredTensor]]:
    for group in ("_parameters", "_buffers"):
        stored = record.state.get(group)
        for key, value in (stored if isinstance(stored, dict) else {}).items():
            if not isinstance(key, str):
                raise UnreadableError("has a weight without a name")
            if isinstance(value, StoredTensor):
                yield key, value


def _masked(record: Record) -> set[str]:
    """Return the parameters that are stored as an original and a mask, as torch.nn.utils.prune does."""
    keys = {key for key, _ in _tensors(record)}
    originals = {key.removesuffix(ORIGINAL) for key in keys if key.endswith(ORIGINAL)}
    return {key for key in originals if key + MASK in keys and key not in keys}


def _check_hooks(record: Record, name: str) -> None:
    """Refuse a module with hooks, which can change what it computes. Those that apply masks are known."""
    for group in HOOKS:
        hooks = record.state.get(group)
        for hook in hooks.values() if isinstance(hooks, dict) else ():
            shown_name = hook.class_name if isinstance(hook, Record) else type(hook).__name__
            if not (shown_name.startswith(PRUNING) and _masked(record)):
                raise UnreadableError(
                    f"{name} has a hook {shown_name[:100]} that is not supported; it could change what the "
                    "module computes. Remove it, and save the checkpoint again"
                )


def _is_known_forward(record: Record, value: object) -> bool:
    """Whether value is the method of a Conv that fusing puts in the place of forward."""
    if not isinstance(value, Record) or value.class_name not in GETATTR or len(value.arguments) != 2:
        return False
    owner, method = value.arguments
    fused = record.class_name == "Conv" and "bn" not in _children(record)
    return fused and owner is record and isinstance(method, str) and method in FUSED_FORWARD


def _kind(record: Record, name: str) -> str:
    """Return the kind of a stored module: by its class, or by its content if kinds share the class."""
    choose = CHOICES.get(record.class_name)
    if choose is None:
        return record.class_name
    try:
        return choose(_children(record).keys(), record.state)
    except ValueError as error:
        raise UnreadableError(f"{name} {error}") from None


def _check_attributes(record: Record, kind: str, name: str) -> None:
    """Refuse a module that stores an attribute which could change what it computes."""
    known, masked = KINDS[kind], _masked(record)
    for key, value in record.state.items():
        if key == "forward" and _is_known_forward(record, value):
            continue
        if key in masked and isinstance(value, StoredTensor):
            # The product of original and mask, as it was when the network ran last.
            continue
        if not isinstance(key, str):
            raise UnreadableError(f"{name} has an attribute without a name")
        if key in known.fixed:
            if not any(type(value) is type(one) and value == one for one in known.fixed[key]):
                raise UnreadableError(f"{name} has {key} {shown(value)}; {known.fixed[key][0]} is expected")
        elif not (key.startswith("_") or key in NOTES or key in known.notes or key in known.all_attributes):
            raise UnreadableError(
                f"{name} ({kind}) has an attribute {key[:100]!r} that is not supported; it could change what "
                "the module computes"
            )


def _sources(record: Record, index: int) -> tuple[int, ...]:
    stored = record.state.get("f", -1)
    sources = tuple(stored) if isinstance(stored, list | tuple) else (stored,)
    known = range(-index - 1, index)
    for source in sources or [None]:
        if not isinstance(source, int) or source not in known:
            told = repr(source)[:100] if isinstance(source, int | float | str) else "no layer"
            raise UnreadableError(f"layer {index} takes its input from {told}")
    return sources


def _plain(value: object, name: str, *, part: bool = False) -> Value:
    """Return a number, a text, None or a tuple of these. Raises UnreadableError for anything else."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and len(value) <= 16 and not part:
        return tuple(_plain(one, name, part=True) for one in value)
    what = value.class_name[:100] if isinstance(value, Record) else type(value).__name__
    raise UnreadableError(f"{name} is a {what}; a plain value is expected")
