"""Translates an instruction of PTX into a function of the threads that carry it out."""

import numpy as np

from tests.ptx import arithmetic
from tests.ptx.arithmetic import KINDS
from tests.ptx.memory import WORD, Fault

WARP = 32
BYTE = 8
UINT32, UINT64, FLOAT32, PRED = KINDS["u32"], KINDS["u64"], KINDS["f32"], KINDS["pred"]


def translate(instruction, blocks):
    """A function of `lanes`, the indices of threads of `blocks` (machine.py) or slice(None)."""
    make = _TRANSLATIONS.get(instruction.name, _computed)
    carry_out = make(instruction, blocks)
    if instruction.predicate is None or instruction.name == "bra":
        return carry_out
    predicate, everyone = blocks.registers[instruction.predicate], np.arange(blocks.count)

    def where_predicted(lanes):
        chosen = everyone[lanes][predicate[lanes] == instruction.wanted]
        if len(chosen):
            carry_out(chosen)

    return where_predicted


# Operands


def _names(text):
    """The registers in braces, or the one without."""
    return [name.strip() for name in text.strip("{}").split(",")]


def _target(blocks, name, kind):
    """The array of a register, as numbers of dtype `kind`; one that is wider takes their value, not their bits."""
    register = blocks.registers[name]
    return register.view(kind) if register.dtype.itemsize == kind.itemsize else register


def _source(blocks, text, kind):
    """A function that gives an operand of threads: a register, the place of a shared array, or a number."""
    if text in blocks.registers:
        register = blocks.registers[text]
        if register.dtype.itemsize == kind.itemsize:
            return register.view(kind).__getitem__
        return lambda lanes: register[lanes].astype(f"u{kind.itemsize}").view(kind)
    value = _number(blocks, text, kind)
    return lambda lanes: value


def _number(blocks, text, kind):
    if text in blocks.program.shared:
        return kind.type(blocks.program.shared[text])
    bits = int(text[2:], 16) if text.startswith(("0f", "0d")) else int(text, 0) % (1 << 64)
    return kind.type(bits) if kind == PRED else np.uint64(bits).astype(f"u{kind.itemsize}").view(kind)


def _addresses(blocks, text):
    """A function that gives the addresses of threads: a register or a shared array, and a distance from there."""
    base, _, distance = text.strip("[] ").replace(" ", "").partition("+")
    distance = int(distance or "0", 0)
    if base in blocks.program.shared:
        place = blocks.program.shared[base] + distance
        return lambda lanes: np.full(len(blocks.thread[lanes]), place, np.int64)
    register = blocks.registers[base]
    return lambda lanes: register[lanes].astype(np.int64) + distance


def _space(instruction, blocks, text):
    """The memory that an instruction accesses, and a function that gives the places in it of threads."""
    addresses = _addresses(blocks, text)
    if "shared" in instruction.modifiers:
        return blocks.shared, lambda lanes: blocks.shared.place(addresses(lanes), blocks.block[lanes])
    if "global" in instruction.modifiers:
        return blocks.memory, addresses
    raise NotImplementedError(instruction.text)


# Registers


def _computed(instruction, blocks):
    if instruction.name not in arithmetic.OPERATIONS:
        raise NotImplementedError(instruction.text)
    kind = KINDS[instruction.modifiers[-1]]
    to, *operands = instruction.operands
    result, kinds = {
        "setp": (PRED, [kind, kind]),
        "selp": (kind, [kind, kind, PRED]),
        "shl": (kind, [kind, UINT32]),
        "shr": (kind, [kind, UINT32]),
        "bfi": (kind, [kind, kind, UINT32, UINT32]),
    }.get(instruction.name, (kind, [kind] * len(operands)))
    if "wide" in instruction.modifiers:
        result = np.dtype(f"{kind.kind}{2 * kind.itemsize}")
    function = arithmetic.OPERATIONS[instruction.name](kind, instruction.modifiers)
    return _applied(function, _target(blocks, to, result), blocks, operands, kinds)


def _applied(function, target, blocks, operands, kinds):
    sources = [_source(blocks, text, kind) for text, kind in zip(operands, kinds)]

    def apply(lanes):
        target[lanes] = function(*[source(lanes) for source in sources])

    return apply


