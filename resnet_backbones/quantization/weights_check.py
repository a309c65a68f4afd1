"""Whether a file of weights fits a quantized model: it says of itself what was quantized in the model it came from."""

from __future__ import annotations

from typing import Any

# What decides how many ranges there are, what they belong to, and how they are used.
_PARTS = {
    "sites": "activation ranges",
    "kernels": "calls with quantized kernels",
    "batch_norms": "batch norms",
}


def weights_description(quantization: dict[str, Any]) -> dict[str, Any]:
    """What a file of weights says of the quantization it was saved with.

    Args:
        quantization: what ``quantization_of(model)`` returns.
    """
    return {"scheme": quantization.get("scheme", {}).get("name"), **{part: quantization.get(part) for part in _PARTS}}


def check_description(model: Any, found: dict[str, Any] | None) -> None:
    """Refuses weights of another quantization.

    Args:
        model: the quantized model that weights are loaded into.
        found: the description in the file; ``None`` when it has none.

    Raises:
        ValueError: the file is of a float model, or of one that was quantized differently.
    """
    if found is None:
        raise ValueError(
            f"Model {model.name!r} is quantized, but the file holds weights of a float model, without ranges. Load "
            "float weights first, then call quantize_aware(model); or strip_quantization(model), load, quantize again."
        )
    wanted = plain(weights_description(model.__dict__["_quantization"]))
    different = [_difference(part, found.get(part), wanted[part]) for part in _PARTS if found.get(part) != wanted[part]]
    if different:
        raise ValueError(
            f"The weights were saved from a model quantized with {found.get('scheme')!r}; model {model.name!r} is "
            f"quantized with {wanted['scheme']!r}, and differently: {'; '.join(different)}. Quantize a fresh float "
            "model with the scheme, exclude and override of the one they were saved from, then load them."
        )


def _difference(part: str, found: Any, wanted: Any) -> str:
    counts = len(found or ()), len(wanted or ())
    if counts[0] != counts[1]:
        return f"{counts[0]} {_PARTS[part]} in the file, {counts[1]} in the model"
    return f"as many {_PARTS[part]}, but with other places or bits"


def plain(value: Any) -> Any:
    """The value as JSON gives it back: tuples become lists."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value
