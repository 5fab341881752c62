"""The parser of each command. Importing it imports no torch, so that a --help is fast."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from sparsity.commands import flags
from sparsity.commands.parser import Parser
from sparsity.commands.prediction_flags import add_drawing_flags, add_prediction_flags, add_source_flags
from sparsity.comparing.asked import DEFAULT_ENGINES
from sparsity.comparing.table import TECHNIQUES
from sparsity.sweeping.defaults import DENSE, PRUNED_FROM, RESOLUTION
from sparsity.training.settings import TrainingSettings
from sparsity.training.trackers import TRACKERS

DEMO_DEFAULTS: Mapping[str, str] = {
    "criterion": "l1,obs",
    "engines": "torch,sparse where numba is installed",
    "batch_sizes": "1",
    "calib_images": "16",
    "seconds": "8",
}
"""Destination of a sweep's flag -> its default with --demo, as the help says it."""


def val_parser(prog: str) -> Parser:
    """Return the parser of val."""
    parser = Parser(
        prog,
        "Prune a YOLO checkpoint, validate it and save it.",
        [
            "--weights yolov5x.pt --sparsity 0.3",
            "--weights best.pt --data my.yaml --sparsity 0.5 --criterion obs --calib images/ --save p.pt",
        ],
    )
    flags.add_data_flags(parser)
    flags.add_task_flag(parser)
    flags.add_amount_flag(parser)
    flags.add_speedup_flag(parser)
    flags.add_method_flags(parser)
    flags.add_compact_flag(parser)
    flags.add_validation_flags(parser)
    flags.add_hardware_flags(parser)
    flags.add_engine_flag(parser)
    flags.add_output_flags(parser, name="exp")
    flags.add_save_flag(parser)
    flags.add_int8_flag(parser)
    flags.add_onnx_flags(parser)
    return parser


def sweep_parser(prog: str) -> Parser:
    """Return the parser of sweep."""
    parser = Parser(
        prog,
        "Prune a YOLO checkpoint at many sparsities, validate each, and time it.",
        [
            "0.1:0.9 --demo",
            "0.3:0.9 --weights best.pt --data my.yaml --criterion obs --calib images/ --engines torch,sparse",
            "0.3:0.9 --weights best.pt --data my.yaml --criterion obs --calib images/ --finetune 5",
            "--keep-ap 0.95 --weights best.pt --data my.yaml --criterion obs --calib images/ --save p.pt",
        ],
    )
    flags.add_data_flags(parser)
    flags.add_task_flag(parser)
    parser.group(flags.PRUNING).add_argument(
        "levels",
        nargs="?",
        help="sparsities: 0.1:0.9, 0.1:0.9:0.05, or 0,0.3,0.5; the dense network is always included",
    )
    _add_search_flags(parser)
    flags.add_method_flags(parser)
    flags.add_compact_flag(parser)
    _add_finetuning_flags(parser)
    flags.add_validation_flags(parser)
    flags.add_bootstrap_flag(parser)
    flags.add_latency_flags(parser)
    flags.add_hardware_flags(parser)
    flags.add_cluster_flags(parser)
    flags.add_output_flags(parser, name="sweep", resume="sweep")
    add = parser.group(flags.OUTPUT).add_argument
    flags.add_save_flag(parser, note="with --keep-ap: save the network that was found")
    add("--title", default="", help="title of the plots and the report")
    add(
        "--save-networks",
        default="",
        choices=("best", "all"),
        help="keep the pruned networks, as levels/KEY/network.safetensors: all, or the one with the largest "
        "sparsity that keeps 95%% of the dense AP",
    )
    _resolve_later(parser, DEMO_DEFAULTS)
    return parser


def _add_search_flags(parser: Parser) -> None:
    """Add the search for the largest level that keeps a share of AP."""
    add = parser.group(flags.PRUNING).add_argument
    add(
        "--keep-ap",
        type=float,
        metavar="SHARE",
        help="instead of levels: search for the largest sparsity that keeps this share of the dense AP, such "
        "as 0.95; with --finetune, after training",
    )
    add(
        "--resolution",
        type=float,
        default=RESOLUTION,
        metavar="X",
        help="step between the sparsities that --keep-ap tries",
    )
    add(
        "--search-images",
        type=int,
        default=0,
        metavar="N",
        help="search on N of the images, then try the levels around the result on all; 0: on all",
    )


