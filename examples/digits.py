"""Real handwritten digits, scattered over small canvases: a detection set that needs no download.

scikit-learn ships 1,797 handwritten digits of 8x8 pixels (Alpaydin & Kaynak, "Optical Recognition of Handwritten
Digits", UCI, 1998). Each canvas takes a few, enlarges them, gives each a colour and puts them, partly over one another,
on a noisy background. The digits of training and validation are different ones. Everything follows from a seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from sklearn.datasets import load_digits
from tqdm import tqdm

CLASS_NAMES = [str(digit) for digit in range(10)]
CANVAS = 96
MAX_DIGITS = 4
SIZES = (25, 54)  # side, in pixels, of the square a digit is enlarged to, its empty border included
MAX_OVERLAP = 0.25  # share of the smaller box that another may cover
_VALIDATION_DIGITS = 447  # of 1,797


@dataclass(frozen=True)
class Scenes:
    """Canvases and what is on them.

    Args:
        images: uint8 `(N, CANVAS, CANVAS, 3)`.
        boxes: float32 `(N, MAX_DIGITS, 4)`, `x, y, width, height` in pixels ("xywh"); rows past the last digit are -1.
        classes: float32 `(N, MAX_DIGITS)`, 0 to 9, -1 past the last digit.
    """

    images: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, part: slice) -> Scenes:
        return Scenes(self.images[part], self.boxes[part], self.classes[part])


@cache
def _digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The digits of a split, 0..1, and their classes: a fixed shuffle, then a cut, so the two splits never share one.

    They are 10x10: an empty border lets strokes that touch the edge of scikit-learn's 8x8 fade like the others.
    """
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.images))
    parts = {"train": order[_VALIDATION_DIGITS:], "validation": order[:_VALIDATION_DIGITS]}
    if split not in parts:
        raise ValueError(f"split must be one of {sorted(parts)}, not {split!r}.")
    chosen = parts[split]
    return np.pad(data.images[chosen] / 16.0, ((0, 0), (1, 1), (1, 1))).astype("float32"), data.target[chosen]


def _enlarge(digit: np.ndarray, size: int) -> np.ndarray:
    """Bilinear resize of a square digit to `(size, size)`."""
    at = np.clip((np.arange(size) + 0.5) * len(digit) / size - 0.5, 0, len(digit) - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(digit) - 1)
    share = (at - low).astype("float32")
    rows = digit[low] * (1 - share)[:, None] + digit[high] * share[:, None]
    return rows[:, low] * (1 - share) + rows[:, high] * share


