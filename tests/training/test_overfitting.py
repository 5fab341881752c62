"""Training learns: what it saw often enough, it finds to the pixel."""

from pathlib import Path

import cv2
import pytest
import torch

from sparsity import ValidationSettings, load
from sparsity.demo import data as demo
from sparsity.demo.drawing import Scene, draw_scene
from sparsity.formats.saving import save
from sparsity.training.preparation import Material, _initialise, make_run
from sparsity.training.settings import TrainingSettings

IMGSZ = 96
COUNT = 8
COPIES = 50
"""How often an epoch shows each scene: few epochs, since each validates."""
SMALLEST = 20
"""The least side of a shape in pixels: a box of fewer is hardly placed to a twentieth of it."""


def scenes() -> list[Scene]:
    found: list[Scene] = []
    seed = 0
    while len(found) < COUNT:
        scene = draw_scene(seed, IMGSZ)
        boxes = scene.boxes_xyxy
        if len(boxes) and (boxes[:, 2:] - boxes[:, :2]).min() >= SMALLEST:
            found.append(scene)
        seed += 1
    return found


def write(folder: Path, split: str, copies: int) -> None:
    images, labels = folder / "images" / split, folder / "labels" / split
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for number, scene in enumerate(scenes()):
        for copy in range(copies):
            cv2.imwrite(str(images / f"{number}-{copy}.png"), scene.pixels[..., ::-1])
            (labels / f"{number}-{copy}.txt").write_text(demo._labels(scene))


@pytest.mark.slow
def test_overfitting_eight_images_reaches_ap_095(tmp_path):
    """From the demo's detector with its head's weights drawn anew: all of it anew takes over a minute."""
    write(tmp_path, "train", COPIES)
    write(tmp_path, "val", 1)
    (tmp_path / "eight.yaml").write_text(demo._yaml())
    network = load(demo.WEIGHTS, fused=False)
    torch.manual_seed(0)
    for conv in network.head.m:
        conv.reset_parameters()
    _initialise(network, IMGSZ)
    save(network, tmp_path / "headless.pt")
    settings = TrainingSettings(
        epochs=4,
        batch_size=COUNT,
        nominal_batch=COUNT,
        imgsz=IMGSZ,
        optimizer="AdamW",
        lr0=0.006,
        decay=0,
        warmup=0.2,
        augment=False,
        workers=0,
    )
    material = Material(tmp_path / "headless.pt", data=tmp_path / "eight.yaml")
    validation = ValidationSettings(imgsz=IMGSZ, device="cpu", workers=1)
    (tmp_path / "run").mkdir()
    run = make_run(material, settings, validation, tmp_path / "run")
    run.run(say=print)
    assert run.rows[-1].AP >= 0.95
