"""Names of residual blocks. Knows no Keras: a block may be registered by the path of its function."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from resnet_backbones._util.checks import MOST_TIMES
from resnet_backbones._util.text import check_name
from resnet_backbones.backbones import plugins
from resnet_backbones.errors import DuplicateNameError, UnknownNameError, did_you_mean


@dataclass(frozen=True)
class BlockEntry:
    """A residual block.

    Args:
        name: what ``ResNetSpec(block=name)`` says.
        build: ``(net, x, plan) -> tensor`` of ``plan.filters * expansion`` channels, or ``"module:function"``.
        expansion: output channels as a multiple of ``plan.filters``.
        owner: module (or plug-in) that registered it.
        preactivation: the block normalises and activates its input first (v2), so the stem and the sums are bare.
    """

    name: str
    build: Any
    expansion: int
    owner: str
    preactivation: bool = False


_RESNET = "resnet_backbones.backbones.resnet"
_blocks: dict[str, BlockEntry] = {
    name: BlockEntry(name, f"{_RESNET}.blocks:{name}", expansion, _RESNET, name.startswith("preact"))
    for name, expansion in (
        ("basic", 1),
        ("bottleneck", 4),
        ("preact_basic", 1),
        ("preact_bottleneck", 4),
        ("bottle2neck", 4),
    )
}
plugins.note_table(_blocks)


def register_block(
    name: str,
    build: Callable[..., Any] | str | None = None,
    *,
    expansion: int = 1,
    preactivation: bool = False,
    overwrite: bool = False,
) -> Any:
    """Registers a residual block by the name that ``ResNetSpec(block=name)`` uses; as a call or as a decorator.

    Args:
        name: the block's name.
        build: function ``(net, x, plan) -> tensor``. ``net`` makes layers as the spec asks
            (:class:`resnet_backbones.backbones.builder.Parts`), ``plan`` says where the block is
            (:class:`resnet_backbones.backbones.specs.BlockPlan`). Or ``"module:function"``, imported when first built.
            Left out, a decorator is returned.
        expansion: output channels of the block as a multiple of ``plan.filters``.
        preactivation: the block begins with ``net.preactivate(x, plan)`` and ends in a plain sum (ResNet v2). The
            network then ends in batch norm and activation, and its levels are given after the next block's.
        overwrite: takes the name away from its present owner.

    Returns:
        ``build``, or the decorator.

    Raises:
        DuplicateNameError: the name is taken.
        TypeError: ``build`` is neither a function nor a path.
        ValueError: ``expansion`` is no positive integer.

    Example:
        >>> @register_block("single")
        ... def single(net, x, plan):
        ...     y = net.conv(x, plan.filters, 3, plan.name, 1, strides=plan.strides, dilation=plan.first_dilation)
        ...     y = net.norm(y, plan.name, 1, zero=True)
        ...     return net.merge(y, net.shortcut(x, plan, plan.filters), plan)
        >>> spec = ResNetSpec(block="single", depths=(2, 2, 2, 2))
    """
    check_name("a block", name)
    if isinstance(expansion, bool) or not isinstance(expansion, int) or not 1 <= expansion <= MOST_TIMES:
        raise ValueError(f"expansion must be a whole number of 1 to {MOST_TIMES}; got {expansion!r}.")
    owner = plugins.current() or sys._getframe(1).f_globals.get("__name__", "unknown")

    def register(build: Any) -> Any:
        if not isinstance(build, str) and not callable(build):
            raise TypeError(f"register_block({name!r}) takes a function or 'module:function'; got {build!r}.")
        with plugins.lock:
            if name in _blocks and not overwrite:
                raise DuplicateNameError(
                    f"block {name!r} is already registered by {_blocks[name].owner}. Choose another name, or pass "
                    "overwrite=True to replace it."
                )
            _blocks[name] = BlockEntry(name, build, expansion, owner, preactivation)
        return build

    return register if build is None else register(build)


def find_block(name: str, *, load: bool = True) -> BlockEntry:
    """The block registered by ``name``.

    Args:
        name: the block's name.
        load: imports the function of a block registered by path.

    Raises:
        UnknownNameError: nobody registered it.
    """
    if name not in _blocks:
        plugins.load()
    with plugins.lock:
        entry = _blocks.get(name)
    if entry is None:
        raise UnknownNameError(
            f"no block is called {name!r}.{did_you_mean(name, list(_blocks))} Registered: {', '.join(sorted(_blocks))} "
            f"(register_block adds one). {plugins.summary()}"
        )
    if isinstance(entry.build, str) and load:
        module, _, function = entry.build.partition(":")
        return replace(entry, build=getattr(importlib.import_module(module), function))
    return entry
