"""Runs command lines one after the other, each with standard streams of its own: TensorFlow is imported once."""

import json
import os
import pty
import sys

import resnet_backbones as rb
from resnet_backbones.cli import app as cli


def run(line, stream):
    """Exit code, standard output if somebody reads it, and standard error unless that is the same terminal."""
    read, write = pty.openpty() if stream == "terminal" else os.pipe()
    errors = os.open("errors.txt", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.dup2(write if stream == "terminal" else errors, 2)
    os.dup2(os.open("/dev/full", os.O_WRONLY) if stream == "full" else write, 1)
    os.close(write)
    if stream == "nobody":
        os.close(read)
    encoding = "ascii" if stream == "ascii" else "utf-8"
    sys.stdout = sys.__stdout__ = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", encoding=encoding, closefd=False, buffering=1)  # noqa: SIM115
    sys.argv = ["resnet-backbones", *line.split()]
    try:
        code = cli.main() or 0
    except SystemExit as leaving:
        code = leaving.code or 0
    if stream == "terminal":
        os.set_blocking(read, False)
    said = os.read(read, 1 << 16).decode() if stream in ("ascii", "terminal") else ""
    return code, said, open("errors.txt").read()


if __name__ == "__main__":
    answers = os.dup(1)
    os.environ["NO_COLOR"] = "1"
    rb.register_backbone("tiny_net")(lambda: rb.ResNetSpec(block="basic", depths=(1,), widths=(4,), stem_width=4))
    backbone = rb.create_backbone("tiny_net", input_shape=(32, 32, 3))
    backbone.save("b.keras")
    rb.weights.save(backbone, "b.npz")
    for line, stream in json.load(sys.stdin):
        os.write(answers, json.dumps([line, stream, *run(line, stream)]).encode() + b"\n")
