"""Pictures of results. Pillow is imported when the first one is drawn."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np

from resnet_backbones.runtime.images import open_picture

Color = tuple[int, int, int]
_GOLDEN = 0.61803399  # hues a golden section apart: neighbours in number differ in colour
_SMALL, _READABLE = 320, 640  # pictures whose longer side is below the first are enlarged to about the second
_LUMINANCE = (0.299, 0.587, 0.114)


def color_of(number: Any) -> Color:
    """A bright colour, the same for a class in every picture."""
    hue = (0.02 + int(number) * _GOLDEN) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, (1.0, 0.8)[int(number) // 8 % 2])
    return round(255 * red), round(255 * green), round(255 * blue)


def as_picture(image: Any, zoom: int | None) -> tuple[Any, int, tuple[int, int]]:
    """Whatever ``predict`` takes as a PIL image to draw on; by how much it was enlarged; its height and width as given.

    Args:
        image: a path, a PIL image or an array ``(H, W)`` or ``(H, W, C)``; floats are taken as 0..255, or as 0..1 where
            none is above 1.
        zoom: whole factor; ``None`` to enlarge small ones.

    Raises:
        ImportError: Pillow is not installed.
        ValueError: an array of another rank or number of channels, or a ``zoom`` below 1.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('Drawing needs Pillow: pip install "resnet-backbones[images]".') from error
    picture, size = open_picture(Image.fromarray(_as_bytes(image)) if isinstance(image, np.ndarray) else image)
    picture = picture.convert("RGB")
    longer = max(picture.size)
    if zoom is None:
        zoom = max(1, round(_READABLE / longer)) if longer < _SMALL else 1
    if zoom < 1:
        raise ValueError(f"zoom must be a whole number of at least 1, got {zoom}.")
    if zoom > 1:
        picture = picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)
    return picture.copy(), zoom, size


def draw_boxes(picture: Any, boxes: np.ndarray, classes: np.ndarray, labels: list[str], font_size: int | None) -> Any:
    """Boxes ``yxyx`` in pixels of the picture, best first, with a label each."""
    from PIL import ImageDraw

    draw, font = ImageDraw.Draw(picture), _font(picture, font_size)
    line = max(2, round(max(picture.size) / 320))
    limit = np.array([picture.height, picture.width] * 2, np.float32)
    places = np.clip(np.nan_to_num(boxes), 0, limit - 1)
    for index in reversed(range(len(labels))):  # the best on top
        top, left, bottom, right = (float(side) for side in places[index])
        draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=color_of(classes[index]), width=line)
    for index in reversed(range(len(labels))):
        top, left = float(places[index, 0]), float(places[index, 1])
        _label(draw, picture, font, (left, top), labels[index], color_of(classes[index]))
    return picture


def draw_captions(picture: Any, rows: list[tuple[str, float]], font_size: int | None) -> Any:
    """Names and probabilities, a bar each, in a band below the picture."""
    from PIL import Image, ImageDraw

    font = _font(picture, font_size)
    row = round(font.size * 1.6)
    width = max(picture.width, round(font.size * 14))
    result = Image.new("RGB", (width, picture.height + row * len(rows) + row // 2), (24, 24, 24))
    result.paste(picture, ((width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(result)
    for index, (name, score) in enumerate(rows):
        top = picture.height + row // 4 + index * row
        share = float(np.clip(np.nan_to_num(score), 0, 1))
        draw.rectangle((0, top + 1, share * (width - 1), top + row - 2), fill=(46, 92, 150))
        number = f"{100 * share:.1f} %"
        room = width - 3 * font.size // 2 - draw.textlength(number, font)
        draw.text((font.size // 2, top + row / 2), _fitting(draw, font, name, room), (255, 255, 255), font, anchor="lm")
        draw.text((width - font.size // 2, top + row / 2), number, (255, 255, 255), font, anchor="rm")
    return result


def draw_classes(
    picture: Any, classes: np.ndarray, legend: dict[int, str], opacity: float, font_size: int | None
) -> Any:
    """Each class of ``legend`` in its colour over the picture, and the legend in its corner."""
    from PIL import Image, ImageDraw

    pixels = np.array(picture, np.float32)
    for number in legend:
        where = classes == number
        pixels[where] += (np.array(color_of(number), np.float32) - pixels[where]) * np.float32(opacity)
    picture = Image.fromarray(pixels.round().astype(np.uint8))
    draw, font = ImageDraw.Draw(picture), _font(picture, font_size)
    top = float(font.size // 4)
    for number, name in legend.items():
        if top + 1.5 * font.size > picture.height:
            break
        top = _label(draw, picture, font, (font.size / 4, top), name, color_of(number), above=False) + font.size // 4
    return picture


def _label(
    draw: Any, picture: Any, font: Any, corner: tuple[float, float], text: str, color: Color, above: bool = True
) -> float:
    """Text on its colour, above or below ``corner`` (left, top), within the picture. Returns where it ends."""
    pad = max(2, font.size // 6)
    text = _fitting(draw, font, text, picture.width - 2 * pad)
    width, height = draw.textlength(text, font) + 2 * pad, font.size + 2 * pad
    left = max(0.0, min(corner[0], picture.width - width))
    top = corner[1] - height if above and corner[1] >= height else corner[1]
    top = max(0.0, min(top, picture.height - height))
    draw.rectangle((left, top, left + width, top + height), fill=color)
    dark = sum(part * share for part, share in zip(color, _LUMINANCE, strict=True)) > 128
    draw.text((left + pad, top + height / 2), text, (0, 0, 0) if dark else (255, 255, 255), font, anchor="lm")
    return top + height


def _fitting(draw: Any, font: Any, text: str, room: float) -> str:
    """One line of text, cut with dots where it is wider than ``room`` pixels."""
    text = " ".join(text.split())[:200]
    if draw.textlength(text, font) <= room:
        return text
    while text and draw.textlength(f"{text}...", font) > room:
        text = text[:-1]
    return f"{text}..."


def _font(picture: Any, size: int | None) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size or max(13, round(max(picture.size) / 45)))


def _as_bytes(image: np.ndarray) -> np.ndarray:
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if (image.ndim != 2 and not (image.ndim == 3 and image.shape[-1] in (3, 4))) or 0 in image.shape:
        raise ValueError(f"The image has shape {image.shape}; one of (height, width, 3) can be drawn on.")
    if image.dtype == np.uint8:
        return image
    values = np.nan_to_num(image.astype(np.float32))
    if image.dtype.kind in "fb" and values.max() <= 1:
        values = values * 255
    return np.clip(values.round(), 0, 255).astype(np.uint8)
