"""``resnet-backbones export`` and ``check``: from a Keras file to a file that runs elsewhere, and what it is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from resnet_backbones._util.files import beside, check_not_read, check_writable
from resnet_backbones._util.text import check_name, escape
from resnet_backbones.backbones import plugins
from resnet_backbones.cli.common import (
    AsJson,
    at_work,
    can_be_written,
    console,
    errors_in_one_line,
    must_be_there,
    print_json,
    quiet_tensorflow,
    say,
    with_options,
)
from resnet_backbones.export.formats import Format, check_asked, find_format
from resnet_backbones.export.request import QUANTIZED, UNCHANGED
from resnet_backbones.schemes import get_scheme, precision_of

EXAMPLE = (
    "Example: [bold]resnet-backbones export classifier.keras classifier.tflite --calibration-data photos --parity-data "
    "photos --latency[/bold]\n\nFor TensorRT: [bold]resnet-backbones export classifier.keras classifier.onnx "
    "--calibration-data photos[/bold]"
)
CHECK_EXAMPLE = "Example: [bold]resnet-backbones check classifier.onnx[/bold]"
_REPORTS = (".json", ".md", ".txt")


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL.keras", help="A model saved with model.save().")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Ends in .tflite, .onnx or .keras; no suffix: a folder.")],
    format: Annotated[
        str | None, typer.Option(help="litert, onnx, savedmodel or keras; if not given, told by OUT.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="float32, float16, bfloat16, dynamic_range, int8 or int16x8; if not given, the model's own."),
    ] = None,
    target: Annotated[str | None, typer.Option(help="Of ONNX: tensorrt (usual) or onnxruntime.")] = None,
    layout: Annotated[str | None, typer.Option(help="Of ONNX's image input: NCHW (usual) or NHWC.")] = None,
    batch: Annotated[str, typer.Option(help="Images a call: a number, or any.")] = "1",
    input_shape: Annotated[
        tuple[int, int, int] | None,
        typer.Option(metavar="HEIGHT WIDTH CHANNELS", help="Of the images, for a model built for any size."),
    ] = None,
    calibration_data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npy|FOLDER", help="Images like those it will meet: quantizes a float model with them first."
        ),
    ] = None,
    scheme: Annotated[
        str | None, typer.Option(help="Of that quantization, e.g. portable_int8; if not given, the format's own.")
    ] = None,
    parity_data: Annotated[
        Path | None, typer.Option(metavar="FILE.npy|FOLDER", help="Images on which file and Keras model are compared.")
    ] = None,
    pixel_range: Annotated[
        tuple[float, float],
        typer.Option(metavar="LOW HIGH", help="What 0 and 255 of a folder's pictures are for this model."),
    ] = (0.0, 255.0),
    limit: Annotated[int, typer.Option(min=1, help="Most images taken of a file or folder.")] = 100,
    class_names: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names of the classes, one a line; carried in the file.")
    ] = None,
    preprocessing: Annotated[bool, typer.Option("--preprocessing", help="The file rescales images itself.")] = False,
    postprocessing: Annotated[
        bool, typer.Option("--postprocessing", help="A detector's file decodes and suppresses boxes itself.")
    ] = False,
    resize: Annotated[
        str | None,
        typer.Option(help="How the model's training resized images: stretch or letterbox; pictures are read so too."),
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Compare every layer on the parity data.")] = False,
    latency: Annotated[bool, typer.Option("--latency", help="Time the file on this machine.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Ends in .md, .json or .txt; if not given, OUT.report.json.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Export a Keras model and report on the file. Exits with 0 only if the report passes."""
    images_a_call = _batch(batch)
    report = report or beside(out, ".report.json")
    if report.suffix not in _REPORTS:
        raise typer.BadParameter(f"a report ends in {', '.join(_REPORTS)}, not {report.name!r}", param_hint="--report")
    if scheme is not None and calibration_data is None:
        raise typer.BadParameter("quantizing with a scheme needs --calibration-data", param_hint="--scheme")
    if resize not in (None, "stretch", "letterbox"):
        raise typer.BadParameter(f"{resize!r} is not stretch or letterbox", param_hint="--resize")
    if input_shape is not None and min(input_shape) < 1:
        raise typer.BadParameter("height, width and channels are at least 1", param_hint="--input-shape")
    with errors_in_one_line():
        must_be_there(model, calibration_data, parity_data, class_names)
        for written in (out, report):
            check_not_read(written, model, calibration_data, parity_data, class_names)
        can_be_written(report, picture=report.suffix == ".md")
        row = find_format(out, format)
        asked: dict[str, Any] = {
            "precision": precision,
            "target": target,
            "layout": layout,
            "batch": images_a_call,
            "preprocessing": preprocessing,
            "postprocessing": postprocessing,
            "input_shape": input_shape,
            "resize": resize,
            "layers": layers,
            "latency": latency,
        }
        check_asked(row, **asked, parity_data=parity_data)
        if calibration_data is not None:
            scheme = _scheme(row, precision, target, scheme)
        row.check_installed()
        check_writable(out, folder=not row.suffix)
        names = None if class_names is None else _names(class_names)
    with errors_in_one_line(), at_work(f"exporting {model}"), quiet_tensorflow():
        from resnet_backbones.export import export_model
        from resnet_backbones.quantization import quantize_post_training
        from resnet_backbones.saving import load_model

        loaded = load_model(model, compile=False)
        if calibration_data is not None and scheme is not None:
            _check_float(loaded)
            images = _images(calibration_data, loaded, input_shape, pixel_range, limit, resize)
            quantize_post_training(loaded, scheme, calibration_data=images)
        parity = None
        if parity_data is not None:
            parity = _images(parity_data, loaded, input_shape, pixel_range, limit, resize)
        done = export_model(loaded, out, format=format, class_names=names, parity_data=parity, **asked)
        done.save(report)
    if as_json:
        print_json({**done.to_dict(), "report": str(report)})
    else:
        text, heading, steps = str(done).partition("\nWhat to do\n")
        say(text + heading + with_options(steps))
        console().print(f"Report: {escape(str(report))}", soft_wrap=True)
    if not done.passed:
        raise typer.Exit(1)


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="Any ONNX file.")], as_json: AsJson = False
) -> None:
    """Check an ONNX file against TensorRT's rules for int8, node by node, without TensorRT. Exits with 1 on errors."""
    with errors_in_one_line():
        must_be_there(file)
        from resnet_backbones.export import tensorrt

        found = tensorrt.check(file)
    if as_json:
        print_json(found.to_dict())
    else:
        say(str(found))
    if not found.ok:
        raise typer.Exit(1)