def _mov(instruction, blocks):
    to, source = instruction.operands
    if "{" not in to + source:
        return _computed(instruction, blocks)
    whole = np.dtype(f"u{KINDS[instruction.modifiers[-1]].itemsize}")
    names = _names(to if "{" in to else source)
    part = np.dtype(f"u{whole.itemsize // len(names)}")
    shifts = [whole.type(BYTE * part.itemsize * i) for i in range(len(names))]
    if "{" in to:
        bits, targets = _source(blocks, source, whole), [_target(blocks, name, part) for name in names]

        def unpack(lanes):
            for shift, target in zip(shifts, targets):
                target[lanes] = (bits(lanes) >> shift).astype(part)

        return unpack
    target, parts = _target(blocks, to, whole), [_source(blocks, name, part) for name in names]

    def pack(lanes):
        target[lanes] = sum((each(lanes).astype(whole) << shift for each, shift in zip(parts, shifts)), whole.type(0))

    return pack


def _cvt(instruction, blocks):
    *how, to, come_from = instruction.modifiers
    name, *operands = instruction.operands
    if to in arithmetic.ROUNDINGS:
        function, target = arithmetic.ROUNDINGS[to], blocks.registers[name]
    else:
        function = arithmetic.convert(KINDS[to], KINDS[come_from], how)
        target = _target(blocks, name, KINDS[to])
    return _applied(function, target, blocks, operands, [KINDS[come_from]] * len(operands))


def _cvta(instruction, blocks):
    # Addresses of global memory are the same in all spaces.
    to, source = instruction.operands
    return _applied(np.array, _target(blocks, to, UINT64), blocks, [source], [UINT64])


# Memory


def _ld(instruction, blocks):
    kind = KINDS[instruction.modifiers[-1]]
    to, address = instruction.operands
    targets = [_target(blocks, name, kind) for name in _names(to)]
    if instruction.modifiers[0] == "param":
        return _parameter(blocks, blocks.program.parameters[address.strip("[] ")], targets[0], kind)
    space, places = _space(instruction, blocks, address)

    def load(lanes):
        values = space.load(places(lanes), kind, len(targets), blocks.thread[lanes], blocks.moment[lanes])
        for target, value in zip(targets, values):
            target[lanes] = value

    return load


def _parameter(blocks, number, target, kind):
    argument = blocks.arguments[number]
    value = np.uint64(argument.ctypes.data) if isinstance(argument, np.ndarray) else argument.view(kind)

    def load(lanes):
        target[lanes] = value

    return load


def _st(instruction, blocks):
    kind = KINDS[instruction.modifiers[-1]]
    address, values = instruction.operands
    sources = [_source(blocks, name, kind) for name in _names(values)]
    space, places = _space(instruction, blocks, address)

    def store(lanes):
        threads = blocks.thread[lanes]
        values = [np.broadcast_to(source(lanes), threads.shape) for source in sources]
        space.store(places(lanes), values, threads, blocks.moment[lanes])

    return store


def _red(instruction, blocks):
    address, value = instruction.operands
    space, places = _space(instruction, blocks, address)
    value = _source(blocks, value, KINDS[instruction.modifiers[-1]])
    return lambda lanes: space.add(places(lanes), value(lanes))


# Control


def _bra(instruction, blocks):
    target = blocks.program.labels[instruction.operands[0]]
    # Without a predicate all go.
    predicate = blocks.registers.get(instruction.predicate, np.ones(blocks.count, bool))

    def branch(lanes):
        goes = predicate[lanes] == instruction.wanted
        blocks.place[lanes] = np.where(goes, target, blocks.place[lanes])

    return branch


def _ret(instruction, blocks):
    return blocks.end


def _bar(instruction, blocks):
    if instruction.modifiers != ("sync",):
        raise NotImplementedError(instruction.text)
    return blocks.wait


# What the lanes of a warp do together


