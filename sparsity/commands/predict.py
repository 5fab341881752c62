"""The command predict: detect in pictures, videos or a camera, and draw what is found."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from torch import Tensor

from sparsity.base.errors import InputError
from sparsity.base.progress import progress_bar, say
from sparsity.base.run_folders import run_folder
from sparsity.commands.announcement import announce
from sparsity.commands.opening import open_network
from sparsity.commands.options import Options, read_exported, read_options
from sparsity.data.downloads import ensure_calibration, ensure_data
from sparsity.demo import data as demo
from sparsity.engines.table import check_images, need_images
from sparsity.predicting.job import Job, Listener, Totals
from sparsity.predicting.outputs import Outputs, Wanted
from sparsity.predicting.predictor import Predictor
from sparsity.predicting.settings import PredictionSettings
from sparsity.predicting.sources import Source, find_source, is_video
from sparsity.predicting.video_writing import has_pyav
from sparsity.pruning.zeros import count_sparsity
from sparsity.report.validation import format_model
from sparsity.validation.detector import MOST_CPU_LANES, PhaseSeconds
from sparsity.validation.inputs import Detectable, decoding_threads, fit, read_calibration

FEW = 10
"""Up to this number of files, a line is printed for each picture; --verbose prints all."""


def run(args: Namespace, _line: str) -> None:
    """Detect as the flags say; print lines and a summary, write pictures, videos, labels and crops."""
    each = [_read_options(args, weights) for weights in _weights(args)]
    settings = [_read_settings(args, options) for options in each]
    wanted = Wanted(
        pictures=not args.nosave,
        labels=args.save_txt,
        scores=args.save_conf,
        crops=args.save_crop,
        line_thickness=args.line_thickness,
        hide_labels=args.hide_labels,
        hide_conf=args.hide_conf,
    )
    check_images([one.engine for one in settings], bool(args.calib or args.demo))
    source = _find_source(args)
    announce("predict", args, settings[0].as_validation())
    for line in _notes(source, wanted):
        print(line)
    options = each[0]
    with run_folder(options.project, options.name, exist_ok=options.exist_ok) as folder, ExitStack() as stack:
        lanes = MOST_CPU_LANES if len(source.files) > 1 or any(map(is_video, source.files)) else 1
        predictors = [
            stack.enter_context(_open(args, one, how, lanes)) for one, how in zip(each, settings, strict=True)
        ]
        outputs = Outputs(folder, wanted, _titles([one.weights for one in each]))
        with _listening(source, verbose=options.verbose) as listener:
            totals = Job(predictors, outputs, listener).run(source)
        print("\n".join(_summary(totals, outputs.titles, predictors)))
        if wanted.pictures or wanted.labels or wanted.crops:
            print(f"Results saved to {folder}")


def _weights(args: Namespace) -> list[str]:
    """Return the files of --weights. Raises InputError unless --side-by-side goes with several."""
    weights = [one.strip() for one in args.weights.split(",") if one.strip()] or [args.weights]
    if len(weights) > 1 and not args.side_by_side:
        raise InputError(
            f"--weights names {len(weights)} files; --side-by-side draws what each of them finds"
        )
    if len(weights) < 2 and args.side_by_side:
        raise InputError(f"--side-by-side needs two or more checkpoints: --weights {args.weights},FILE")
    return weights


def _read_options(args: Namespace, weights: str) -> Options:
    """Return the flags that commands share as values, for one checkpoint."""
    more = {"weights": weights, "data": "", "ignore_names": False}
    return read_options(Namespace(**vars(args) | more))


def _read_settings(args: Namespace, options: Options) -> PredictionSettings:
    return PredictionSettings(
        imgsz=options.settings.imgsz,
        conf_thres=args.conf_thres,
        iou_thres=args.iou_thres,
        max_det=args.max_det,
        classes=tuple(args.classes),
        agnostic_nms=args.agnostic_nms,
        device=options.settings.device,
        half=args.half,
        engine=options.settings.engine,
    )


def _find_source(args: Namespace) -> Source:
    if args.source:
        return find_source(args.source)
    if args.demo:
        return find_source(str(demo.validation_images(ensure_data(demo.NAME, progress=True))))
    raise InputError(
        "--source is missing; an image, a video, a folder, a glob or a camera's number is expected"
    )


def _notes(source: Source, wanted: Wanted) -> Iterator[str]:
    if source.skipped:
        yield (
            f"WARNING: {_counted(len(source.skipped), 'image')} in other formats skipped, such as "
            f"{source.skipped[0]}; convert them to .png or .jpg"
        )
    filming = source.camera is not None or any(map(is_video, source.files))
    if filming and wanted.pictures and not has_pyav():
        yield "Videos are written as MPEG-4, which browsers do not play; pip install av for H.264"
    if source.camera is not None:
        yield f"Camera {source.camera} runs until Ctrl-C"


def _open(args: Namespace, options: Options, settings: PredictionSettings, lanes: int) -> Predictor:
    """Load a checkpoint, and prepare it."""
    network = read_exported(options) or open_network(options.weights, options.head)
    if options.weights.endswith(".onnx"):
        print(f"An ONNX file, run by {settings.engine}")
        print(format_model(count_sparsity(network)))
    calibration = _calibration(args, network, settings) if need_images([settings.engine]) else ()
    predictor = Predictor(network, settings, calibration=calibration, lanes=lanes)
    if predictor.imgsz != settings.imgsz:
        print(f"WARNING: image size {settings.imgsz} is rounded up to {predictor.imgsz}")
    predictor.warm_up()
    return predictor


def _calibration(args: Namespace, network: Detectable, settings: PredictionSettings) -> list[Tensor]:
    validation = settings.as_validation()
    return read_calibration(
        ensure_calibration(args.calib or demo.NAME, progress=True),
        args.calib_images,
        network=network,
        imgsz=fit(validation, network).imgsz,
        seed=args.calib_seed,
        workers=decoding_threads(validation.workers),
    )


def _titles(weights: Sequence[str]) -> list[str]:
    """Return the names of the files, or the paths where names are equal; a number where these are, too."""
    names = [Path(one).name for one in weights]
    if len(set(names)) < len(names):
        names = list(weights)
    return [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names, 1)]


@contextmanager
def _listening(source: Source, *, verbose: bool) -> Iterator[Listener]:
    """Show a bar, and the lines that are wanted."""
    pictures = [file for file in source.files if not is_video(file)]
    with progress_bar(total=len(pictures), desc="Predicting", unit="img", shown=True, leave=False) as bar:

        def expect(frames: int) -> None:
            bar.total = bar.total + frames if frames and bar.total is not None else None

        def ignore(_line: str) -> None:
            return

        all_lines = verbose or len(source.files) <= FEW
        yield Listener(
            picture=say if all_lines else ignore,
            frame=say if verbose else ignore,
            warn=say,
            tick=bar.update,
            expect=expect,
        )


def _summary(totals: Totals, titles: Sequence[str], predictors: Sequence[Predictor]) -> Iterable[str]:
    counted = " and ".join(
        _counted(count, name)
        for count, name in ((totals.pictures, "picture"), (totals.frames, "frame"))
        if count
    )
    rate = totals.images / totals.seconds
    yield f"{counted} in {totals.seconds:.1f} s: {rate:.1f} a second, with reading, drawing and writing"
    for title, counter, predictor, first in zip(titles, totals.found, predictors, totals.first, strict=True):
        found = ", ".join(f"{count} {name}" for name, count in counter.most_common()) or "nothing"
        yield f"{title}: {found}"
        yield _speed(predictor.seconds, first)
    if totals.problems:
        yield f"{_counted(len(totals.problems), 'file')} could not be read"


def _speed(all_runs: PhaseSeconds, first: PhaseSeconds) -> str:
    """Return a line on the time of a network. Its first run is left out, where there are others."""
    later = all_runs.since(first)
    times = (later if later.images else all_runs).per_image_ms()
    note = "" if later.images else " (its first run)"
    line = "  {:.1f} frames a second: {:.1f} ms preprocess, {:.1f} ms inference, {:.1f} ms NMS{}"
    return line.format(1e3 / sum(times), *times, note)


def _counted(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count} {name}s"
