from collections.abc import Callable
from typing import Any, ClassVar

class Optimizer:
    SGD: ClassVar[Optimizer]
    ADAM: ClassVar[Optimizer]
    ADAMAX: ClassVar[Optimizer]

class Step:
    def __init__(self, optimizer: Optimizer) -> None: ...
    def __call__(
        self,
        param_groups: list[dict[str, Any]],
        state: dict[Any, Any],
        inverse_scale: float,
        step_unserved: Callable[[list[tuple[int, int, str]]], None],
    ) -> None: ...

def check_param_group(optimizer: Optimizer, param_group: dict[str, Any], index: int) -> None: ...

compiler: str

def cpu_capability() -> str: ...
def available_cpu_capabilities() -> list[str]: ...
