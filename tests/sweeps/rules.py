"""Sweep of the quantization rules: every triple of layer, activation, argument, neighbours, scheme and target.

A case passes if its file is in integers and 99 % of its values are within one quantization step of the quantized Keras
model; or it is refused when it is quantized. A step of 16 bits is hardly larger than what LiteRT's factors are off by:
of these, twice as many may be further off as the Keras model's own are when its values move by as much before they are
rounded (``quantization/rounding_noise.py``), and no fewer than 9 of 10 of those that are not; ``wanted`` says how many
are to be within a step.

Several cases of one scheme and target run as branches of one model; where that model does not pass, each half runs by
itself, down to single cases. Each result is a line of JSON, written as it is known; cases whose result is there are not
run again.

    python -m tests.sweeps.rules results.jsonl               # hours; TF_USE_LEGACY_KERAS=1 for tf_keras
    python -m tests.sweeps.rules results.jsonl --keras tf_keras --part 1/4
    python -m tests.sweeps.rules results.jsonl --only "Conv2D/default/relu/none/norm/edge_int8 litert"
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

WANTED = 0.99  # share of values within one step


def run(cases: list[dict[str, str]], size: int = 10) -> Iterator[dict[str, Any]]:
    """Runs cases in packs of one scheme and target; a result each, as known."""
    import tensorflow as tf

    from tests.sweeps.rule_cases import FLOAT_ACTIVATIONS, WAYS, keras

    tf.get_logger().setLevel("ERROR")
    cases = sorted(cases, key=lambda case: (list(WAYS).index(case["way"]), case["activation"] in FLOAT_ACTIVATIONS))
    packs: list[list[dict[str, str]]] = []
    for case in cases:
        if packs and packs[-1][0]["way"] == case["way"] and len(packs[-1]) < size:
            packs[-1].append(case)
        else:
            packs.append([case])
    for pack in packs:
        yield from _bisected(pack)
        keras.backend.clear_session()
        gc.collect()


def _bisected(pack: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
    from tests.sweeps.rule_cases import name_of

    result = attempt(pack)
    if len(pack) == 1:
        yield {"case": name_of(pack[0]), "how": "alone", **result}
    elif result["status"] == "passed":
        for case, within in zip(pack, result["within_one_step"], strict=True):
            yield {"case": name_of(case), "how": f"in a pack of {len(pack)}", **result, "within_one_step": [within]}
    else:
        middle = len(pack) // 2
        for half in (pack[:middle], pack[middle:]):
            yield from _bisected(half)


def attempt(cases: list[dict[str, str]]) -> dict[str, Any]:
    """Quantizes and exports one model of these cases.

    Returns:
        ``status``: ``"passed"``, ``"left in float"`` (as a warning says, and all else passes), ``"refused"`` (when
        quantized), ``"failed"``; ``why``; ``within_one_step``, a share each output.
    """
    import resnet_backbones as rb
    from tests.sweeps.rule_cases import WAYS, network, pictures

    scheme, suffix, options = WAYS[cases[0]["way"]]
    images = pictures()
    try:
        model = network(cases)
        model(images[:1])
    except Exception as error:  # Keras itself has no such network
        return {"status": "no network", "why": _words(error)}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            rb.quantize_post_training(model, scheme, calibration_data=images)
        except ValueError as error:
            return {"status": "refused", "why": _words(error)}
        except Exception as error:
            return {"status": "failed", "why": f"quantizing raised {_words(error)}"}
    warned = [str(one.message) for one in said if "in float" in str(one.message)]
    shares: list[float] = []
    with tempfile.TemporaryDirectory() as folder, _recording(shares):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                report = rb.export_model(model, Path(folder) / f"it{suffix}", parity_data=images, **options)
        except Exception as error:
            if os.environ.get("TB"):
                traceback.print_exc()
            return {"status": "failed", "why": f"export raised {_words(error)}"}
        rules = []
        if options.get("target") == "tensorrt":
            rules = [f"{one.rule}: {one.message}" for one in rb.export.tensorrt.check(report.path).of("error")]
    shares = shares[: len(cases)]
    why = list(report.failures)
    share = report.int8_mac_share + report.chosen_float_mac_share
    if warned:  # what a warning left in float is not in integers, and the report says so
        why = [text for text in why if "of the multiply-accumulates are in int8" not in text]
    elif share < 1 - 1e-9:
        why.append(f"{100 * share:.1f} % of the multiply-accumulates are in integers or left in float by choice")
    if suffix == ".tflite":
        chosen = {output for output, reason in report.float_reasons.items() if reason.chosen}
        loose = {name: text for name, text in report.float_operators.items() if name not in chosen}
        if loose and not warned:
            why += [f"in float: {text}" for text in loose.values()][:3]
    wanted = [WANTED] * len(shares)
    if "int16" in scheme and min(shares) < WANTED:
        wanted = [wanted_of(share) for share in within_a_step_of_itself(model, images)]
    if any(share < least for share, least in zip(shares, wanted, strict=True)):
        why.append(f"{100 * min(shares):.2f} % of the values within one step")
    status = "failed" if why else "left in float" if warned else "passed"
    return {
        "status": status,
        "why": "; ".join(dict.fromkeys([*why, *warned])),
        "within_one_step": shares,
        "wanted": min(wanted),
        "tensorrt_rules": sorted(set(rules)),
        "operators": {f"{kind} {dtype}": count for (kind, dtype), count in report.operators.items()}
        if len(cases) == 1
        else {},
    }


def wanted_of(share: float) -> float:
    """How many of a file's 16-bit values are to be within a step, if so many of the Keras model's own are."""
    return min(WANTED, max(1 - 2 * (1 - share), 0.9 * share))


def within_a_step_of_itself(model: Any, images: Any) -> list[float]:
    """Share of each output's values that stay within a step when values move before they are rounded, of three runs."""
    import numpy as np
    import tensorflow as tf

    from resnet_backbones.quantization.rounding_noise import rounding_noise

    def run():
        return [np.asarray(one, np.float64) for one in tf.nest.flatten(model(images, training=False))]

    expected, found = run(), []
    for seed in range(3):
        with rounding_noise(seed):
            found.append(run())
    steps = [_step_of(values) for values in expected]
    return [
        float(np.mean([np.abs(one[i] - values) <= steps[i] * 1.001 for one in found]))
        for i, values in enumerate(expected)
    ]


