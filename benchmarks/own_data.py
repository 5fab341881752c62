"""Measures the default training on a data set of one's own: from a few training images to many.

    python benchmarks/own_data.py --weights yolov5n.pt --sparsity 0.7 --counts 8,100,1000

Draws a data set of signs: arrows to the left and to the right, and letters that look alike when mirrored.
Trains a dense detector on all training images, without flips, which would swap the arrows. Its layers before
the head begin as those of --weights. Then the default training prunes and trains it with each number of
images: no setting is given but the sparsity, the image size and noval. The validation images are always
the same.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from sparsity.formats.loading import load  # noqa: E402
from sparsity.formats.saving import save  # noqa: E402
from sparsity.training.finetune import finetune  # noqa: E402
from sparsity.training.lessons import lesson_of  # noqa: E402
from sparsity.training.preparation import Material, make_run  # noqa: E402
from sparsity.training.settings import TrainingSettings  # noqa: E402
from sparsity.validation.settings import ValidationSettings  # noqa: E402
from sparsity.validation.validate import validate  # noqa: E402
from sparsity.yolo.families import published_architecture  # noqa: E402
from sparsity.yolo.network import Network, build, fuse  # noqa: E402

NAMES = ("arrow left", "arrow right", "E", "3", "stop")
WIDTH, HEIGHT, IMGSZ = 320, 240, 320
VALIDATION_IMAGES = 200
VALIDATION = ValidationSettings(imgsz=IMGSZ)
MOST_SIGNS = 5
SIDES = (16, 72)
ARROW = np.array([[0, 0.5], [0.5, 0], [0.5, 0.3], [1, 0.3], [1, 0.7], [0.5, 0.7], [0.5, 1]])
"""The corners of an arrow to the left, in shares of its side."""
OCTAGON = np.array([[0.3, 0], [0.7, 0], [1, 0.3], [1, 0.7], [0.7, 1], [0.3, 1], [0, 0.7], [0, 0.3]])


def draw_scene(rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """Draw an image of signs on clutter. Returns BGR pixels, and class, left, top and side of each sign."""
    ground = rng.integers(30, 200, (6, 8, 3), np.uint8)
    pixels = cv2.resize(ground, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    for _ in range(12):
        start, end = rng.integers(0, (WIDTH, HEIGHT), (2, 2)).tolist()
        cv2.line(pixels, start, end, rng.integers(0, 256, 3).tolist(), int(rng.integers(1, 6)), cv2.LINE_AA)
    signs: list[tuple[int, int, int, int]] = []
    for _ in range(int(rng.integers(1, MOST_SIGNS + 1))):
        side = int(np.exp(rng.uniform(*np.log(SIDES))))
        left, top = rng.integers(0, (WIDTH - side, HEIGHT - side)).tolist()
        if all(abs(left - x) > max(side, s) or abs(top - y) > max(side, s) for _, x, y, s in signs):
            signs.append((int(rng.integers(len(NAMES))), left, top, side))
            _draw_sign(pixels, *signs[-1], rng)
    noise = rng.normal(0, 8, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8), signs


def _draw_sign(
    pixels: np.ndarray, label: int, left: int, top: int, side: int, rng: np.random.Generator
) -> None:
    dark = rng.random() < 0.5
    colour = rng.integers(*((0, 90) if dark else (170, 256)), 3).tolist()
    name = NAMES[label]
    if len(name) == 1:
        thickness = max(1, side // 8)
        (width, height), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 1, 1)
        scale = side / max(width, height)
        place = left + round((side - width * scale) / 2), top + round((side + height * scale) / 2)
        cv2.putText(pixels, name, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)
        return
    corners = OCTAGON if name == "stop" else ARROW
    if name == "arrow right":
        corners = corners * (-1, 1) + (1, 0)
    cv2.fillPoly(pixels, [np.rint(corners * side + (left, top)).astype(np.int32)], colour, cv2.LINE_AA)


def write_images(folder: Path, split: str, count: int, seed: int) -> list[Path]:
    """Draw the images and labels of a split, in YOLOv5's form. Returns the images' paths."""
    images, labels = folder / "images" / split, folder / "labels" / split
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    paths = []
    for number in range(count):
        pixels, signs = draw_scene(np.random.default_rng((seed, number)))
        paths.append(images / f"{number:05}.jpg")
        cv2.imwrite(str(paths[-1]), pixels)
        rows = [
            f"{label} {(left + side / 2) / WIDTH} {(top + side / 2) / HEIGHT} {side / WIDTH} {side / HEIGHT}"
            for label, left, top, side in signs
        ]
        (labels / f"{number:05}.txt").write_text("\n".join(rows))
    return paths


def write_data(folder: Path, images: list[Path]) -> Path:
    """Write the data yaml of a data set with these training images. Returns its path."""
    listed = folder / f"train_{len(images)}.txt"
    listed.write_text("\n".join(map(str, images)))
    data = folder / f"data_{len(images)}.yaml"
    content = {"path": str(folder), "train": listed.name, "val": "images/val", "names": list(NAMES)}
    data.write_text(yaml.safe_dump(content))
    return data


def write_start(weights: str, cfg: str, path: Path) -> None:
    """Write a checkpoint for the data set's classes, with the weights of another where shapes agree."""
    network = build(published_architecture(cfg, len(NAMES)), NAMES)
    own, theirs = network.state_dict(), load(weights, fused=False).state_dict()
    network.load_state_dict({k: v for k, v in theirs.items() if own[k].shape == v.shape}, strict=False)
    lesson_of(network).initialise(network.head, IMGSZ)
    network.trained_with = {"fliplr": 0.0}
    save(network, path)


