"""What the instructions compute that work on registers alone: each opcode as a function of NumPy arrays."""

import numpy as np

KINDS = {
    "pred": np.dtype(bool),
    **{f"{letter}{bits}": np.dtype(f"u{bits // 8}") for letter in "bu" for bits in (8, 16, 32, 64)},
    **{f"s{bits}": np.dtype(f"i{bits // 8}") for bits in (8, 16, 32, 64)},
    "f32": np.dtype("f4"),
    "f64": np.dtype("f8"),
}
_TF32 = np.uint32(0xFFFFE000)  # the bits that a tensor core reads
_WIDER = {np.dtype(f"{letter}{size}"): np.dtype(f"{letter}{2 * size}") for letter in "iu" for size in (1, 2, 4)}


def _bits(kind):
    return 8 * kind.itemsize


def _mul(kind, modifiers):
    if kind.kind == "f" or "lo" in modifiers:
        return np.multiply
    wider = _WIDER[kind]
    wide = lambda a, b: a.astype(wider) * b.astype(wider)  # noqa: E731
    return wide if "wide" in modifiers else lambda a, b: (wide(a, b) >> _bits(kind)).astype(kind)


def _fma(kind, modifiers):
    if kind == KINDS["f64"]:
        return lambda a, b, c: a * b + c
    if "rm" in modifiers:
        return lambda a, b, c: _downwards(np.float64(a) * b + c)
    # The product is exact in float64. The sum is rounded twice, which shows once in some 2**29 times.
    return lambda a, b, c: (np.float64(a) * b + c).astype(kind)


def _downwards(exact):
    rounded = exact.astype(np.float32)
    return np.where(rounded > exact, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def _quotient(a, b):
    """Towards zero, as PTX divides."""
    down = a // b
    return down + ((a - down * b != 0) & ((a < 0) != (b < 0)))


def _div(kind, modifiers):
    return np.divide if kind.kind == "f" else np.floor_divide if kind.kind == "u" else _quotient


def _rem(kind, modifiers):
    return np.remainder if kind.kind == "u" else lambda a, b: a - _quotient(a, b) * b


def _extreme(ignoring_nan, with_nan):
    def made(kind, modifiers):
        return ignoring_nan if kind.kind == "f" and "NaN" not in modifiers else with_nan

    return made


def _shift(shift, beyond):
    def made(kind, modifiers):
        def shifted(a, count):
            count = count.astype(np.uint32)
            kept = shift(a, np.minimum(count, _bits(kind) - 1).astype(kind))
            return np.where(count < _bits(kind), kept, beyond(a)).astype(kind)

        return shifted

    return made


def _insert_bits(kind, modifiers):
    def inserted(a, b, first, count):
        mask = kind.type((1 << int(count)) - 1) << kind.type(first)
        return (b & ~mask) | ((a << kind.type(first)) & mask)

    return inserted


_COMPARISONS = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


def _setp(kind, modifiers):
    how = modifiers[0]
    if how in ("nan", "num"):
        unordered = lambda a, b: (a != a) | (b != b)  # noqa: E731
        return unordered if how == "nan" else lambda a, b: ~unordered(a, b)
    if how in _COMPARISONS:
        compare = _COMPARISONS[how]
        # NumPy says that NaN is not equal to anything, and so does PTX with "neu" only.
        return (lambda a, b: (a < b) | (a > b)) if how == "ne" and kind.kind == "f" else compare
    compare = _COMPARISONS[how[:-1]]
    return lambda a, b: compare(a, b) | (a != a) | (b != b)


def convert(to, come_from, modifiers):
    """cvt: numbers of the dtype `come_from` as numbers of the dtype `to`."""
    if "sat" in modifiers:
        return lambda a: np.where(a > 0, np.minimum(a, 1), 0).astype(to)
    if to.kind == "f":
        return lambda a: a.astype(to)
    if come_from.kind != "f":
        return lambda a: a.astype(to)
    rounded = {"rzi": np.trunc, "rni": np.rint, "rmi": np.floor, "rpi": np.ceil}[modifiers[0]]
    limits = np.iinfo(to)

    def to_whole(a):
        whole = rounded(a)
        inside = np.where((whole > limits.min) & (whole < limits.max), whole, 0).astype(to)
        return np.where(whole >= limits.max, limits.max, np.where(whole <= limits.min, limits.min, inside)).astype(to)

    return to_whole


def to_tf32(a):
    """To nearest, ties away from zero, as bits."""
    bits = a.view(np.uint32)
    return np.where(np.isfinite(a), (bits + np.uint32(0x1000)) & _TF32, bits)


def to_bf16(a):
    """To nearest, ties to even, as the bits of a uint16 in a uint32."""
    bits = a.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(a), np.uint32(0x7FFF), rounded)


