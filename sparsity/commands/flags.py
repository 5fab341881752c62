"""The flags that commands share, in groups. Importing it imports no torch, so that a --help is fast."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

from sparsity.c_engine.cpus import CPUS, IMGSZ, THIS
from sparsity.channels.slimming_settings import SlimmingSettings
from sparsity.cluster.settings import LOCAL, ClusterSettings
from sparsity.commands.parser import Parser
from sparsity.engines.table import ENGINES, TORCH
from sparsity.formats.int8_runtimes import RUNTIMES as INT8_RUNTIMES
from sparsity.formats.table import FORMS
from sparsity.predicting.settings import PredictionSettings
from sparsity.pruning.budgets import WEIGHTS
from sparsity.pruning.criteria import CRITERIA, SHORTHANDS
from sparsity.pruning.scopes import SCOPES
from sparsity.sweeping.defaults import BOOTSTRAP
from sparsity.training.settings import RECIPES, TrainingSettings
from sparsity.validation.settings import ValidationSettings
from sparsity.yolo.yolo26.branches import BRANCHES

DEFAULT_WEIGHTS = "yolov5x.pt"
DEFAULT_DATA = "coco.yaml"
DATA, PRUNING, CALIBRATION, VALIDATION = "data", "pruning", "calibration", "validation"
LATENCY, HARDWARE, CLUSTER, OUTPUT = "latency", "hardware", "cluster", "output"
TRAINING, SLIMMING, TECHNIQUES = "training", "slimming", "techniques"
Add = Callable[..., object]


def add_data_flags(parser: Parser, *, weights: str = DEFAULT_WEIGHTS, data: str = DEFAULT_DATA) -> None:
    """Add the checkpoint and the data set."""
    add = parser.group(DATA).add_argument
    add(
        "--weights",
        default=weights,
        metavar="FILE",
        help="checkpoint; yolov5, yolov8, yolo11, yolo12 and yolo26 in the sizes n, s, m, l and x, such as "
        "yolo11n.pt, are downloaded",
    )
    add("--data", default=data, metavar="YAML", help="data yaml or folder; coco.yaml is downloaded")
    add("--demo", action="store_true", help="use a small detector and drawn images; nothing is downloaded")
    add(
        "--ignore-names",
        action="store_true",
        help="trust that the classes of the data are the checkpoint's, under other names",
    )


def add_task_flag(parser: Parser) -> None:
    """Add which split is validated."""
    parser.group(DATA).add_argument(
        "--task", choices=("val", "train", "test"), default="val", help="split of the data to validate on"
    )


def add_validation_flags(parser: Parser, *, batch_size: bool = True) -> None:
    """Add how detections are made and counted. batch_size: whether the flag is validation's here."""
    d, add = ValidationSettings, parser.group(VALIDATION).add_argument
    add_imgsz_flag(parser, VALIDATION, d.imgsz)
    add("--workers", type=int, default=d.workers, metavar="N", help="threads that decode images, at most")
    if batch_size:
        add(
            "--batch-size",
            type=int,
            default=d.batch_size,
            metavar="N",
            help="images in a batch, padded to one shape (default: 32 for YOLOv5, 16 for others)",
        )
    add_threshold_flags(parser, VALIDATION, d, note=" (default: 0.65 for YOLOv5, 0.7 for others)")
    add("--single-cls", action="store_true", help="count all classes as one")
    add_head_flag(parser, VALIDATION, use=" that is counted")


def add_imgsz_flag(parser: Parser, group: str, default: int) -> None:
    """Add the size of the images."""
    parser.group(group).add_argument(
        *("--imgsz", "--img", "--img-size"),
        type=int,
        metavar="PIXELS",
        help=f"image size (default: {default}; of the demo 320)",
    )