def train_dense(start: Path, data: Path, epochs: int, folder: Path) -> Path:
    """Train on all labels. Returns the path of the last network."""
    settings = TrainingSettings(
        epochs=epochs,
        batch_size=16,
        nominal_batch=16,
        optimizer="AdamW",
        lr0=0.002,
        mosaic=0,
        imgsz=IMGSZ,
        noval=True,
    )
    finetune(start, data, settings, folder=folder, validation=VALIDATION)
    return folder / "last.pt"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="yolov5n.pt", help="checkpoint that the detector starts from")
    parser.add_argument("--cfg", default="yolov5n", help="its architecture")
    parser.add_argument("--sparsity", type=float, default=0.7)
    parser.add_argument("--counts", default="8,100,1000", help="numbers of training images")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of the dense training, on all images")
    parser.add_argument("--folder", type=Path, help="keeps images and networks (default: none is kept)")
    args = parser.parse_args()
    counts = [int(count) for count in args.counts.split(",")]
    with tempfile.TemporaryDirectory() as temporary:
        measure((args.folder or Path(temporary)).absolute(), args, counts)


def measure(folder: Path, args: argparse.Namespace, counts: list[int]) -> None:
    """Train the dense detector, then prune and train it with each number of images. Prints a row for each."""
    write_images(folder, "val", VALIDATION_IMAGES, seed=1)
    images = write_images(folder, "train", max(counts), seed=0)
    data = {count: write_data(folder, images[:count]) for count in counts}
    write_start(args.weights, args.cfg, folder / "start.pt")
    began = time.perf_counter()
    dense = train_dense(folder / "start.pt", data[max(counts)], args.epochs, folder / "dense")
    own = accuracy(load(dense), data[max(counts)])
    print(f"dense, {args.epochs} epochs: AP {own:.3f}, {time.perf_counter() - began:.0f} s", flush=True)
    print("training images  one-shot       fine-tuned     epochs   rate  seconds")
    for count in counts:
        began = time.perf_counter()
        place = folder / str(count)
        place.mkdir()
        settings = TrainingSettings(amount=args.sparsity, imgsz=IMGSZ, noval=True)
        run = make_run(Material(weights=dense, data=data[count]), settings, VALIDATION, place)
        one_shot = accuracy(fuse(copy.deepcopy(run.trainer.network).eval()), data[count])
        run.run()
        last = accuracy(load(place / "last.pt"), data[count])
        print(
            f"{count:15}  {one_shot:.3f} {one_shot / own:6.1%}  {last:.3f} {last / own:6.1%}  "
            f"{run.settings.epochs:6}  {run.settings.lr0:5g}  {time.perf_counter() - began:7.0f}",
            flush=True,
        )


def accuracy(network: Network, data: Path) -> float:
    """Return the AP on the validation images."""
    return validate(network, data, VALIDATION).metrics.AP


if __name__ == "__main__":
    main()
