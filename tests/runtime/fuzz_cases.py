"""Damaged files, each from a whole one: cut short, bits flipped, words or metadata forged."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import random
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_backbones.runtime.files import onnx as onnx_file
from resnet_backbones.runtime.files import tflite

WILD_WORDS = (0, 1, 2, 3, 255, 65536, -1, -2, 2**31 - 1, -(2**31))
WILD_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, -1e308, 2**31, 2**63, 10**400, 0.5, "", "x", "x" * 5000, [], {}, [0] * 50, [[[]]],
    [1e30] * 3, {"a": 1}, "../../etc/passwd", "xywh", "NCHW", 65536, [65536] * 16,
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One damaged file.

    Attributes:
        target: what was damaged: ``"tflite"``, ``"onnx"`` or ``"metadata"``.
        damage: ``"cut"``, ``"flip"``, ``"word"`` or ``"forge"``.
        matching: whether the recorded hashes and checksums were made to match again.
        name: of the whole file.
        data: of the damaged one.
    """

    target: str
    damage: str
    matching: bool
    name: str
    data: bytes


def make_case(number: int, files: dict[str, bytes], seed: int) -> Case:
    """The ``number``-th case; the same arguments give the same file.

    Args:
        number: of the case: targets take turns, and within each so do hashes that match and hashes that do not.
        files: whole files by name.
        seed: of the random numbers.
    """
    rng = random.Random(f"{seed}/{number}")
    target = ("tflite", "onnx", "metadata")[number % 3]
    matching = bool(number // 3 % 2)
    name = rng.choice([name for name in sorted(files) if target == "metadata" or name.endswith(target)])
    onnx = name.endswith(".onnx")
    content, text = split(files[name], onnx)
    if target != "metadata":
        damage = rng.choice(["cut", "flip", "flip", "word"])
        broken = damaged(content, damage, rng)
        if matching:
            data = joined(broken, with_hash(text, broken), onnx)
        elif damage == "cut":
            data = files[name][: rng.randrange(len(files[name]))]
        else:
            data = broken + files[name][len(content) :]
        return Case(target, damage, matching, name, data)
    if not matching:
        damage = rng.choice(["cut", "flip", "flip"])
        return Case(target, damage, matching, name, content + damaged(files[name][len(content) :], damage, rng))
    damage = rng.choice(["cut", "flip", "forge", "forge"])
    broken = forged(text, rng) if damage == "forge" else damaged(text, damage, rng)
    return Case(target, damage, matching, name, joined(content, broken, onnx))


def damaged(data: bytes, damage: str, rng: random.Random) -> bytes:
    """``data`` cut short, with one to eight bits flipped, or with a 32-bit word set to something wild."""
    if damage == "cut":
        return data[: rng.randrange(len(data))]
    broken = bytearray(data)
    if damage == "word":
        at = rng.randrange(len(data) // 4) * 4
        words = [word.to_bytes(4, "little", signed=True) for word in (*WILD_WORDS, rng.randrange(2**31))]
        broken[at : at + 4] = rng.choice([word for word in words if word != broken[at : at + 4]])
        return bytes(broken)
    for _ in range(rng.choice([1, 1, 2, 4, 8])):
        bit = rng.randrange(len(data) * 8)
        broken[bit // 8] ^= 1 << bit % 8
    return bytes(broken)


def forged(text: bytes, rng: random.Random) -> bytes:
    """Metadata with a value taken away, or replaced by something of another type or size."""
    metadata = json.loads(text)
    for _ in range(rng.choice([1, 1, 2])):
        places = list(_places(metadata))
        holder, key = rng.choice(places)
        if isinstance(holder, dict) and rng.random() < 0.2:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(rng.choice(WILD_VALUES))
    return json.dumps(metadata).encode()


def _places(value: Any):
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        if key not in ("format", "version", "sha256"):
            yield value, key
            yield from _places(value[key])


def split(data: bytes, onnx: bool) -> tuple[bytes, bytes]:
    """Content and metadata text of a whole file."""
    if onnx:
        text, _ = onnx_file.read(memoryview(data))
        return onnx_file.content_of(data), text or b""
    text, end = tflite.read(io.BytesIO(data), len(data))
    return data[:end], text or b""


def with_hash(text: bytes, content: bytes) -> bytes:
    """The text with the hash of another content."""
    return json.dumps({**json.loads(text), "sha256": hashlib.sha256(content).hexdigest()}).encode()


def joined(content: bytes, text: bytes, onnx: bool) -> bytes:
    """Content and metadata, checksums right, whatever they hold."""
    if onnx:
        pairs = (onnx_file.KEY, text), (onnx_file.CHECKSUM_KEY, hashlib.sha256(text).hexdigest().encode())
        entries = [onnx_file.encode(1, key.encode()) + onnx_file.encode(2, value) for key, value in pairs]
        return content + b"".join(onnx_file.encode(onnx_file.PROPERTIES, entry) for entry in entries)
    file = io.BytesIO()
    file.write(content)
    with zipfile.ZipFile(file, "a") as members:
        members.writestr(zipfile.ZipInfo(tflite.MEMBER), text, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def read_files(folder: Path) -> dict[str, bytes]:
    """The whole files of a folder by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