def _step_of(values: Any) -> float:
    """The size of a step of 16 bits of a symmetric range that just holds the values."""
    import numpy as np

    return float(np.abs(values).max()) / 32767 or 1.0


def _recording(shares: list[float]) -> Any:
    """Within it, the report's comparison of outputs notes the share of values within one step."""
    import numpy as np

    from resnet_backbones.export.report import verify

    compare = verify.output_parity

    def recorded(name, exported, expected, step, *rest):
        sizes = np.ptp(expected) / 255 or 1.0 if step is None else step
        shares.append(float(np.mean(np.abs(exported.astype(np.float64) - expected) <= sizes * 1.001 + 1e-9)))
        return compare(name, exported, expected, step, *rest)

    return mock.patch.object(verify, "output_parity", recorded)


def _words(error: Exception) -> str:
    text = str(error).strip().replace("\n", " ")
    return f"{type(error).__name__}: {text[:400]}"


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    """Case -> its last result."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {entry["case"]: entry for entry in map(json.loads, lines)}


def summary(results: dict[str, dict[str, Any]]) -> str:
    """How many passed, and what failed, by reason."""
    counts = Counter(entry["status"] for entry in results.values())
    packed = sum(entry["how"] != "alone" for entry in results.values())
    lines = [f"{len(results)} cases run, {packed} of them in packs: {dict(counts)}"]
    for status in ("refused", "failed"):
        reasons = Counter(entry["why"][:160] for entry in results.values() if entry["status"] == status)
        lines += [f"  {status} {count} x {why}" for why, count in reasons.most_common(30)]
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("results", type=Path, help="file of JSON lines, continued")
    parser.add_argument("--keras", choices=("keras", "tf_keras"), default=None)
    parser.add_argument("--part", default="1/1", help="i/n: the i-th of n parts")
    parser.add_argument("--only", nargs="*", help="names of cases; run whether their results are there or not")
    parser.add_argument("--failed", action="store_true", help="run again what failed")
    parser.add_argument("--pack", type=int, default=10, help="cases a model")
    arguments = parser.parse_args()
    if arguments.keras is not None:
        os.environ["TF_USE_LEGACY_KERAS"] = "1" if arguments.keras == "tf_keras" else "0"
    from tests.sweeps.rule_cases import all_cases, case_of, name_of

    known = read_results(arguments.results)
    if arguments.only:
        cases = [case_of(name) for name in arguments.only]
    elif arguments.failed:
        cases = [case_of(name) for name, entry in known.items() if entry["status"] == "failed"]
    else:
        cases = all_cases()
        random.Random(0).shuffle(cases)
        part, parts = map(int, arguments.part.split("/"))
        cases = [case for case in cases[part - 1 :: parts] if name_of(case) not in known]
    print(f"{len(cases)} cases to run", flush=True)
    with arguments.results.open("a") as file:
        for result in run(cases, arguments.pack):
            file.write(json.dumps(result) + "\n")
            file.flush()
            if result["status"] in ("failed", "no network") or arguments.only:
                print(result["case"], result["status"], result["why"][:300], flush=True)
    print(summary(read_results(arguments.results)))


if __name__ == "__main__":
    main()
    sys.exit(0)