def add_threshold_flags(
    parser: Parser, group: str, d: type[ValidationSettings | PredictionSettings], *, note: str = ""
) -> None:
    """Add which boxes are detections. d: the defaults. note: about that of the IoU."""
    add = parser.group(group).add_argument
    add("--conf-thres", type=float, default=d.conf_thres, metavar="C", help="minimum confidence")
    add(
        "--iou-thres",
        type=float,
        default=d.iou_thres,
        metavar="IOU",
        help=f"NMS suppresses boxes above this IoU{note}",
    )
    add("--max-det", type=int, default=d.max_det, metavar="N", help="maximum detections per image")


def add_head_flag(parser: Parser, group: str, *, use: str = "") -> None:
    """Add which head of a YOLO26 detects. use: what for."""
    parser.group(group).add_argument(
        "--head",
        default="",
        choices=tuple(BRANCHES),
        help=f"head of a YOLO26{use}: one2many, with NMS, or one2one, without (default: one2many, if the "
        "file has it)",
    )


def add_hardware_flags(parser: Parser) -> None:
    """Add what computes."""
    add = parser.group(HARDWARE).add_argument
    add(
        "--device",
        default=ValidationSettings.device,
        help="cpu, 0, cuda:1 (default: a GPU where there is one)",
    )
    add("--half", action="store_true", help="compute in float16 on a GPU, in bfloat16 on a CPU that has it")


def add_cluster_flags(parser: Parser) -> None:
    """Add where the levels of a sweep, or the techniques of a comparison, are computed."""
    add, d = parser.group(CLUSTER).add_argument, ClusterSettings
    add(
        "--ray",
        nargs="?",
        const=LOCAL,
        metavar="ADDRESS",
        help="compute levels or techniques as tasks of Ray: on the GPUs or cores of this machine, or with "
        "ADDRESS on a cluster (auto: the one that `ray start` made here; HOST:PORT: the one of that head)",
    )
    add(
        "--ray-cpus",
        type=int,
        default=d.cpus,
        metavar="N",
        help="cores of each task (default: 4, or fewer on smaller machines; with GPUs the share of one)",
    )
    add(
        "--ray-gpus",
        type=float,
        default=d.gpus,
        metavar="X",
        help="GPUs of each task, such as 0.5 for two tasks on one (default: 1 where there are GPUs)",
    )
    add(
        "--ray-retries",
        type=int,
        default=d.retries,
        metavar="N",
        help="how often in a row a task is computed again whose worker died",
    )


def add_engine_flag(parser: Parser) -> None:
    """Add what runs the network."""
    parser.group(HARDWARE).add_argument(
        "--engine",
        default="",
        metavar="NAME",
        help=f"{', '.join(ENGINES)}; all but torch run on the CPU (default: torch; for an .onnx file, the "
        "first engine installed that runs it)",
    )


def _folder_of_run(text: str) -> Path:
    """Return a path as the folder of a run; for a file, such as last.pt, the folder that it lies in."""
    path = Path(text)
    return path.parent if path.is_file() else path


def add_output_flags(parser: Parser, *, name: str, resume: str = "") -> None:
    """Add where results are written. name: of the run's folder. resume: what --resume goes on with."""
    add = parser.group(OUTPUT).add_argument
    add(
        "--project", type=Path, default=Path("results"), metavar="FOLDER", help="parent folder of the results"
    )
    add("--name", default=name, help="folder of this run; a number is appended where it exists")
    add("--exist-ok", action="store_true", help="write into the folder although it exists")
    if resume:
        add(
            "--resume",
            type=_folder_of_run,
            metavar="FOLDER",
            help=f"go on with the {resume} in this folder, or in that of this file, such as last.pt; without "
            "other flags, with those of its first start",
        )
    add("--verbose", action="store_true", help="print a row for each class, and with val for each layer")


def add_amount_flag(parser: Parser, *, default: str = "0") -> None:
    """Add how much to prune."""
    parser.group(PRUNING).add_argument(
        "--sparsity", default=default, metavar="X", help="fraction of the weights to prune, 0.3 for 30%%"
    )


