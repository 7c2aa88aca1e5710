"""Reads the assembly of AMD's GPUs, as LLVM writes it."""

import re

from tools.gpu_code.machine_code import Access, Instruction, Kernel

_LABEL = re.compile(r"^(\.LBB\w+):")
_INSTRUCTION = re.compile(r"^\t((?:[sv]|ds|global|flat|buffer|scratch)_\w+)(?:\s+(.*?))?\s*(?:;.*)?$")
_REGISTERS = re.compile(r"\b([vsa])(?:(\d+)\b|\[(\d+):(\d+)\])|\b(vcc|exec|scc)\b")
_ACCESS = re.compile(r"^(?:global|flat|buffer)_(load|store)_[us]?(byte|short|dword)(?:x(\d))?(?:_d16)?(?:_hi)?$")
_BYTES = {"byte": 1, "short": 2, "dword": 4}
# Their second operand is a result, too.
_TWO_RESULTS = re.compile(r"^v_(add_co|addc_co|sub_co|subb_co|subrev_co|div_scale|mad_u64_u32|mad_i64_i32)")
_WITHOUT_RESULT = ("s_waitcnt", "s_cbranch", "s_branch", "s_endpgm", "s_barrier", "s_nop", "s_cmp", "s_bitcmp", "ds_w")


def read(text: str) -> Kernel:
    """The one kernel of a file."""
    code: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in text.partition(".section\t.rodata")[0].splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(code)
        elif match := _INSTRUCTION.match(line):
            code.append(_decode(match[1], match[2] or ""))
    for i, x in enumerate(code):
        goes_on = [] if x.opcode in ("s_branch", "s_endpgm") else [i + 1]
        jumps = [labels[x.operands.strip()]] if x.opcode.startswith(("s_branch", "s_cbranch")) else []
        x.next = [n for n in (*jumps, *goes_on) if n < len(code)]
    stack = _metadata(text, "private_segment_fixed_size") + 4 * _metadata(text, "vgpr_spill_count")
    name = re.search(r"^\s+\.name:\s+(\w+)\s*$\s+\.private_segment", text, re.MULTILINE)
    assert name, "no name"
    shared = _metadata(text, "group_segment_fixed_size")
    kernel = Kernel(name[1], _metadata(text, "vgpr_count"), stack, shared, code)
    kernel.scalar_spills = _metadata(text, "sgpr_spill_count")
    return kernel


def _metadata(text: str, name: str) -> int:
    match = re.search(rf"\.{name}:\s+(\d+)", text)
    assert match, f"no .{name}"
    return int(match[1])


def _decode(opcode: str, operands: str) -> Instruction:
    parts = [part.strip() for part in operands.split(", ")]
    access_of = _ACCESS.match(opcode)
    results = 0 if opcode.startswith(_WITHOUT_RESULT) or (access_of and access_of[1] == "store") else 1
    if _TWO_RESULTS.match(opcode):
        results = 2
    defines = {register for part in parts[:results] for register in _registers(part)}
    uses = {register for part in parts[results:] for register in _registers(part)}
    if opcode.startswith(("s_add_u32", "s_sub_u32", "s_cmp", "s_bitcmp", "s_addc", "s_subb")):
        defines.add("scc")
    access = None
    if access_of:
        # The address is all but the data, which a load names first and a store second (a buffer's store first).
        data = 0 if access_of[1] == "load" or opcode.startswith("buffer") else 1
        address = {register for i, part in enumerate(parts) if i != data for register in _registers(part)}
        width = _BYTES[access_of[2]] * int(access_of[3] or 1)
        access = Access("load" if access_of[1] == "load" else "store", width, frozenset(address))
    elif opcode.startswith(("global_", "flat_", "buffer_")):
        raise NotImplementedError(f"{opcode} {operands}: what access is this?")
    return Instruction(
        opcode,
        operands,
        frozenset(defines),
        frozenset(uses),
        depends_on_thread=opcode.startswith(("v_mbcnt", "ds_read", "ds_bpermute")),
        access=access,
        is_local=opcode.startswith("scratch_"),
    )


def _registers(operand: str) -> list[str]:
    names = []
    for kind, one, first, last, special in _REGISTERS.findall(operand):
        if special:
            names.append(special)
        else:
            names += [f"{kind}{n}" for n in range(int(one or first), int(one or last) + 1)]
    return names
