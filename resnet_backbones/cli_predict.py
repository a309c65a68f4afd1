"""``resnet-backbones predict``: an exported file on pictures, with the pictures drawn on. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from resnet_backbones.cli_common import AsJson, console, errors_in_one_line, print_json
from resnet_backbones.files import beside, written_whole

EXAMPLE = "Example: [bold]resnet-backbones predict detector.tflite street.jpg --confidence 0.4 --letterbox[/bold]"


def predict(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .tflite or .onnx written by export.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures of any size.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="For the annotated pictures; made if missing.")] = Path(
        "predictions"
    ),
    draw: Annotated[bool, typer.Option("--draw/--no-draw", help="Write annotated pictures.")] = True,
    confidence: Annotated[
        float | None, typer.Option(min=0, max=1, help="Detectors: least score; if not given, the model's own.")
    ] = None,
    top_k: Annotated[int, typer.Option("--top", min=1, help="Classifiers: how many classes.")] = 5,
    letterbox: Annotated[
        bool, typer.Option("--letterbox", help="Keep the picture's aspect, and pad; else it is stretched.")
    ] = False,
    backend: Annotated[
        str | None, typer.Option(help="litert, onnxruntime or openvino; if not given, told by FILE.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="If not given, the runtime's choice.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run an exported file on pictures. Needs numpy, Pillow and a runtime, no TensorFlow."""
    with errors_in_one_line():
        from resnet_backbones.runtime import load

        model = load(file, backend, threads)
        resize = "letterbox" if letterbox else "stretch"
        results = model.predict(images, confidence=confidence, top_k=top_k, resize=resize)
        drawn = _draw(images, results, out) if draw else [None] * len(results)
    if as_json:
        found = [
            {"image": str(image), "picture": picture and str(picture), **result.to_dict()}
            for image, result, picture in zip(images, results, drawn, strict=True)
        ]
        print_json({"file": str(file), "task": model.task, "images": found})
        return
    _show(images, results)
    for picture in filter(None, drawn):
        console().print(f"Wrote {picture}", soft_wrap=True, markup=False)


def _show(images: list[Path], results: list[Any]) -> None:
    from resnet_backbones.runtime import Detections, Segmentation

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("image", overflow="fold")
    table.add_column("class")
    table.add_column("share" if any(isinstance(one, Segmentation) for one in results) else "score", justify="right")
    table.add_column(next((f"box, {one.box_format}" for one in results if isinstance(one, Detections)), ""))
    for image, result in zip(images, results, strict=True):
        for cells in _rows(result):
            table.add_row(escape(str(image)), *map(escape, cells))
    console().print(table)


def _rows(result: Any) -> Iterator[tuple[str, str, str]]:
    """Class, score and place of everything found in one image."""
    from resnet_backbones.runtime import Detections, Segmentation

    if isinstance(result, Segmentation):
        for number, share in result.shares().items():
            yield f"class {number}" if result.names is None else result.names[number], f"{100 * share:.1f} %", ""
        return
    if not len(result):
        yield "nothing found", "", ""
    for index, (number, score) in enumerate(zip(result.classes, result.scores, strict=True)):
        name = f"class {number}" if result.names is None else result.names[index]
        place = ""
        if isinstance(result, Detections):
            relative = (result.box_format or "").startswith("rel")
            place = "  ".join(f"{value:.3f}" if relative else f"{value:.0f}" for value in result.boxes[index])
        yield name, f"{score:.3f}", place


def _draw(images: list[Path], results: list[Any], folder: Path) -> list[Path]:
    """Writes the annotated pictures; two images of one name get two files."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for image, result in zip(images, results, strict=True):
        path = beside(folder / image.stem, ".predicted.png")
        number = 2
        while path in written:
            path, number = beside(folder / image.stem, f"-{number}.predicted.png"), number + 1
        picture = result.draw(image)
        with written_whole(path) as temporary:
            picture.save(temporary, format="PNG")
        written.append(path)
    return written
