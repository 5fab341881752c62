"""Damages data yamls, label files and COCO annotations, and reads each: refused or read, never worse.

python -m tests.data.fuzz_data --files 10000

Each file is part of a data set of two images, which is read and, where it can be, evaluated. Exit code 1 if
anything but InputError was raised, or reading took over SECONDS. Such files are printed with their index.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np

from sparsity.base.errors import InputError
from sparsity.data.dataset import identify, read_dataset
from sparsity.evaluation.coco import evaluate_matched
from sparsity.evaluation.results import Results

SECONDS = 10
NAMES = ("cat", "dog")
GOOD = ("refused", "read")
YAML = """# a data set
path: {folder}
train: [images/val, images/val]
val: images/val
annotations: annotations/a.json
nc: 2
names:
  0: cat
  1: dog
"""
LABELS = "0 0.5 0.5 0.2 0.4\n1 0.25 0.5 0.5 0.5\n1 0.1 0.1 0.2 0.1 0.2 0.2\n"
SCALARS = (
    *(
        "",
        "~",
        "null",
        "yes",
        "0x",
        "0x_",
        "0b_",
        "0o",
        "1:30",
        "1:_",
        "-1",
        "1e400",
        "1e-400",
        ".nan",
        ".inf",
    ),
    *(
        "2024-13-45",
        "2024-01-01T99:99:99",
        "'80'",
        '"\\0"',
        "&",
        "&a",
        "*a",
        "&a [*a]",
        "!!int x",
        "!!python/x",
    ),
    *(
        "!!binary x",
        "!!set {a}",
        "!!omap [a]",
        "!!float ''",
        "!!timestamp x",
        "<<: a",
        "[[]]",
        "{}",
        "{a: {b: c}}",
    ),
    *("x" * 300, "../../..", "/", "images\\val", "%s %n", "\u202e", "\ud7ff", "\x07", "9" * 30, "9" * 5000),
)
VALUES = (
    *(None, True, False, 0, 1, -1, 1.0, 1.5, 2**31, 2**63, -(2**63), 10**400, 1e308, -1e308, float("nan")),
    *(float("inf"), "", "1", "01", "a", "x" * 300, "\0", "a.png", "..\\a.png", [], [1], [[]], {}, {"a": 1}),
    *([0, 0, 1e14, 1e14], [-5, -5, -5, -5], [1, 2, 3], [1, 2, 3, None], ["1", "2", "3", "4"]),
)


def main() -> None:
    """Parse the flags, read the files, print; exit with 1 where a reader failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000, help="of each kind")
    parser.add_argument("--kind", choices=KINDS, nargs="+", default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="index of the first file, to repeat one")
    args = parser.parse_args()
    failed = False
    for kind in args.kind:
        found = fuzz(kind, range(args.first, args.first + args.files), args.seed)
        print(f"{kind}, seed {args.seed}, {found.total()} files: {dict(found.most_common())}", flush=True)
        failed |= any(outcome not in GOOD for outcome in found)
    sys.exit(failed)


def fuzz(kind: str, indices: range, seed: int = 0) -> Counter[str]:
    """Read a damaged file of a kind for each index. Return how many ended how. What fails is printed."""
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name, patch.dict(os.environ, XDG_CACHE_HOME=f"{name}/cache"):
        folder = Path(name) / "data"
        make(folder)
        with contextlib.chdir(folder):
            for index in indices:
                rng = random.Random(f"{kind} {seed} {index}")
                outcome = read(folder, kind, rng)
                found[outcome] += 1
                if outcome not in GOOD:
                    print(f"--kind {kind} --seed {seed} --first {index} --files 1: {outcome}", flush=True)
    return found


def make(folder: Path) -> None:
    """Write a data set of two images, with labels and annotations."""
    for place in ("images/val", "labels/val", "annotations"):
        (folder / place).mkdir(parents=True)
    for name in "ab":
        cv2.imwrite(str(folder / f"images/val/{name}.png"), np.zeros((20, 40, 3), np.uint8))
    (folder / "data.yaml").write_text(YAML.format(folder=folder), encoding="utf-8")
    (folder / "annotations/a.json").write_text(json.dumps(coco()), encoding="utf-8")
    (folder / "labels/val/a.txt").write_text(LABELS, encoding="utf-8")


