"""How many bytes an operation must move, and in which accesses."""

from collections import Counter

from lerac_fast._native.extension import extension

ITEM_SIZES = {"float": 4, "double": 8, "BFloat16": 2, "Half": 2}  # bytes of an element, by the names in csrc
NAMES = {"float": "float32", "double": "float64", "BFloat16": "bfloat16", "Half": "float16"}
WIDEST = 16


def accesses(count: int, item_size: int, at_once: int | None = None) -> Counter[int]:
    """Those that `count` elements take, where as many as fill 128 bits, or `at_once`, are accessed together."""
    width = min(WIDEST, (at_once or count) * item_size)
    return Counter({width: count * item_size // width})


def step_items(rule: str, element: int, state: int, unscales: bool) -> tuple[list[int], list[int]]:
    """What an optimizer step reads and writes for one element: bytes. PEERS.md, section 2."""
    states = [state] * extension.RULES[rule]
    return [element, element, *states], [element, *states, *[element] * unscales]


def total(counters: list[Counter[int]]) -> Counter[int]:
    return sum(counters, Counter[int]())