def add_scope_flag(parser: Parser) -> None:
    """Add how the amount is allocated."""
    parser.group(PRUNING).add_argument(
        "--scope",
        default="",
        metavar="SCOPE",
        help=f"allocation of the amount among the layers: {', '.join(SCOPES)} "
        "(default: the criterion's own; l1's is layer, obs's is measured)",
    )


def add_depthwise_flag(parser: Parser) -> None:
    """Add whether depthwise layers are pruned."""
    parser.group(PRUNING).add_argument(
        "--depthwise",
        action="store_true",
        help="prune depthwise layers as others; without it, they stay dense",
    )


def add_budget_flag(parser: Parser, *, several: bool = False) -> None:
    """Add what the amount is a share of."""
    parser.group(PRUNING).add_argument(
        "--budget",
        default=WEIGHTS,
        metavar="NAME[,NAME]" if several else "NAME",
        help="what the sparsity is a share of: weights; flops, the multiply-adds at --imgsz; or latency, the "
        "time in the sparse engine on this machine, which is measured for each layer",
    )


def add_speedup_flag(parser: Parser) -> None:
    """Add how fast the network is to be."""
    parser.group(PRUNING).add_argument(
        "--speedup",
        type=float,
        metavar="X",
        help="instead of --sparsity: prune until the sparse engine is X times as fast on this machine, and "
        "measure it; implies --budget latency",
    )


def add_criterion_flag(parser: Parser, *, several: bool = False, default: str = "l1", note: str = "") -> None:
    """Add which weights to prune. note: the default in words, where it is not a name."""
    known = ", ".join((*CRITERIA, *SHORTHANDS))
    parser.group(PRUNING).add_argument(
        "--criterion",
        default=default,
        metavar="NAME[,NAME]" if several else "NAME",
        help=f"{known}: l1 prunes the smallest magnitudes; lamp and erk do, with their own allocation; "
        f"obs learns from images and updates the weights that stay{note}",
    )


def add_method_flags(parser: Parser) -> None:
    """Add by which methods to prune, which layers stay dense, and the calibration images."""
    add_criterion_flag(parser, several=True)
    add_scope_flag(parser)
    add_budget_flag(parser, several=True)
    add_depthwise_flag(parser)
    add = parser.group(PRUNING).add_argument
    add(
        "--pattern",
        default="",
        metavar="N:M|pair|quad",
        help="keep at most N of every M input channels, such as 2:4; pair, quad: blocks of 2 or 4 input "
        "channels become zero or stay together",
    )
    add(
        "--keep",
        action="append",
        default=[],
        metavar="LAYER",
        help="layers that stay dense, such as 'model.24.*'; may be repeated",
    )
    parser.group(CALIBRATION).add_argument(
        "--reconstruct",
        type=int,
        default=0,
        metavar="STEPS",
        help="after pruning, train the kept weights for so many steps, such as 200, on the images of --calib "
        "to give what the dense network gives; no labels needed",
    )
    add_calibration_flags(parser, "images for obs, measured and --int8; no labels needed")


def add_calibration_flags(parser: Parser, text: str) -> None:
    """Add the calibration images. text: what they are for."""
    add = parser.group(CALIBRATION).add_argument
    add("--calib", default="", metavar="FOLDER", help=text)
    add("--calib-images", type=int, default=64, metavar="N", help="how many of them, chosen at random")
    add("--calib-seed", type=int, default=0, metavar="N", help="seed of that choice")


def add_compact_flag(parser: Parser) -> None:
    """Add whether dead channels are removed."""
    parser.group(PRUNING).add_argument(
        "--compact", action="store_true", help="remove dead channels after pruning; the outputs stay the same"
    )


def add_save_flag(parser: Parser, note: str = "save the network as it is validated") -> None:
    """Add where the network is saved. note: which one."""
    parser.group(OUTPUT).add_argument(
        "--save",
        action="append",
        default=[],
        metavar="FILE",
        help=f"{note}, in half precision: {', '.join(FORMS)}; may be repeated",
    )


