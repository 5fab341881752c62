"""The flags of predict, called as those of YOLOv5's detect.py. Importing it imports no torch."""

from __future__ import annotations

from sparsity.commands import flags
from sparsity.commands.flags import DATA, DEFAULT_WEIGHTS, OUTPUT
from sparsity.commands.parser import Parser
from sparsity.predicting.settings import PredictionSettings

DETECTION = "detection"


def add_source_flags(parser: Parser) -> None:
    """Add the checkpoints and the pictures."""
    add = parser.group(DATA).add_argument
    add(
        "--weights",
        default=DEFAULT_WEIGHTS,
        metavar="FILE[,FILE]",
        help="checkpoint, in .pt, .safetensors or .onnx; several with --side-by-side; published ones are "
        "downloaded",
    )
    add(
        "--source",
        default="",
        metavar="PATH",
        help="image, video, folder, glob such as 'folder/*.jpg', or the number of a camera",
    )
    add("--demo", action="store_true", help="use a small detector and drawn images; nothing is downloaded")


def add_prediction_flags(parser: Parser) -> None:
    """Add how objects are detected."""
    d, add = PredictionSettings, parser.group(DETECTION).add_argument
    flags.add_imgsz_flag(parser, DETECTION, d.imgsz)
    flags.add_threshold_flags(parser, DETECTION, d)
    add(
        "--classes",
        nargs="+",
        default=[],
        metavar="CLASS",
        help="detect these classes only, by number or name: --classes 0 2, --classes person car",
    )
    add("--agnostic-nms", action="store_true", help="let boxes suppress boxes of other classes")
    flags.add_head_flag(parser, DETECTION)


def add_drawing_flags(parser: Parser) -> None:
    """Add what is written, and how it is drawn."""
    add = parser.group(OUTPUT).add_argument
    add(
        "--side-by-side",
        action="store_true",
        help="draw what each of several checkpoints finds, side by side",
    )
    add("--nosave", action="store_true", help="write no pictures and videos")
    add("--save-txt", action="store_true", help="write a label file for each picture, in labels/")
    add("--save-conf", action="store_true", help="write confidences into the label files, too")
    add("--save-crop", action="store_true", help="write what is in each box, in crops/CLASS/")
    add("--line-thickness", type=int, metavar="PIXELS", help="of boxes (default: scaled with the picture)")
    add("--hide-labels", action="store_true", help="draw boxes without class names")
    add("--hide-conf", action="store_true", help="draw class names without confidences")
