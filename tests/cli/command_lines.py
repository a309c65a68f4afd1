"""The command lines README and --help give, and files to try them on."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path

import numpy as np

from tests.support.processes import run_command

ROOT = Path(__file__).resolve().parents[2]
SIZE = 64
CLASSES = ["ant", "bee", "cat", "dog"]


def documented(path="README.md") -> list[list[str]]:
    """The arguments of every command line in a page's blocks of code."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [words[1:] for words in lines if words and words[0] == "resnet-backbones"]


def smooth_picture(random, height, width):
    from resnet_backbones.runtime.images import resize_bilinear

    return resize_bilinear(random.uniform(0, 255, (4, 5, 3)), height, width).astype(np.uint8)


def write_files(folder: Path) -> dict[str, object]:
    """A float classifier and pictures, and what README's lines make of them: name of the file -> result of its line."""
    from PIL import Image

    import resnet_backbones as rb
    from resnet_backbones.keras_compat import keras
    from tests.support.nets import randomise

    keras.utils.set_random_seed(0)
    scaling = rb.Preprocessing(1 / 127.5, -1.0)
    backbone = rb.create_backbone("resnet10t", input_shape=(SIZE, SIZE, 3), preprocessing=scaling)
    randomise(backbone)
    rb.adapters.keras_cv.image_classifier(backbone, num_classes=len(CLASSES)).save(folder / "classifier.keras")
    random = np.random.default_rng(0)
    (folder / "photos" / "more").mkdir(parents=True)
    for number in range(6):
        picture = Image.fromarray(smooth_picture(random, 60, 80))
        picture.save(folder / "photos" / ("more" if number % 2 else "") / f"{number}.png")
    Image.fromarray(smooth_picture(random, 120, 200)).save(folder / "street.jpg")
    (folder / "names.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    with contextlib.chdir(folder):
        return {words[2]: run_command(*words) for words in documented() if words[0] == "export"}