def _add_finetuning_flags(parser: Parser) -> None:
    """Add whether the levels of a sweep are trained, and how."""
    add = parser.group(flags.TRAINING).add_argument
    add(
        "--finetune",
        dest="epochs",
        type=int,
        metavar="EPOCHS",
        help="train each level after pruning, on the training images of --data, with its zeros kept, and "
        "measure it again; the flags of this group go with it",
    )
    add(
        "--prune-from",
        default=DENSE,
        choices=PRUNED_FROM,
        help="network that a level is pruned from: dense, or below, the fine-tuned one of the next smaller "
        "level, whose zeros stay",
    )
    flags.add_teacher_flags(parser)
    flags.add_training_flags(parser, batch_size="--train-batch-size")


def _resolve_later(parser: Parser, demo: Mapping[str, str]) -> None:
    """Set the defaults of flags to None, for the command to resolve, and name both defaults in the help.

    demo: destination -> the default with --demo.
    """
    actions = parser.flags()
    for dest, text in demo.items():
        action = actions[dest]
        action.help = f"{action.help} (default: {action.default}; with --demo {text})"
        action.default = None


def finetune_parser(prog: str) -> Parser:
    """Return the parser of finetune."""
    parser = Parser(
        prog,
        "Prune a YOLO checkpoint and train it; its zeros stay zero.",
        [
            "--weights best.pt --data my.yaml --sparsity 0.5",
            "--weights best.pt --images folder/ --sparsity 0.5",
        ],
    )
    flags.add_data_flags(parser, weights="", data="")
    add = parser.group(flags.DATA).add_argument
    add(
        "--cfg",
        default="",
        metavar="NAME",
        help="start from random weights instead of --weights: yolov5, yolov8, yolo11, yolo12 or yolo26, and "
        "n, s, m, l or x, such as yolov8n",
    )
    flags.add_teacher_flags(parser)
    flags.add_amount_flag(parser)
    flags.add_criterion_flag(
        parser, default="", note=" (default: obs, from training images; l1 with --gradual)"
    )
    flags.add_scope_flag(parser)
    flags.add_budget_flag(parser)
    flags.add_depthwise_flag(parser)
    parser.group(flags.CALIBRATION).add_argument(
        "--calib-images",
        type=int,
        default=TrainingSettings.calib_images,
        metavar="N",
        help="training images that obs learns from",
    )
    flags.add_training_run_flags(parser)
    flags.add_training_flags(parser)
    parser.group(flags.TRAINING).add_argument(
        "--log-with",
        default="",
        choices=tuple(TRACKERS),
        help="log settings and epochs to this tracker, whose package must be installed (default: to none)",
    )
    flags.add_validation_flags(parser, batch_size=False)
    flags.add_hardware_flags(parser)
    flags.add_output_flags(parser, name="train", resume="training")
    return parser


def slim_parser(prog: str) -> Parser:
    """Return the parser of slim."""
    parser = Parser(
        prog,
        "Cut the least important channels of a YOLO checkpoint, and save the smaller network.",
        ["--weights results/train/last.pt --percent 0.5 --data my.yaml"],
    )
    flags.add_data_flags(parser, data="")
    flags.add_slimming_flags(parser)
    flags.add_validation_flags(parser)
    flags.add_hardware_flags(parser)
    flags.add_engine_flag(parser)
    flags.add_output_flags(parser, name="slim")
    flags.add_save_flag(parser)
    return parser


