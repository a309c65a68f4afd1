"""``resnet-backbones predict``: an exported file on pictures, with the pictures drawn on. Imports no TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from tqdm import tqdm

from resnet_backbones._util.files import beside, written_whole
from resnet_backbones._util.text import escape, json_text
from resnet_backbones.cli.common import AsJson, console, errors_in_one_line, must_be_there, print_json, say

EXAMPLE = "Example: [bold]resnet-backbones predict detector.tflite street.jpg --confidence 0.4 --letterbox[/bold]"


def predict(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .tflite or .onnx written by export.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures of any size, or folders of them.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="For the annotated pictures; made if missing.")] = Path(
        "predictions"
    ),
    draw: Annotated[bool, typer.Option("--draw/--no-draw", help="Write annotated pictures.")] = True,
    confidence: Annotated[
        float | None, typer.Option(min=0, max=1, help="Detectors: least score; if not given, the model's own.")
    ] = None,
    top_k: Annotated[int, typer.Option("--top", min=1, help="Classifiers: how many classes.")] = 5,
    resize: Annotated[
        str | None, typer.Option(help="stretch, or letterbox (aspect kept, padded); if not given, as the file says.")
    ] = None,
    letterbox: Annotated[bool, typer.Option("--letterbox", help="The same as --resize letterbox.")] = False,
    recursive: Annotated[bool, typer.Option("--recursive", help="Of a folder, take the folders in it, too.")] = False,
    backend: Annotated[
        str | None, typer.Option(help="litert, onnxruntime or openvino; if not given, told by FILE.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="If not given, the runtime's choice.")] = None,
    as_json: AsJson = False,
    as_lines: Annotated[
        bool, typer.Option("--jsonl", help="Print one JSON object per detection, a line each, as they are found.")
    ] = False,
) -> None:
    """Run an exported file on pictures. Needs numpy, Pillow and a runtime, no TensorFlow."""
    if as_json and as_lines:
        raise typer.BadParameter("give --json or --jsonl, not both")
    if resize not in (None, "stretch", "letterbox"):
        raise typer.BadParameter(f"{resize!r} is not stretch or letterbox", param_hint="--resize")
    if letterbox and resize == "stretch":
        raise typer.BadParameter("give --letterbox or --resize stretch, not both", param_hint="--resize")
    found, records, rows, drawn, broken = [], [], [], [], []  # type: ignore[var-annotated]
    with errors_in_one_line():
        must_be_there(file)
        from resnet_backbones.runtime import load
        from resnet_backbones.runtime.engines.choose import choose_backend

        choose_backend(file, backend)  # raises
        pictures = _pictures(images, recursive, out if draw else None)
        model = load(file, backend, threads)
        settings: dict[str, Any] = {"confidence": confidence, "top_k": top_k}
        settings["resize"] = "letterbox" if letterbox else resize
        for picture, named in tqdm(pictures, unit="picture", delay=2, leave=False, disable=None):
            try:
                (result,) = model.predict([picture], **settings)
            except (OSError, ValueError) as error:
                if named:
                    raise
                broken.append(" ".join(str(error).split()))
                continue
            annotated = _draw(picture, result, out, drawn) if draw else None
            own = {"image": str(picture), "picture": annotated and str(annotated)}
            if as_lines:
                for record in result.to_records():
                    say(json_text({"file": str(file), **own, **record}))
            elif as_json:
                found.append({**own, **result.to_dict()})
                records += [{**own, **record} for record in result.to_records()]
            else:
                rows.append((picture, result.to_records(), getattr(result, "box_format", None)))
    if as_json:
        print_json({"file": str(file), "task": model.task, "images": found, "detections": records})
    elif not as_lines:
        _show(rows)
        for picture in drawn:
            console().print(f"Wrote {escape(str(picture))}", soft_wrap=True)
    for why in broken:
        console(error=True).print(f"[yellow]Left out:[/yellow] {escape(why)}", soft_wrap=True)
    if broken:
        raise typer.Exit(1)


def _pictures(given: list[Path], recursive: bool, out: Path | None) -> list[tuple[Path, bool]]:
    """Pictures, those of folders among them, and whether each was named by itself."""
    from resnet_backbones.cli.images import pictures_in

    found: list[tuple[Path, bool]] = []
    for path in given:
        if path.is_dir():
            found += [(picture, False) for picture in pictures_in(path, recursive=recursive, leave_out=out)]
        elif not path.exists():
            raise FileNotFoundError(f"There is no picture {path}.")
        else:
            found.append((path, True))
    return found


def _show(rows: list[tuple[Path, list[dict[str, Any]], str | None]]) -> None:
    records = [record for _, found, _ in rows for record in found]
    box_format = next((form for _, _, form in rows if form), None)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("image", overflow="fold")
    table.add_column("class")
    table.add_column("share" if any("share" in record for record in records) else "score", justify="right")
    table.add_column(f"box, {box_format}" if box_format else "")
    for image, found, _ in rows:
        for cells in map(_cells, found) if found else [("nothing found", "", "")]:
            table.add_row(escape(str(image)), *map(escape, cells))
    console().print(table)


def _cells(record: dict[str, Any]) -> tuple[str, str, str]:
    """Class, score or share, and place of one thing found."""
    name = f"class {record['class']}" if record["name"] is None else record["name"]
    if "share" in record:
        return name, f"{100 * record['share']:.1f} %", ""
    relative = str(record.get("box_format")).startswith("rel")
    place = "  ".join(f"{value:.3f}" if relative else f"{value:.0f}" for value in record.get("box", ()))
    return name, f"{record['score']:.3f}", place


def _draw(image: Path, result: Any, folder: Path, written: list[Path]) -> Path:
    """Writes an annotated picture; two images of one name get two files. ``written`` grows."""
    folder.mkdir(parents=True, exist_ok=True)
    path = beside(folder / image.stem, ".predicted.png")
    number = 2
    while path in written:
        path, number = beside(folder / image.stem, f"-{number}.predicted.png"), number + 1
    picture = result.draw(image)
    with written_whole(path) as temporary:
        picture.save(temporary, format="PNG")
    written.append(path)
    return path
