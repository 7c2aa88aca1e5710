"""Reads NVIDIA's machine code, as nvdisasm prints it."""

import hashlib
import re
import struct
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import triton

from tools.gpu_code.machine_code import Access, Instruction, Kernel
from tools.gpu_code.targets import Target

CUOBJDUMP, NVDISASM = (Path(triton.__file__).parent / "backends/nvidia/bin" / n for n in ("cuobjdump", "nvdisasm"))
BYTES = 16  # of an instruction

_RESOURCES = re.compile(r"Function (\S+):\n\s*REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
_FUNCTION = re.compile(r"\n\s*Function : (\S+)\n")
_LINE = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?PT?\d*)\s+)?([A-Z][A-Z0-9_.]*)\s*(.*?)\s*;", re.MULTILINE)
_REGISTER = re.compile(r"\b(?:UR|UP|R|P)\d+\b")
_PREDICATE = re.compile(r"^!?U?P(?:\d+|T)$")
_TARGET = re.compile(r"0x([0-9a-f]+)$")
_BARRIER = re.compile(r"\bB\d+\b")
_WIDTH = re.compile(r"\.(?:[SU]?(8|16)|(64|128|256))(?![0-9])")

_STEP = re.compile(r"^(U?R\d+), (?:PT, PT, )?\1(?:\.reuse)?, (0x[0-9a-f]{1,7})(?:, U?RZ)?$")
_WITHOUT_RESULT = (
    "ST", "RED", "BRA", "BSSY", "BSYNC", "CALL", "RET", "EXIT", "BAR", "NOP", "MEMBAR", "WARPSYNC", "CCTL",
)  # fmt: skip


def disassemble(cubins: Sequence[bytes], target: Target, cache: Path) -> list[str]:
    """Of each all kernels, with their resources. A call costs as much as hundreds of kernels do."""
    paths = [cache / f"{hashlib.sha256(cubin).hexdigest()[:32]}.sass" for cubin in cubins]
    missing = {path: cubin for path, cubin in zip(paths, cubins, strict=True) if not path.exists()}
    if missing:
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache) as folder:  # another process may do the same
            for path, text in zip(missing, _disassemble(list(missing.values()), target, Path(folder)), strict=True):
                file = Path(folder) / path.name
                file.write_text(text)
                file.rename(path)
    return [path.read_text() for path in paths]


def _disassemble(cubins: list[bytes], target: Target, folder: Path) -> Iterator[str]:
    functions = [list(_functions(cubin)) for cubin in cubins]
    code = folder / "code"
    code.write_bytes(b"".join(text for of_one in functions for _, text in of_one))
    listing = _run([NVDISASM, "--binary", target.name.replace("_", "").upper(), code])
    lines = {int(line[1], 16): line[0] for line in _LINE.finditer(listing)}
    begin = 0
    for cubin, of_one in zip(cubins, functions, strict=True):
        file = folder / "cubin"
        file.write_bytes(cubin)
        parts = [_run([CUOBJDUMP, "-res-usage", file])]
        for name, text in of_one:
            end = begin + len(text)
            # Addresses are those of all code together, in jumps, too.
            parts.append(f"\n\tFunction : {name}\n")
            parts.extend(f"{lines[address]}\n" for address in range(begin, end, BYTES))
            begin = end
        yield "".join(parts)