def plain_digits(split: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Every digit of a split by itself, enlarged, bright on black.

    Args:
        split: "train" (1,350 digits) or "validation" (447 others).
        size: side of the images in pixels.

    Returns:
        Images, float32 `(N, size, size, 1)`, 0 to 1, and classes, int64 `(N,)`.
    """
    images, classes = _digits(split)
    return np.stack([_enlarge(image, size) for image in images])[..., None], classes


def _stroke_box(stroke: np.ndarray) -> tuple[int, int, int, int]:
    """The tight box, `x, y, width, height`, round the part of an enlarged digit that is visibly inked."""
    rows, columns = np.where(stroke.max(axis=1) > 0.25)[0], np.where(stroke.max(axis=0) > 0.25)[0]
    return columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]


def _overlap(box: tuple[float, ...], others: list[tuple[float, ...]]) -> float:
    """The largest share of the smaller box's area that `box` and any of `others` have in common."""
    worst = 0.0
    for other in others:
        width = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
        height = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
        if width > 0 and height > 0:
            worst = max(worst, width * height / min(box[2] * box[3], other[2] * other[3]))
    return worst


def _background(rng: np.random.Generator, canvas: int) -> np.ndarray:
    """A dim colour that drifts over the canvas, `(canvas, canvas, 3)`, 0..255."""
    corners = rng.uniform(0, 90, (2, 2, 3)).astype("float32")
    across = np.linspace(0, 1, canvas, dtype="float32")[:, None]
    left, right = (corners[0, side] * (1 - across) + corners[1, side] * across for side in (0, 1))
    return left[:, None] * (1 - across) + right[:, None] * across


def _scene(rng: np.random.Generator, split: str, canvas: int, count: int) -> tuple[np.ndarray, list, list]:
    """One canvas with up to `count` digits: uint8 image, boxes, classes."""
    digits, targets = _digits(split)
    image = _background(rng, canvas)
    boxes: list[tuple[float, ...]] = []
    classes: list[int] = []
    for _ in range(8 * count):  # a digit that would cover another too much is thrown again
        if len(boxes) == count:
            break
        chosen = rng.integers(len(digits))
        size = int(rng.integers(SIZES[0], min(SIZES[1], canvas) + 1))
        left, top = (int(place) for place in rng.integers(0, canvas - size + 1, 2))
        stroke = _enlarge(digits[chosen], size)
        x, y, width, height = _stroke_box(stroke)
        box = (float(left + x), float(top + y), float(width), float(height))
        if _overlap(box, boxes) > MAX_OVERLAP:
            continue
        ink = rng.uniform(130, 255, 3).astype("float32")
        patch = image[top : top + size, left : left + size]
        patch += stroke[:, :, None] * (ink - patch)
        boxes.append(box)
        classes.append(int(targets[chosen]))
    image += rng.normal(0, rng.uniform(4, 16), image.shape).astype("float32")
    return np.clip(image, 0, 255).astype("uint8"), boxes, classes


def make_scenes(count: int, split: str, *, seed: int = 0) -> Scenes:
    """Makes `count` canvases of one to `MAX_DIGITS` digits each.

    Args:
        count: how many.
        split: "train" or "validation": which digits to draw from.
        seed: the same seed gives the same canvases.

    Raises:
        ValueError: unknown split.
    """
    rng = np.random.default_rng([seed, split == "train"])
    images = np.zeros((count, CANVAS, CANVAS, 3), "uint8")
    boxes = np.full((count, MAX_DIGITS, 4), -1, "float32")
    classes = np.full((count, MAX_DIGITS), -1, "float32")
    for index in tqdm(range(count), desc=f"{split} scenes", unit="scene", disable=count < 500):
        images[index], found, names = _scene(rng, split, CANVAS, int(rng.integers(1, MAX_DIGITS + 1)))
        boxes[index, : len(found)] = found
        classes[index, : len(names)] = names
    return Scenes(images, boxes, classes)


def make_single_digits(count: int, split: str, *, canvas: int = 48, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Makes `count` small canvases with one digit each, to train a classifier on.

    Returns:
        Images, uint8 `(count, canvas, canvas, 3)`, and classes, int64 `(count,)`.
    """
    rng = np.random.default_rng([seed, split == "train", 1])
    scenes = [_scene(rng, split, canvas, 1) for _ in range(count)]
    return np.stack([image for image, _, _ in scenes]), np.array([classes[0] for _, _, classes in scenes])


def detection_stream(scenes: Scenes, batch_size: int, *, seed: int | None = None):
    """A `tf.data.Dataset` of batches as KerasCV's detectors take them: float32 images 0..255, padded boxes and classes.

    Args:
        scenes: what to stream.
        batch_size: canvases in a batch; a last, smaller batch is dropped when shuffling.
        seed: shuffle, anew each epoch, by this seed; `None` keeps the order.
    """
    import tensorflow as tf

    labels = {"boxes": scenes.boxes, "classes": scenes.classes}
    data = tf.data.Dataset.from_tensor_slices({"images": scenes.images, "bounding_boxes": labels})
    if seed is not None:
        data = data.shuffle(len(scenes), seed=seed)
    data = data.batch(batch_size, drop_remainder=seed is not None)
    return data.map(lambda batch: {**batch, "images": tf.cast(batch["images"], tf.float32)}).prefetch(2)
