"""One line of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass

from resnet_backbones.backbones.spec import BackboneSpec


@dataclass(frozen=True)
class Variant:
    """A backbone of the catalogue: its spec and what people want to know of it.

    Args:
        spec: what is built.
        description: one line.
        family: the family it is listed under, e.g. ``"resnext"``.
        paper: authors, year and link: ``"He et al. 2015, https://arxiv.org/abs/1512.03385"``.
        input_size: height and width, in pixels, of the images it was published for.
        preprocessing: how published weights want their images: a name of ``specs.PREPROCESSINGS``;
            ``None`` where there are none.
        aliases: its other names.
    """

    spec: BackboneSpec
    description: str
    family: str
    paper: str
    input_size: int = 224
    preprocessing: str | None = "imagenet"
    aliases: tuple[str, ...] = ()
