"""The catalogue as text: rows of the tables that the command line and docs/catalogue.md show. Knows no Keras.

python -m resnet_backbones.backbones.catalogue_tables > docs/catalogue.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from resnet_backbones.backbones.info import BackboneInfo, backbone_info, distinct_architectures, list_backbones, natural
from resnet_backbones.backbones.registry import OWNER, all_entries

UNKNOWN = "?"
_INT8 = {True: "yes", False: "no", None: UNKNOWN}

_HEAD = """# Catalogue

Every backbone of the library, by family. This page is generated from the registry: run `make catalogue` after a change;
a test compares the two. On the command line: `resnet-backbones list` and `resnet-backbones info resnet50`.

- **Parameters** in millions, trainable ones, without a classifier.
- **GMACs**: 10⁹ multiply-accumulates of the convolutions for one image of the **input** size, in pixels.
- **Channels** of the levels P1, P2 ... with strides 2, 4 ...; where a stride is another, it stands behind a slash.
- **int8**: whether every operator has an int8 form in LiteRT.
- **Weights**: `hf-hub:` names load with `create_backbone(name, weights="hf-hub:...")`; the others come from the library
  named (`weights.from_torchvision`, `from_keras_applications`, `from_keras_hub`). `resnet-backbones info` lists all.

"""


def millions(parameters: int | None) -> str:
    """``23508032`` as ``"23.51"``."""
    return UNKNOWN if parameters is None else f"{parameters / 1e6:.2f}"


def gmacs(number: float | None) -> str:
    """``4.0872`` as ``"4.09"``, ``0.0413`` as ``"0.041"``."""
    return UNKNOWN if number is None else f"{number:.2f}" if number >= 0.1 else f"{number:.3f}"


def int8(quantizable: bool | None) -> str:
    """``"yes"``, ``"no"``, or ``"?"`` where it is not known before building."""
    return _INT8[quantizable]


def channels(info: BackboneInfo, levels: Iterable[str] | None = None) -> str:
    """``"64 · 256 · 512"``; a stride that is not 2 to the level's number stands behind a slash."""
    chosen = info.levels if levels is None else [level for level in levels if level in info.levels]
    return " · ".join(_channels(level, *info.levels[level]) for level in chosen) or UNKNOWN


def _channels(level: str, number: int, stride: int) -> str:
    return str(number) if stride == 2 ** int(level[1:]) else f"{number}/{stride}"


def by_family(infos: Iterable[BackboneInfo]) -> dict[str, list[BackboneInfo]]:
    """Family -> its backbones in natural order; families in the order they first appear."""
    families: dict[str, list[BackboneInfo]] = {}
    for info in infos:
        families.setdefault(info.family, []).append(info)
    return {family: sorted(members, key=lambda info: natural(info.name)) for family, members in families.items()}


def own_infos() -> list[BackboneInfo]:
    """The library's own backbones, in the order of the catalogue: plug-ins' are not here."""
    return [backbone_info(entry.name) for entry in all_entries() if entry.owner == OWNER]


def markdown() -> str:
    """docs/catalogue.md."""
    infos = own_infos()
    families = by_family(infos)
    lines = [
        f"{len(infos)} names in {len(families)} families, {distinct_architectures(infos)} distinct architectures: "
        "aliases do not count, nor do names that differ only in settings (activation, batch norm, padding, "
        "preprocessing) or switches (where a bottleneck strides, biases)."
    ]
    for family, members in families.items():
        lines += ["", f"## {family}", "", *_papers(members), "", *_table(members)]
    return _HEAD + "\n".join(lines) + "\n"


def _papers(members: list[BackboneInfo]) -> list[str]:
    """The family's papers, each once."""
    return list(dict.fromkeys(f"- {info.paper}" for info in members if info.paper))


def _table(members: list[BackboneInfo]) -> list[str]:
    columns = ("name", "what", "parameters", "GMACs", "input", "channels", "int8", "weights")
    rows = [
        (
            f"`{info.name}`" + "".join(f", `{alias}`" for alias in info.aliases),
            info.description,
            millions(info.parameters),
            gmacs(info.gmacs),
            str(info.input_size),
            channels(info),
            int8(info.quantizable),
            _weights(info.weights),
        )
        for info in members
    ]
    rule = ("---", "---", "---:", "---:", "---:", "---", "---", "---")
    return ["| " + " | ".join(cells) + " |" for cells in (columns, rule, *rows)]


def _weights(sources: tuple[str, ...]) -> str:
    """The first source of each library, and how many more there are."""
    first: dict[str, str] = {}
    for source in sources:
        first.setdefault(source.partition(":")[0], source)
    more = len(sources) - len(first)
    return "<br>".join(f"`{source}`" for source in first.values()) + (f"<br>and {more} more" if more else "")


def main() -> None:
    """Prints docs/catalogue.md."""
    list_backbones()  # a plug-in that breaks says so before anything is printed
    sys.stdout.write(markdown())


if __name__ == "__main__":
    main()
