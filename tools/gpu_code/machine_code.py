"""A kernel's machine code as a graph of instructions: where control and thread numbers flow.

What the readers of the two assemblers (sass.py, amdgcn.py) have in common. Instructions are known by their index.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal


@dataclass(frozen=True)
class Access:
    """One access of a thread to memory."""

    kind: Literal["load", "store"]
    bytes: int
    address: frozenset[str]  # registers


@dataclass
class Instruction:
    opcode: str
    operands: str
    defines: frozenset[str] = frozenset()
    uses: frozenset[str] = frozenset()
    is_conditional: bool = False  # keeps what it defines where its condition does not hold
    depends_on_thread: bool = False  # gives the number of the thread
    access: Access | None = None  # to global memory
    is_local: bool = False  # accesses memory of the thread itself: spilled registers
    next: list[int] = field(default_factory=list)
    calls: int | None = None  # a subroutine, which comes back to `next`
    returns: bool = False


@dataclass
class Kernel:
    """A compiled kernel: its resources and its instructions."""

    name: str
    registers: int
    stack: int  # bytes of a thread
    shared: int  # bytes of a block
    code: list[Instruction]
    scalar_spills: int = 0  # AMD: scalar registers that are kept in lanes of a vector register, not in memory

    @cached_property
    def _before(self) -> list[list[int]]:
        before: list[list[int]] = [[] for _ in self.code]
        for i, instruction in enumerate(self.code):
            for n in instruction.next:
                before[n].append(i)
        return before

    def after(self, start: Iterable[int]) -> set[int]:
        return _reachable(start, [instruction.next for instruction in self.code])

    def before(self, start: Iterable[int]) -> set[int]:
        return _reachable(start, self._before)

    @cached_property
    def _dominators(self) -> list[int]:
        """What every thread that comes to an instruction has run: bit masks."""
        everything = (1 << len(self.code)) - 1
        dominators = [everything] * len(self.code)
        reached = sorted(self.after([0]))
        changed = True
        while changed:
            changed = False
            for i in reached:
                mask = everything if i > 0 else 0
                for n in self._before[i]:
                    mask &= dominators[n]
                mask |= 1 << i
                if mask != dominators[i]:
                    dominators[i], changed = mask, True
        return dominators

    def sure_path(self, i: int) -> set[int]:
        """What every thread that runs instruction `i` runs before it, or has run it before."""
        dominators = self._dominators
        before = {n for n in range(len(self.code)) if dominators[i] >> n & 1}
        return before | {n for n in self.after([i]) if dominators[n] >> i & 1}

    def fewest_instructions(self, path: set[int]) -> int:
        """Of a thread's way through the first access of `path`, once round its loop if it is in one, without
        subroutines, if there is such a way: they serve rare numbers.
        """
        through = min(i for i in self.accesses if i in path)
        with_calls = [x.next for x in self.code]
        without_calls = [[] if x.calls is not None else x.next for x in self.code]
        return self._shortest(through, without_calls) or self._shortest(through, with_calls)

    def _shortest(self, through: int, following: list[list[int]]) -> int:
        from_start, from_here = _distances([0], following), _distances(following[through], following)
        if self.loop_of(through):
            return min((from_here[i] + 2 for i in self._before[through] if i in from_here), default=0)
        ends = [i for i, x in enumerate(self.code) if not x.next and i in from_here]
        if through not in from_start or not ends:
            return 0
        return from_start[through] + 2 + min(from_here[end] for end in ends)

    def loop_of(self, i: int) -> set[int]:
        """The loop around instruction `i`, the outermost one; empty if there is none."""
        after = self.after(self.code[i].next)
        return after & self.before([i]) if i in after else set()

    @cached_property
    def _bits(self) -> dict[str, int]:
        names = sorted({name for instruction in self.code for name in instruction.defines | instruction.uses})
        return {name: 1 << bit for bit, name in enumerate(names)}

    @cached_property
    def _returns(self) -> dict[int, list[tuple[int, int]]]:
        """Where each return leads to, and the registers that its subroutine defines: a bit mask."""
        returns: dict[int, list[tuple[int, int]]] = {}
        routines: dict[int, set[int]] = {}
        for instruction in self.code:
            if instruction.calls is None:
                continue
            routine = routines.setdefault(instruction.calls, self.after([instruction.calls]))
            for i in routine:
                if self.code[i].returns:
                    defined = {name for n in routine for name in self.code[n].defines}
                    mask = sum(self._bits[name] for name in defined)
                    returns.setdefault(i, []).extend((n, mask) for n in instruction.next)
        return returns

    @cached_property
    def _varying(self) -> list[int]:
        """The registers that differ from thread to thread, before each instruction: bit masks."""
        bits, returns = self._bits, self._returns
        masks = [(sum(bits[name] for name in x.defines), sum(bits[name] for name in x.uses)) for x in self.code]
        everything = sum(bits.values())
        before, seen, waiting = [0] * len(self.code), [False] * len(self.code), [0]
        before[0] = bits.get("v0", 0)  # where AMD's GPUs put the number of the thread
        while waiting:
            i = waiting.pop()
            seen[i] = True
            (defines, uses), instruction, state = masks[i], self.code[i], before[i]
            if instruction.depends_on_thread or state & uses:
                state |= defines
            elif not instruction.is_conditional:
                state &= ~defines
            following = [(n, everything) for n in instruction.next]
            if instruction.calls is not None:
                following.append((instruction.calls, everything))
            for n, mask in (*following, *returns.get(i, ())):
                if state & mask & ~before[n] or not seen[n]:
                    before[n] |= state & mask
                    waiting.append(n)
        return before

    def varies(self, i: int) -> bool:
        """Whether threads access different addresses in instruction `i`."""
        access = self.code[i].access
        varying = self._varying[i]
        return access is not None and any(varying & self._bits[name] for name in access.address)

    @cached_property
    def accesses(self) -> dict[int, Access]:
        """Those in which each thread has its own address: the tensors' elements, not what is the same for all."""
        return {i: x.access for i, x in enumerate(self.code) if x.access is not None and self.varies(i)}

    @property
    def everything(self) -> set[int]:
        return set(range(len(self.code)))

    @property
    def loops(self) -> list[set[int]]:
        """Those with accesses."""
        found: list[set[int]] = []
        for i in self.accesses:
            if not any(i in loop for loop in found) and (loop := self.loop_of(i)):
                found.append(loop)
        return found

    @property
    def local_accesses(self) -> int:
        return sum(instruction.is_local for instruction in self.code)

    def traffic(self, path: set[int]) -> "Traffic":
        loads, stores = Counter[int](), Counter[int]()
        for i, access in self.accesses.items():
            if i in path:
                (loads if access.kind == "load" else stores)[access.bytes] += 1
        return Traffic(loads, stores)


@dataclass(frozen=True)
class Traffic:
    """Accesses of a thread on one path by their bytes."""

    loads: Counter[int]
    stores: Counter[int]

    @property
    def bytes(self) -> int:
        return sum(width * count for counter in (self.loads, self.stores) for width, count in counter.items())


def _distances(start: Iterable[int], edges: list[list[int]]) -> dict[int, int]:
    """Edges from `start` to all that can be reached."""
    distances = dict.fromkeys(start, 0)
    waiting = deque(distances)
    while waiting:
        i = waiting.popleft()
        for n in edges[i]:
            if n not in distances:
                distances[n] = distances[i] + 1
                waiting.append(n)
    return distances


def _reachable(start: Iterable[int], edges: list[list[int]]) -> set[int]:
    found = set(start)
    waiting = list(found)
    while waiting:
        for n in edges[waiting.pop()]:
            if n not in found:
                found.add(n)
                waiting.append(n)
    return found