def _run(command: list[str | Path]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _functions(cubin: bytes) -> Iterator[tuple[str, bytes]]:
    """The names and the code of its kernels: sections of an ELF file of 64 bits."""
    [headers] = struct.unpack_from("<Q", cubin, 0x28)
    size, count, of_names = struct.unpack_from("<HHH", cubin, 0x3A)
    sections = [struct.unpack_from("<IIQQQQ", cubin, headers + size * i) for i in range(count)]
    names = cubin[sections[of_names][4] :]
    for name, _, _, _, offset, length in sections:
        text = names[name : names.index(b"\0", name)].decode()
        if text.startswith(".text."):
            yield text.removeprefix(".text."), cubin[offset : offset + length]


def read(text: str) -> dict[str, Kernel]:
    """The kernels of a disassembled file."""
    resources = {name: tuple(map(int, numbers)) for name, *numbers in _RESOURCES.findall(text)}
    kernels = {}
    _, *parts = _FUNCTION.split(text)
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        registers, stack, shared, local = resources[name]
        kernels[name] = Kernel(name, registers, stack + local, shared, _instructions(body))
    return kernels


def steps(kernel: Kernel, loop: set[int]) -> set[int]:
    """By how much the loop's counters grow each time: 32-bit registers, so not the addresses."""
    matches = [_STEP.match(kernel.code[i].operands) for i in loop if re.match("U?V?IADD", kernel.code[i].opcode)]
    return {int(match[2], 16) for match in matches if match}


def _instructions(body: str) -> list[Instruction]:
    lines = _LINE.findall(body)
    index = {int(address, 16): i for i, (address, *_) in enumerate(lines)}
    code = [_decode(predicate, opcode, operands) for _, predicate, opcode, operands in lines]
    meeting_points: dict[str, set[int]] = {}  # where threads go on from a barrier, by its name
    for x in code:
        if x.opcode.startswith("BSSY"):
            meeting_points.setdefault(_barrier(x), set()).add(index[_target(x)])
    for i, x in enumerate(code):
        x.next = [n for n in _next(i, x, index, meeting_points) if n < len(code)]
        if x.opcode.startswith("CALL"):
            x.calls = index[_target(x)]
        x.returns = x.opcode.startswith("RET")
    return code


def _next(i: int, x: Instruction, index: dict[int, int], meeting_points: dict[str, set[int]]) -> list[int]:
    if x.opcode.startswith(("BRX", "JMX", "JMP")):
        raise NotImplementedError(f"{x.opcode} {x.operands}: a jump to a computed address")
    goes_on = [i + 1] if x.is_conditional else []
    if x.opcode.startswith("BRA"):
        # "BRA P1, 0x..." and "BRA.DIV UR4, 0x..." are conditional, too.
        return [index[_target(x)], *(goes_on or [i + 1] * ("," in x.operands))]
    if x.opcode.startswith(("EXIT", "RET")):
        return goes_on
    if x.opcode.startswith("BSYNC"):
        points = meeting_points[_barrier(x)]
        return [i + 1] if i + 1 in points else sorted({*points, *goes_on})
    return [i + 1]


def _target(x: Instruction) -> int:
    match = _TARGET.search(x.operands)
    assert match, f"{x.opcode} {x.operands}: where to?"
    return int(match[1], 16)


def _barrier(x: Instruction) -> str:
    match = _BARRIER.search(x.operands)
    assert match, f"{x.opcode} {x.operands}: which barrier?"
    return match[0]


def _decode(predicate: str, opcode: str, operands: str) -> Instruction:
    name = opcode.split(".")[0]
    parts = [part.strip().replace(".reuse", "") for part in operands.split(", ")]
    results = 0 if name.startswith(_WITHOUT_RESULT) else 1
    # A predicate beside the result: a carry, or the second of two predicates.
    if results and any(_PREDICATE.match(part) for part in parts[:2]):
        results = min(2, len(parts))
    defines = {register for part in parts[:results] for register in _registers(part, _words(opcode))}
    uses = {register for part in parts[results:] for register in _REGISTER.findall(part)}
    access = None
    if name in ("LDG", "STG", "LD", "ST", "ATOMG", "RED", "REDG"):
        address = re.search(r"(?:desc\[\w+\])?\[([^\]]*)\]", operands)
        assert address, f"{opcode} {operands}: which address?"
        registers = frozenset(_REGISTER.findall(address[1]))
        access = Access("load" if name in ("LDG", "LD") else "store", _bytes(opcode), registers)
        uses = uses if name in ("STG", "ST") else set(registers)
    return Instruction(
        opcode,
        operands,
        frozenset(defines),
        frozenset(uses),
        is_conditional=bool(predicate),
        # Of shared memory only its address is known.
        depends_on_thread="SR_TID" in operands or "SR_LANEID" in operands or name in ("LDS", "SHFL"),
        access=access,
        is_local=name in ("LDL", "STL"),
    )


def _bytes(opcode: str) -> int:
    match = _WIDTH.search(opcode)
    return int(match[1] or match[2]) // 8 if match else 4


def _words(opcode: str) -> int:
    """Registers in a row that hold the result."""
    if ".128" in opcode:
        return 4
    doubles = opcode.startswith(("DFMA", "DMUL", "DADD")) or ".F64." in opcode or ".WIDE" in opcode
    return 2 if doubles or ".64" in opcode else 1


def _registers(operand: str, words: int) -> list[str]:
    match = re.match(r"^(U?R)(\d+)", operand)
    if match:
        return [f"{match[1]}{int(match[2]) + word}" for word in range(words)]
    return _REGISTER.findall(operand)