def compare_parser(prog: str) -> Parser:
    """Return the parser of compare."""
    parser = Parser(
        prog,
        "Compare techniques on one checkpoint: accuracy, latency, memory and size of what each makes.",
        [
            "--weights best.pt --data my.yaml --calib images/",
            "--demo --techniques fuse,prune,slim --training='--lr0 0.001'",
        ],
    )
    flags.add_data_flags(parser)
    add = parser.group(flags.TECHNIQUES).add_argument
    known = ",".join(TECHNIQUES)
    add("--techniques", default=known, metavar="NAME,NAME", help=f"any of {known.replace(',', ', ')}")
    flags.add_amount_flag(parser, default="0.5")
    flags.add_criterion_flag(parser)
    flags.add_scope_flag(parser)
    flags.add_budget_flag(parser)
    flags.add_depthwise_flag(parser)
    parser.group(flags.CALIBRATION).add_argument(
        "--calib", default="", metavar="FOLDER", help="images for int8-static and obs; no labels needed"
    )
    flags.add_slimming_flags(parser, percent=0.5)
    add = parser.group(flags.SLIMMING).add_argument
    add("--slimming", default="", metavar="FLAGS", help="more flags of slim: --slimming='--round-to 8'")
    add = parser.group(flags.TRAINING).add_argument
    add("--epochs", type=int, default=TrainingSettings.epochs, metavar="N", help="epochs of each training")
    add("--training", default="", metavar="FLAGS", help="more flags of finetune: --training='--lr0 0.001'")
    add(
        "--sparse-training",
        default="",
        metavar="FLAGS",
        help="flags of a training before slim cuts: --sparse-training='--sparse-train 0.0025 --epochs 50'",
    )
    flags.add_validation_flags(parser)
    flags.add_bootstrap_flag(parser)
    add = parser.group(flags.LATENCY).add_argument
    add(
        "--engines",
        default=",".join(DEFAULT_ENGINES),
        metavar="NAME,NAME",
        help="engines that run what the techniques make",
    )
    add("--seconds", type=float, default=60.0, metavar="S", help="time for latency, of all rows together")
    flags.add_hardware_flags(parser)
    flags.add_cluster_flags(parser)
    flags.add_output_flags(parser, name="compare", resume="comparison")
    return parser


def sensitivity_parser(prog: str) -> Parser:
    """Return the parser of sensitivity."""
    parser = Parser(
        prog,
        "Measure layer sensitivity: prune each Conv2d alone at several amounts, and validate.",
        ["--weights best.pt --data my.yaml", "--demo --layers 'model.2*' --amounts 0.5,0.9"],
    )
    flags.add_data_flags(parser)
    add = parser.group(flags.DATA).add_argument
    # The flag's earlier name. In finetune --images is a folder.
    add("--images", dest="val_images", type=int, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    add(
        "--val-images",
        type=int,
        default=100,
        metavar="N",
        help="images of the data, chosen at random; 0 for all",
    )
    add = parser.group(flags.PRUNING).add_argument
    add("--amounts", default="0.5,0.7,0.9", metavar="X,X", help="sparsities of the layer that is pruned")
    add(
        "--layers",
        action="append",
        default=[],
        metavar="LAYER",
        help="layers to prune, with wildcards; may be repeated (default: all)",
    )
    flags.add_validation_flags(parser)
    flags.add_hardware_flags(parser)
    flags.add_output_flags(parser, name="sensitivity", resume="run")
    return parser


def predict_parser(prog: str) -> Parser:
    """Return the parser of predict."""
    parser = Parser(
        prog,
        "Detect in pictures, videos or a camera, and draw what is found.",
        [
            "--weights pruned.safetensors --source image.jpg",
            "--weights best.pt,pruned.safetensors --source folder/ --side-by-side",
        ],
    )
    add_source_flags(parser)
    add_prediction_flags(parser)
    flags.add_calibration_flags(parser, "images for sparse-int8; no labels needed")
    flags.add_hardware_flags(parser)
    flags.add_engine_flag(parser)
    flags.add_output_flags(parser, name="predict")
    parser.flags()["verbose"].help = "print a line for each picture and frame"
    add_drawing_flags(parser)
    return parser


def convert_parser(prog: str) -> Parser:
    """Return the parser of convert."""
    parser = Parser(
        prog,
        "Convert a saved network into another form, rounded to half precision.",
        ["pruned.safetensors pruned.pt", "pruned.pt pruned.onnx", "pruned.pt pruned.c --imgsz 640"],
    )
    parser.add_argument(
        "source", type=Path, help="a .pt checkpoint, or a .safetensors file that this tool saved"
    )
    parser.add_argument("target", type=Path, help="the file to write, in .pt, .safetensors, .onnx or .c")
    parser.group(flags.OUTPUT).add_argument(
        "--exist-ok", action="store_true", help="overwrite the target where it exists"
    )
    flags.add_onnx_flags(parser)
    flags.add_c_flags(parser)
    return parser