def pack_bf16(high, low):
    return to_bf16(high) << np.uint32(16) | to_bf16(low)


# cvt to what no register holds as such.
ROUNDINGS = {"tf32": to_tf32, "bf16": to_bf16, "bf16x2": pack_bf16}

OPERATIONS = {
    "add": lambda kind, modifiers: np.add,
    "sub": lambda kind, modifiers: np.subtract,
    "mul": _mul,
    "fma": _fma,
    "mad": lambda kind, modifiers: lambda a, b, c: a * b + c,
    "div": _div,
    "rem": _rem,
    "min": _extreme(np.fmin, np.minimum),
    "max": _extreme(np.fmax, np.maximum),
    "neg": lambda kind, modifiers: np.negative,
    "abs": lambda kind, modifiers: np.abs,
    "not": lambda kind, modifiers: np.invert,
    "and": lambda kind, modifiers: np.bitwise_and,
    "or": lambda kind, modifiers: np.bitwise_or,
    "xor": lambda kind, modifiers: np.bitwise_xor,
    "shl": _shift(np.left_shift, np.zeros_like),
    "shr": _shift(np.right_shift, lambda a: np.where(a < 0, -1, 0)),
    "bfi": _insert_bits,
    "rcp": lambda kind, modifiers: np.reciprocal,
    "sqrt": lambda kind, modifiers: np.sqrt,
    "ex2": lambda kind, modifiers: np.exp2,
    "setp": _setp,
    "selp": lambda kind, modifiers: lambda a, b, chosen: np.where(chosen, a, b),
    "mov": lambda kind, modifiers: np.array,
}


def mma(a, b, c, kind):
    """c (w, 16, 8) + a (w, 16, k) b (w, k, 8) of w warps, from the registers of their lanes.

    `a`, `b`: lists of four and two arrays (w, 32) of uint32, `c` of four of float32; so is the result. Which element a
    lane holds is said at the top of sccengine/kernels/cuda/intrinsics.py.
    """
    row, quad = np.arange(32) // 4, np.arange(32) % 4
    pairs = 2 if kind == "bf16" else 1
    A, B = np.zeros((len(c[0]), 16, 8 * pairs)), np.zeros((len(c[0]), 8 * pairs, 8))
    for i, held in enumerate(a):
        for part in range(pairs):
            A[:, row + 8 * (i % 2), pairs * quad + part + 4 * pairs * (i // 2)] = _read(held, kind, part)
    for i, held in enumerate(b):
        for part in range(pairs):
            B[:, pairs * quad + part + 4 * pairs * i, row] = _read(held, kind, part)
    product = A @ B
    places = [(row + 8 * (i // 2), 2 * quad + i % 2) for i in range(4)]
    return [(product[:, rows, columns] + before).astype(np.float32) for (rows, columns), before in zip(places, c)]


def _read(held, kind, part):
    if kind == "tf32":
        return (held & _TF32).view(np.float32)
    return (held >> np.uint32(16 * part) << np.uint32(16)).view(np.float32)