def add_onnx_flags(parser: Parser) -> None:
    """Add how .onnx files are written."""
    add = parser.group(OUTPUT).add_argument
    add(
        "--static-imgsz",
        type=int,
        metavar="PIXELS",
        help="write .onnx files for one image of this size only, as OpenCV needs them",
    )
    add("--opset", type=int, metavar="N", help="opset of .onnx files, 12 to 18 (default: 18)")


def add_c_flags(parser: Parser) -> None:
    """Add how .c files are written."""
    add = parser.group(OUTPUT).add_argument
    add(
        "--imgsz",
        type=_height_and_width,
        default=IMGSZ,
        metavar="PIXELS",
        help="image size of .c files: 640, or height x width, such as 384x640",
    )
    add(
        "--for",
        dest="cpu",
        default=THIS,
        metavar="CPU",
        help=f"CPU that .c files are tuned for: {THIS}, which is measured, or {', '.join(CPUS)}",
    )


def _height_and_width(text: str) -> int | tuple[int, int]:
    """Return 640 for "640", (384, 640) for "384x640"."""
    sides = text.split("x")
    if not all(side.isdecimal() for side in sides) or len(sides) > 2:
        raise ArgumentTypeError(f"{text!r} is not a size; 640, or height x width as 384x640, is expected")
    return int(text) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def add_int8_flag(parser: Parser) -> None:
    """Add whether .onnx files are quantised."""
    parser.group(OUTPUT).add_argument(
        "--int8",
        nargs="?",
        default="",
        const=INT8_RUNTIMES[0],
        choices=INT8_RUNTIMES,
        metavar="RUNTIME",
        help="quantise saved .onnx files to int8, calibrated on --calib, for onnxruntime (fast in OpenVINO, "
        "too) or openvino (faster there, slow in onnxruntime) (default of RUNTIME: onnxruntime)",
    )


def add_latency_flags(parser: Parser) -> None:
    """Add what is timed in a sweep."""
    add = parser.group(LATENCY).add_argument
    add(
        "--engines",
        default=TORCH,
        metavar="NAME,NAME",
        help=f"engines that run each level: {', '.join(ENGINES)}; with any but torch, all run on the CPU",
    )
    add("--batch-sizes", default="1,32", metavar="N,N", help="batch sizes to time; none for no timing")
    add(
        "--seconds",
        type=float,
        default=20.0,
        metavar="S",
        help="time for each of them, of all levels together",
    )


def add_bootstrap_flag(parser: Parser) -> None:
    """Add how often images are resampled."""
    parser.group(VALIDATION).add_argument(
        "--bootstrap",
        type=int,
        default=BOOTSTRAP,
        metavar="N",
        help="resamples of the images for the intervals of AP; 0 for no intervals",
    )


def add_slimming_flags(parser: Parser, *, percent: float | None = None) -> None:
    """Add which channels are cut. percent: the default; None where the flag must be given."""
    d, add = SlimmingSettings, parser.group(SLIMMING).add_argument
    text = "fraction of the free channels to cut, 0.5 for half"
    add("--percent", type=float, required=percent is None, default=percent, metavar="X", help=text)
    if percent is not None:
        return
    add("--by", default=d.by, metavar="SCORE", help="bn: batch norms' scales; l1: magnitudes of filters")
    add("--tied", action="store_true", help="also cut channels that residual additions tie, together")
    add(
        "--min-channels",
        type=int,
        default=d.min_channels,
        metavar="N",
        help="channels that each layer keeps at least",
    )
    add(
        "--round-to",
        type=int,
        default=d.round_to,
        metavar="N",
        help="round each layer's channels up to a multiple; multiples of 8 run faster",
    )
    add("--no-fold", action="store_true", help="drop the constant outputs of cut channels, as other tools do")


