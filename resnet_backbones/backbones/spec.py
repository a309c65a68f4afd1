"""What every spec has, whatever its family. Knows no Keras."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from resnet_backbones._util.checks import MOST_BLOCKS, MOST_STAGES, at_most, in_range, one_of
from resnet_backbones.backbones import plugins
from resnet_backbones.backbones.spec_values import (
    KernelRegularizer,
    Preprocessing,
    as_preprocessing,
    as_regularizer,
    plain,
)
from resnet_backbones.errors import UnknownNameError, did_you_mean

OUTPUT_STRIDES = (8, 16, 32)
PADDINGS = ("symmetric", "same")

#: Activations that LiteRT computes in int8, alone or fused into the operator before them.
INT8_ACTIVATIONS = frozenset(
    {"relu", "relu6", "leaky_relu", "leaky_relu_001", "silu", "swish", "gelu", "hard_swish", "hard_silu"}
    | {"sigmoid", "softmax", "tanh", "hard_sigmoid"}
)
#: Every name of ``keras.activations``, the library's own among them. Functions that somebody registers are called
#: ``"package>name"``.
ACTIVATIONS = INT8_ACTIVATIONS | frozenset(
    {"celu", "elu", "exponential", "glu", "hard_shrink", "hard_tanh", "linear", "log_sigmoid", "log_softmax", "mish"}
    | {"selu", "soft_shrink", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus"}
    | {"tanh_shrink", "threshold"}
)

_Spec = TypeVar("_Spec", bound="BackboneSpec")


@dataclass(frozen=True)
class BlockPlan:
    """Where one residual block is and what it must do there.

    Args:
        name: prefix of its layers' names, e.g. ``"stage3_block2"``.
        filters: the stage's width, before the block's own expansion.
        strides: 2 where the block halves height and width, else 1.
        dilation: dilation of its 3x3 convolutions.
        first_dilation: dilation of the first of them (that of the block before, as in timm).
        drop_path_rate: probability that training skips the residual branch for a sample.
        stage: number of its stage, from 1.
        block: its number within the stage, from 1.
    """

    name: str
    filters: int
    strides: int = 1
    dilation: int = 1
    first_dilation: int = 1
    drop_path_rate: float = 0.0
    stage: int = 1
    block: int = 1


def renamed(layer: str, rest: Mapping[str, str], in_block: Callable[[int, int, str], str]) -> str:
    """The name that another library has for a layer.

    Args:
        layer: our name of it, e.g. ``"stage3_block2_conv1"``.
        rest: our name -> theirs, of layers outside blocks; others keep ours.
        in_block: stage, block and our name within it (``3, 2, "conv1"``) -> their name.
    """
    if match := _IN_BLOCK.fullmatch(layer):
        return in_block(int(match[1]), int(match[2]), match[3])
    return rest.get(layer, layer)


_IN_BLOCK = re.compile(r"stage(\d+)_block(\d+)_(.+)")


@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """What the specs of all families share. A family is a frozen dataclass that inherits and says how it is built.

    A subclass sets ``family``, its name in saved files, and ``network``, the function ``(net, x) -> (levels, x)`` that
    builds it (or ``"module:function"``). It is known from then on: ``spec_from_dict`` and saved models find it.

    Args:
        activation: any activation by name: ``"relu"``, ``"silu"``, ``"hard_swish"`` ...
        bn_momentum: share of the old batch-norm statistics kept each step.
        bn_epsilon: added to the variance in batch norm.
        zero_init_last: starts each block as its shortcut: the last batch norm's scale is 0 at first
            (Goyal et al. 2017, https://arxiv.org/abs/1706.02677).
        drop_path_rate: stochastic depth of the last block, 0 <= rate < 1; it grows linearly from 0
            (Huang et al. 2016, https://arxiv.org/abs/1603.09382).
        output_stride: 8, 16 or 32: beyond it, stages dilate instead of striding.
        padding: how strided layers are padded: ``"symmetric"``, equally on all sides, as torch does, or ``"same"``, as
            TensorFlow does: for even sizes it pads right and below only.
        preprocessing: ``None``; one of ``PREPROCESSINGS`` by name; a ``Preprocessing`` or a mapping with its fields.
        kernel_regularizer: penalty on every convolution's kernel, depthwise ones included: ``None``; a number, the
            factor of L2; ``{"l1": ..., "l2": ...}``; or Keras' ``L1``, ``L2`` or ``L1L2``.
    """

    family: ClassVar[str] = ""
    network: ClassVar[Any] = ""

    activation: str = "relu"
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5
    zero_init_last: bool = True
    drop_path_rate: float = 0.0
    output_stride: int = 32
    padding: str = "symmetric"
    preprocessing: Preprocessing | None = None
    kernel_regularizer: KernelRegularizer | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.family:
            _SPECS[cls.family] = cls

    def __post_init__(self) -> None:
        object.__setattr__(self, "preprocessing", as_preprocessing(self.preprocessing))
        object.__setattr__(self, "kernel_regularizer", as_regularizer(self.kernel_regularizer))
        self._check_names("activation")
        self._check_flags("zero_init_last")
        one_of("output_stride", self.output_stride, OUTPUT_STRIDES)
        one_of("padding", self.padding, PADDINGS)
        in_range("drop_path_rate", self.drop_path_rate, 0.0, 1.0)
        in_range("bn_momentum", self.bn_momentum, 0.0, 1.0)
        in_range("bn_epsilon", self.bn_epsilon, 0.0, 1.0)

    def _check_names(self, *fields: str) -> None:
        for field in fields:
            value = getattr(self, field)
            if not isinstance(value, str) or not value:
                default = type(self).__dataclass_fields__[field].default
                raise TypeError(f"{field} must be a name, e.g. {default!r}; got {value!r}.")

    def _check_flags(self, *fields: str) -> None:
        for field in fields:
            if not isinstance(getattr(self, field), bool):
                raise TypeError(f"{field} must be True or False; got {getattr(self, field)!r}.")

    def plan_stages(
        self,
        depths: Sequence[int],
        widths: Sequence[int],
        strides: Sequence[int],
        *,
        start_stride: int,
        stride_in_last: bool = False,
    ) -> list[list[BlockPlan]]:
        """What each block of each stage does: strides, and dilations where ``output_stride`` is reached, as in timm.

        Args:
            depths: blocks of each stage.
            widths: width of each stage.
            strides: stride of each stage, in its first block.
            start_stride: stride of what enters the first stage.
            stride_in_last: a stage strides in its last block.
        """
        at_most("the number of stages", len(depths), MOST_STAGES)
        at_most("the number of blocks", sum(depths), MOST_BLOCKS)
        stages: list[list[BlockPlan]] = []
        last_block = sum(depths) - 1
        net_stride, dilation, first_dilation, done = start_stride, 1, 1, 0
        for stage, (depth, filters, stage_stride) in enumerate(zip(depths, widths, strides, strict=True), start=1):
            blocks = []
            for block in range(1, depth + 1):
                stride = stage_stride if block == (depth if stride_in_last else 1) else 1
                if net_stride * stride > self.output_stride:
                    dilation, stride = dilation * stride, 1
                net_stride *= stride
                rate = self.drop_path_rate * done / last_block if last_block else 0.0
                name = f"stage{stage}_block{block}"
                blocks.append(BlockPlan(name, filters, stride, dilation, first_dilation, rate, stage, block))
                first_dilation, done = dilation, done + 1
            stages.append(blocks)
        return stages

    def replace(self: _Spec, **changes: Any) -> _Spec:
        """A copy with ``changes``; an unknown field raises ``TypeError`` naming the nearest ones."""
        self._check_fields(changes)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON-able data, ``{"family": "resnet", ...}``."""
        return {"family": self.family, **plain(dataclasses.asdict(self))}

    @classmethod
    def from_dict(cls: type[_Spec], data: Mapping[str, Any]) -> _Spec:
        """The spec that :meth:`to_dict` wrote; fields left out keep their defaults."""
        fields = dict(data)
        family = fields.pop("family", cls.family)
        if family != cls.family:
            raise ValueError(f"a spec of family {family!r} is not a {cls.__name__} ({cls.family!r}).")
        cls._check_fields(fields)
        return cls(**fields)

    @classmethod
    def _check_fields(cls, fields: Mapping[str, Any]) -> None:
        known = cls.__dataclass_fields__
        for name in fields:
            if name not in known:
                hint = did_you_mean(name, known)
                listed = ", ".join(field.name for field in dataclasses.fields(cls))
                raise TypeError(f"{cls.__name__} has no field {name!r}.{hint} Fields: {listed}.")


_SPECS: dict[str, type[BackboneSpec]] = {}
plugins.note_table(_SPECS)


def spec_from_dict(data: Mapping[str, Any]) -> BackboneSpec:
    """The spec of any family that ``to_dict`` wrote.

    Raises:
        UnknownNameError: no family has that name.
    """
    family = data.get("family", "resnet")
    if family not in _SPECS:
        raise UnknownNameError(
            f"no family of backbones is called {family!r}.{did_you_mean(str(family), _SPECS)} Known: "
            f"{', '.join(sorted(_SPECS))}. If it comes from another package, import that package first."
        )
    return _SPECS[family].from_dict(data)


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