def _shfl(instruction, blocks):
    if "bfly" not in instruction.modifiers:
        raise NotImplementedError(instruction.text)
    # The second target, if there is one, tells whether the lane asked is there: it always is.
    *targets, value, mask, _, members = instruction.operands
    target = _target(blocks, targets[0], UINT32)
    value, mask, members = (_source(blocks, text, UINT32) for text in (value, mask, members))

    def exchange(lanes):
        if (members(lanes) != 0xFFFFFFFF).any():
            raise Fault(f"{instruction.text}: not among all lanes of a warp")
        values = value(lanes).reshape(-1, WARP)
        partners = (np.arange(values.size, dtype=np.uint32) % WARP) ^ mask(lanes)
        target[lanes] = np.take_along_axis(values, partners.reshape(-1, WARP).astype(int), axis=1).reshape(-1)

    return exchange


def _ldmatrix(instruction, blocks):
    if "x4" not in instruction.modifiers:
        raise NotImplementedError(instruction.text)
    to, address = instruction.operands
    targets = [_target(blocks, name, UINT32) for name in _names(to)]
    space, places = _space(instruction, blocks, address)

    def load(lanes):
        words = space.load(places(lanes), UINT32, 4, blocks.thread[lanes], blocks.moment[lanes])
        matrices = np.stack(words, axis=-1).view(np.uint16).reshape(-1, 4, 8, 8)  # warp, matrix, row, column
        if "trans" in instruction.modifiers:
            matrices = np.ascontiguousarray(matrices.swapaxes(2, 3))
        pairs = matrices.view(np.uint32).reshape(-1, 4, WARP)
        for i, target in enumerate(targets):
            target[lanes] = pairs[:, i].reshape(-1)

    return load


def _mma(instruction, blocks):
    storage = instruction.modifiers[-2]
    to, *operands = (_names(each) for each in instruction.operands)
    sources = [
        [_source(blocks, name, kind) for name in names] for names, kind in zip(operands, (UINT32, UINT32, FLOAT32))
    ]
    targets = [_target(blocks, name, FLOAT32) for name in to]

    def multiply(lanes):
        held = [[source(lanes).reshape(-1, WARP) for source in each] for each in sources]
        for target, values in zip(targets, arithmetic.mma(*held, storage)):
            target[lanes] = values.reshape(-1)

    return multiply


# Asynchronous copies


def _cp(instruction, blocks):
    _, what, *_ = instruction.modifiers
    if what == "commit_group":
        return blocks.copies.commit
    if what == "wait_group":
        newest = int(instruction.operands[0])
        return lambda lanes: blocks.copies.wait(lanes, newest)
    to, source, width, given = instruction.operands
    width, given = int(width), _source(blocks, given, UINT32)
    to, source = _addresses(blocks, to), _addresses(blocks, source)
    everyone = np.arange(blocks.count)

    def read(lanes, chosen, distance, count):
        threads, moments = blocks.thread[lanes][chosen], blocks.moment[lanes][chosen]
        return blocks.memory.load(source(lanes)[chosen] + distance, UINT32, count, threads, moments)

    def begin(lanes):
        threads = everyone[lanes]
        size = np.broadcast_to(given(lanes), threads.shape)  # in bytes; the rest is zero
        if (size > width).any() or (size % WORD).any() or (source(lanes)[size > 0] % width).any():
            raise Fault(f"{instruction.text}: too many bytes, no whole words, or not aligned")
        words = np.zeros((width // WORD, len(threads)), np.uint32)
        whole = size == width
        words[:, whole] = read(lanes, whole, 0, len(words))
        for i, word in enumerate(words[:-1]):
            part = ~whole & (size > i * WORD)
            word[part] = read(lanes, part, i * WORD, 1)[0]
        blocks.copies.begin(threads, blocks.shared.place(to(lanes), blocks.block[lanes]), words)

    return begin


_TRANSLATIONS = {
    "mov": _mov,
    "cvt": _cvt,
    "cvta": _cvta,
    "ld": _ld,
    "st": _st,
    "red": _red,
    "bra": _bra,
    "ret": _ret,
    "bar": _bar,
    "shfl": _shfl,
    "ldmatrix": _ldmatrix,
    "mma": _mma,
    "cp": _cp,
}