def _batch(text: str) -> int | None:
    if text == "any":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"{text!r} is no number of images, and not 'any'", param_hint="--batch")
    return int(text)


def _images(
    path: Path,
    model: Any,
    input_shape: tuple[int, int, int] | None,
    pixel_range: tuple[float, float],
    limit: int,
    resize: str | None,
) -> Any:
    from resnet_backbones.cli.images import read_images
    from resnet_backbones.export.preprocess import fixed_signature

    if input_shape is not None:
        fixed_signature(model, input_shape)  # raises if the model takes others
    shape = (None, *input_shape) if input_shape else tuple(getattr(model, "input_shape", None) or ())
    if len(shape) != 4 or None in shape[1:]:
        raise ValueError(
            f"{model.name!r} takes {shape}; to export it, give the size of its images, --input-shape 512 512 3, or "
            "build it with one image input of fixed size."
        )
    return read_images(path, (shape[1], shape[2], shape[3]), pixel_range, limit, resize or "stretch")


def _names(path: Path) -> list[str]:
    try:
        names = [line.strip(" \t\r") for line in path.read_text(encoding="utf-8-sig").rstrip().split("\n")]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error}): write one name per line.") from error
    for number, name in enumerate(names, start=1):
        try:
            check_name("a class", name)
        except (TypeError, ValueError) as error:
            raise ValueError(f"line {number} of {path}: {error} Write one name per line.") from None
    return names


def _scheme(row: Format, precision: str | None, target: str | None, scheme: str | None) -> str:
    """What a float model is quantized with: as asked, else the scheme made for where the file runs."""
    holding = [one for one in row.precisions if one in (*QUANTIZED, UNCHANGED)]
    if not holding or precision not in (None, *holding):
        raise ValueError(
            f"--calibration-data is for {' and '.join(QUANTIZED)}, not for {precision or row.name}: leave it out."
        )
    if scheme is None:
        if row.target is not None and (target or row.target) == "tensorrt":
            return "gpu_int8"
        return "edge_int16x8" if precision == "int16x8" else "edge_int8"
    plugins.load()  # schemes of theirs
    try:
        made = precision_of(get_scheme(scheme).activation_bits)
    except KeyError as error:
        raise ValueError(error.args[0]) from None
    if (precision or made) not in (made, UNCHANGED) or not {made, UNCHANGED} & set(holding):
        raise ValueError(
            f"--scheme {scheme} makes {made} files, not {precision or ' or '.join(holding)}: leave --precision out, or "
            "give another --scheme."
        )
    return scheme


def _check_float(model: Any) -> None:
    from resnet_backbones.quantization import is_quantized

    if is_quantized(model):
        raise ValueError(f"{model.name!r} is quantized already, its ranges are known: leave --calibration-data out.")