def add_teacher_flags(parser: Parser) -> None:
    """Add the teacher, and images without labels for it."""
    add = parser.group(DATA).add_argument
    add(
        "--images",
        default="",
        metavar="FOLDER",
        help="training images without labels, for distillation; instead of --data, or beside it",
    )
    add(
        "--teacher",
        default="",
        metavar="FILE",
        help="dense checkpoint to distil from, or none (default: --weights, as it is before it is pruned)",
    )


def add_training_flags(parser: Parser, *, batch_size: str = "--batch-size") -> None:
    """Add how to train. batch_size: the flag of the training images in a batch."""
    d, add = TrainingSettings, parser.group(TRAINING).add_argument
    note = "" if batch_size == "--batch-size" else "; --batch-size is that of the validation"
    text = f"training images in a batch{note} (default: 8; 16 for networks without zeros)"
    add(batch_size, type=int, default=d.batch_size, metavar="N", help=text)
    add(
        "--nominal-batch",
        type=int,
        default=d.nominal_batch,
        metavar="N",
        help="images to an optimiser step; gradients are accumulated over batches (default: one batch; 64 "
        "for networks without zeros)",
    )
    add(
        "--optimizer",
        default=d.optimizer,
        metavar="NAME",
        help="SGD, AdamW, or ScaledAdam, whose rate is a share of each tensor's size (default: ScaledAdam; "
        "SGD for networks without zeros, and with --lr0)",
    )
    add(
        "--lr0",
        type=float,
        default=d.lr0,
        metavar="RATE",
        help="initial learning rate (default: the best one of short trials; 0.01 for networks without zeros)",
    )
    add("--lrf", type=float, default=d.lrf, metavar="X", help="final learning rate, as a fraction of --lr0")
    add(
        "--momentum", type=float, default=d.momentum, metavar="X", help="momentum of SGD, first beta of AdamW"
    )
    add("--decay", type=float, default=d.decay, metavar="X", help="weight decay")
    add(
        "--warmup",
        type=float,
        default=d.warmup,
        metavar="EPOCHS",
        help="epochs of rising learning rate (default: 5%% of all; one for networks without zeros)",
    )
    add(
        "--mosaic",
        type=float,
        default=d.mosaic,
        metavar="P",
        help="probability of a mosaic of four images (default: 0.5; 1 for networks without zeros)",
    )
    add("--no-augment", action="store_true", help="train on the images without augmentation")
    add("--freeze-bn", action="store_true", help="keep the statistics of batch norms; obs always does")
    add("--distil", type=float, default=d.distil, metavar="X", help="weight of the distillation loss")
    add(
        "--blocks",
        type=float,
        default=d.blocks,
        metavar="X",
        help="weight of the error of the blocks' outputs against those of a teacher with the same layers",
    )
    add(
        "--seed",
        type=int,
        default=d.seed,
        metavar="N",
        help="seed of all random choices; makes runs repeatable",
    )


def add_training_run_flags(parser: Parser) -> None:
    """Add what only a training of its own has: its length, its validation, and what prunes in it."""
    d, add = TrainingSettings, parser.group(TRAINING).add_argument
    add(
        "--epochs",
        type=int,
        default=d.epochs,
        metavar="N",
        help="passes over the training images (default: as many as see 4800 of them, 2 to 100; 10 for "
        "networks without zeros)",
    )
    add(
        "--patience",
        type=int,
        default=d.patience,
        metavar="EPOCHS",
        help="stop after this many epochs without a better AP",
    )
    add("--noval", action="store_true", help="validate after the last epoch only")
    add(
        "--gradual",
        type=int,
        default=d.gradual,
        metavar="EPOCHS",
        help="prune step by step in these first epochs",
    )
    add(
        "--sparse-train",
        type=float,
        default=d.sparse_train,
        metavar="RATE",
        help="L1 penalty on batch norms' scales, before slimming; such as 0.0025",
    )
    add(
        "--sparse-recipe",
        default=d.sparse_recipe,
        metavar="NAME",
        help=f"{' or '.join(RECIPES)}: how shifts are penalised",
    )
    add("--tied", action="store_true", help="also penalise channels that residual additions tie")
