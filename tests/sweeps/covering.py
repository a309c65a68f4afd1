"""Covering arrays: few cases in which every combination of so many factors' values occurs."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product

Case = dict[str, str]


def covering_array(
    factors: Mapping[str, Sequence[str]], valid: Callable[[Case], bool], strength: int = 3, seed: int = 0
) -> list[Case]:
    """Cases that hold every combination of values that any valid case holds.

    Greedy: each case starts from a combination that is still missing; the other factors take, one by one, the value
    that brings most of those still missing.

    Args:
        factors: factor -> its values.
        valid: whether a case, a value for every factor, exists.
        strength: how many factors are combined.
        seed: of the order in which ties are resolved.

    Source: Cohen et al., "The AETG system", 1997, https://doi.org/10.1109/32.605761
    """
    names = list(factors)
    number = {(name, value): i for i, (name, value) in enumerate((n, v) for n in names for v in factors[n])}
    meaning = {i: pair for pair, i in number.items()}
    everything = set()
    for values in product(*factors.values()):
        if valid(dict(zip(names, values, strict=True))):
            everything.add(tuple(number[pair] for pair in zip(names, values, strict=True)))
    possible = {part for one in everything for size in range(1, strength + 1) for part in combinations(one, size)}
    missing = {part for part in possible if len(part) == strength}
    order = sorted(missing)
    random.Random(seed).shuffle(order)
    choose = random.Random(seed + 1)
    cases: list[tuple[int, ...]] = []

    def completed(start: tuple[int, ...]) -> tuple[int, ...] | None:
        chosen = {meaning[i][0]: i for i in start}
        rest = [name for name in names if name not in chosen]
        choose.shuffle(rest)
        for name in rest:
            best, most = [], -1
            for value in factors[name]:
                new = number[name, value]
                together = [tuple(sorted((*part, new))) for part in combinations(chosen.values(), strength - 1)]
                if not all(part in possible for part in together):
                    continue
                gained = sum(part in missing for part in together)
                if gained >= most:
                    best = [new] if gained > most else [*best, new]
                    most = gained
            if not best:
                return None
            chosen[name] = choose.choice(best)
        found = tuple(chosen[name] for name in names)
        return found if found in everything else None

    for start in order:
        if start not in missing:
            continue
        tries = [case for case in (completed(start) for _ in range(4)) if case is not None]
        while not tries:
            tries = [case for case in (completed(start) for _ in range(20)) if case is not None] or [
                next(one for one in everything if set(start) <= set(one))
            ]
        case = max(tries, key=lambda one: sum(part in missing for part in combinations(one, strength)))
        missing.difference_update(combinations(case, strength))
        cases.append(case)
    return [dict(meaning[i] for i in case) for case in cases]
