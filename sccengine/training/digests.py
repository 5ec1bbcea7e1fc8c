"""Arrays compared to the bit: short digests of them, and how far two that differ lie apart."""

from __future__ import annotations

import hashlib

import numpy as np

# Further apart, representable numbers are no measure: there are two billion of them between -1 and 1 in float32.
_MOST_ULPS_SHOWN = 1_000_000


def digest(array):
    """16 hexadecimal digits (64 bits of BLAKE2b) over an array's dtype, shape and elements in C order."""
    found = hashlib.blake2b(f"{array.dtype.str} {array.shape}\n".encode(), digest_size=8)
    found.update(np.ascontiguousarray(array))
    return found.hexdigest()


def digest_all(arrays):
    """The same over (name -> array), names and order included."""
    text = "".join(f"{name} {digest(array)}\n" for name, array in arrays.items())
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def same_bits(one, other):
    """Whether two arrays have the same dtype, shape and bits: two NaNs may be the same, 0.0 and -0.0 are not."""
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def difference(one, other):
    """How two arrays that are not `same_bits` differ, as plain values.

    Of equal shape and dtype: {"elements": how many differ, "of": how many there are, "first": index of the first,
    "values": [there in one, in the other], "largest": the largest |difference|, "ulps": the largest distance in
    representable numbers, None for integers}. Else {"shapes": [...], "dtypes": [...]}.
    """
    if one.shape != other.shape or one.dtype != other.dtype:
        return {"shapes": [list(one.shape), list(other.shape)], "dtypes": [one.dtype.name, other.dtype.name]}
    bits = f"u{one.dtype.itemsize}"
    apart = np.ascontiguousarray(one).view(bits) != np.ascontiguousarray(other).view(bits)
    first = tuple(int(i) for i in np.argwhere(apart)[0])
    with np.errstate(over="ignore", invalid="ignore"):
        largest = float(np.abs(one[apart].astype(np.float64) - other[apart].astype(np.float64)).max())
    return {
        "elements": int(apart.sum()),
        "of": one.size,
        "first": list(first),
        "values": [one[first].item(), other[first].item()],
        "largest": largest,
        "ulps": _most_ulps(one[apart], other[apart]) if one.dtype.kind == "f" else None,
    }


def _most_ulps(one, other):
    """The largest number of representable numbers from an element to its counterpart."""
    return max(abs(int(a) - int(b)) for a, b in zip(_ranks(one), _ranks(other)))


def _ranks(array):
    """Each number's place in the order of all that its dtype can represent, 0 for both zeros."""
    signed = array.view(f"i{array.dtype.itemsize}").astype(np.int64)
    least = np.int64(-(2 ** (8 * array.dtype.itemsize - 1)))
    return np.where(signed < 0, least - signed, signed)


def describe(found):
    """A `difference` in words."""
    if "shapes" in found:
        (one, other), (kind, other_kind) = found["shapes"], found["dtypes"]
        return f"{kind} {tuple(one)} in the first, {other_kind} {tuple(other)} in the second"
    index = ", ".join(map(str, found["first"]))
    text = f"{found['elements']:,} of {found['of']:,} elements differ, by at most {found['largest']:.3g}"
    if found["ulps"] is not None and found["ulps"] <= _MOST_ULPS_SHOWN:
        text += f" ({found['ulps']:,} ulp{'' if found['ulps'] == 1 else 's'})"
    return f"{text}; first at [{index}]: {found['values'][0]!r} and {found['values'][1]!r}"