def coco() -> dict[str, list[dict[str, object]]]:
    """Return annotations of the two images: four boxes, of which one is a crowd."""
    rows = [
        {"id": i, "image_id": 7 + i % 2, "category_id": 3 + i // 2, "bbox": [2 * i, 1, 9, 8], "area": 72}
        | {"iscrowd": int(i == 3), "segmentation": []}
        for i in range(4)
    ]
    images = [{"id": 7 + i, "file_name": f"{'ab'[i]}.png", "width": 40, "height": 20} for i in range(2)]
    return {
        "images": images,
        "annotations": rows,
        "categories": [{"id": 3 + i, "name": name, "supercategory": "x"} for i, name in enumerate(NAMES)],
    }


def read(folder: Path, kind: str, rng: random.Random) -> str:
    """Damage one file of the data set, read the data set, and restore it. Return how it ended."""
    file, damage = KINDS[kind]
    before = (folder / file).read_bytes()
    labels = folder / "labels/val/a.txt"
    try:
        (folder / file).write_bytes(damage(before, rng))
        if kind == "coco":
            # True boxes come from the annotations only where there are no label files.
            labels.rename(folder / "a.kept")
        with _timer():
            _use(folder)
        return "read"
    except InputError as error:
        return "refused" if "\n" not in str(error) else "an error of two lines"
    except TimeoutError:
        return "hang"
    except Exception:
        return f"traceback: {traceback.format_exc()[-600:]}"
    finally:
        if kind == "coco" and not labels.exists():
            (folder / "a.kept").rename(labels)
        (folder / file).write_bytes(before)


def _use(folder: Path) -> None:
    """Read the data set, and evaluate a detection on each image."""
    dataset = read_dataset(folder / "data.yaml", NAMES, say=lambda _: None)
    identify(dataset.images)
    count = len(dataset.images)
    boxes = np.full((count, 4), [0, 1, 9, 9], np.float32)
    classes = np.full(count, dataset.category_ids[0])
    results = Results.of(np.array(dataset.image_ids), classes, boxes, np.full(count, 0.5))
    ids = {"image_ids": dataset.image_ids, "category_ids": list(dataset.category_ids)}
    evaluate_matched(dataset.annotations.content, results, **ids)


@contextlib.contextmanager
def _timer() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


def _flip(content: bytes, rng: random.Random) -> bytes:
    """Change, remove, repeat or insert some bytes."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice((0, 1, 1, 4, 30)))
        data[start:end] = rng.choice((b"", data[start:end] * 2, rng.randbytes(end - start), rng.randbytes(1)))
    return bytes(data)


def _damage_text(content: bytes, rng: random.Random) -> bytes:
    """Put hostile scalars in the place of words, repeat, remove or nest lines, or flip bytes."""
    if rng.random() < 0.3:
        return _flip(content, rng)
    words = re.split(r"(\s+|[\[\],:])", content.decode())
    for _ in range(rng.choice((1, 1, 2, 3))):
        words[rng.randrange(len(words))] = rng.choice(SCALARS)
    lines = "".join(words).splitlines(keepends=True)
    if rng.random() < 0.2:
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
    if rng.random() < 0.02:
        lines.append(f"deep: {rng.choice('[{') * rng.choice((50, 5000))}\n")
    return "".join(lines).encode("utf-8", "surrogatepass")


def _damage_coco(content: bytes, rng: random.Random) -> bytes:
    """Put hostile values in the place of values, repeat or remove rows and keys, or flip bytes."""
    if rng.random() < 0.2:
        return _flip(content, rng)
    if rng.random() < 0.02:
        return content[:-1] + b', "deep": ' + b"[" * rng.choice((50, 100_000))
    tree = json.loads(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        key = rng.choice(list(tree))
        rows = tree[key]
        if rng.random() < 0.05 or not isinstance(rows, list) or not rows:
            tree[key] = rng.choice(VALUES)
            continue
        index = rng.randrange(len(rows))
        if not isinstance(rows[index], dict) or not rows[index] or rng.random() < 0.15:
            rows[index:index] = [rng.choice((*VALUES, rows[index]))]
        elif rng.random() < 0.2:
            del rows[index][rng.choice(list(rows[index]))]
        else:
            rows[index] = rows[index] | {rng.choice(list(rows[index])): rng.choice(VALUES)}
    return json.dumps(tree).encode("utf-8", "surrogatepass")


KINDS: dict[str, tuple[str, Callable[[bytes, random.Random], bytes]]] = {
    "yaml": ("data.yaml", _damage_text),
    "labels": ("labels/val/a.txt", _damage_text),
    "coco": ("annotations/a.json", _damage_coco),
}


if __name__ == "__main__":
    main()
