"""Reads the PTX of one kernel, as Numba's compiler writes it, into basic blocks of instructions."""

import re
from typing import NamedTuple

_PARAMETER = re.compile(r"\.param (?:\.align \d+ )?\.\w+ (\w+)")
_REGISTERS = re.compile(r"\.reg \.(\w+)\s+(%\w+?)(?:<(\d+)>)?;")
_SHARED = re.compile(r"\.shared \.align (\d+) \.b8 (\w+)\[(\d*)\];")
_INSTRUCTION = re.compile(r"(?:@(!?)(%\w+)\s+)?([a-z][\w.:]*)\s*(.*);")
# A list in braces, an address in brackets, or what stands between two commas.
_OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,\s|]+")
_BITS = {"pred": 1, "b16": 16, "b32": 32, "f32": 32, "b64": 64, "f64": 64}
# Of all lanes of a warp together: each begins a block.
WARP_WIDE = ("shfl", "ldmatrix", "mma")


class Instruction(NamedTuple):
    name: str  # such as "setp"
    modifiers: tuple  # ("ge", "s32")
    operands: tuple  # texts
    predicate: str | None
    wanted: bool  # the value of the predicate with which it is carried out

    @property
    def text(self):
        return f"{'.'.join((self.name, *self.modifiers))} {', '.join(self.operands)}"


class Program(NamedTuple):
    parameters: dict  # name: its number
    registers: dict  # name: bits
    shared: dict  # name of a shared array: its first byte
    shared_bytes: int  # static ones; an array of dynamic size begins there
    blocks: list  # of lists of Instructions; only the last of a list branches or waits
    labels: dict  # name: number of the block


def read(text):
    """The Program in the text of a PTX module with one kernel."""
    head, _, body = text.partition("\n{\n")
    shared, end = _shared_arrays(text)
    registers = {}
    blocks, labels = [[]], {}
    for line in (line.split("//")[0].strip() for line in body.splitlines()):
        if line.endswith(":"):
            if blocks[-1]:
                blocks.append([])
            labels[line[:-1]] = len(blocks) - 1
        elif declared := _REGISTERS.match(line):
            kind, name, count = declared.groups()
            names = [f"{name}{i}" for i in range(int(count))] if count else [name]
            registers.update(dict.fromkeys(names, _BITS[kind]))
        elif line and line not in "{}" and not line.startswith("."):
            for part in _statements(line):
                _append(blocks, _instruction(part))
    parameters = {name: number for number, name in enumerate(_PARAMETER.findall(head))}
    return Program(parameters, registers, shared, end, blocks, labels)


def _statements(line):
    """`line` without the braces of a scope, which may stand beside an instruction on one line."""
    return [part.strip() + ";" for part in line.split(";") if part.strip(" {}\t")]


def _instruction(text):
    unless, predicate, opcode, operands = _INSTRUCTION.fullmatch(text).groups()
    name, *modifiers = opcode.split(".")
    return Instruction(name, tuple(modifiers), tuple(_OPERAND.findall(operands)), predicate, not unless)


def _append(blocks, instruction):
    if instruction.name in WARP_WIDE and blocks[-1]:
        blocks.append([])
    blocks[-1].append(instruction)
    if instruction.name in (*WARP_WIDE, "bar", "bra", "ret"):
        blocks.append([])


def _shared_arrays(text):
    """Where each shared array begins, those of dynamic size behind the others, and where these end."""
    places, end = {}, 0
    arrays = [(name, int(alignment), size) for alignment, name, size in _SHARED.findall(text)]
    for name, alignment, size in sorted(arrays, key=lambda array: not array[2]):
        end += -end % alignment
        places[name] = end
        end += int(size or 0)
    return places, end
