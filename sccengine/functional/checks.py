"""The argument checks that operators share. Each raises before anything is allocated and names the operator."""

from __future__ import annotations

from sccengine.numeric import is_whole


def pair(operator, name, value, minimum):
    """``value`` (an int or two ints) as a tuple ``(h, w)`` of ints, each at least ``minimum``."""
    both = (value, value) if type(value) is int else value
    if type(both) is tuple and len(both) == 2 and type(both[0]) is type(both[1]) is int and min(both) >= minimum:
        return both  # as nearly always, and quickly told
    both = (value, value) if is_whole(value) else value
    fits = isinstance(both, (tuple, list)) and len(both) == 2
    if not fits or not all(map(is_whole, both)):
        raise TypeError(f"{operator}: {name} must be an int or a pair (h, w) of ints, got {value!r}")
    if min(both) < minimum:
        raise ValueError(f"{operator}: {name} must be at least {minimum}, got {value!r}")
    return int(both[0]), int(both[1])


def named(operator, build, *settings):
    """``build(*settings)``, whose errors about settings then name the operator."""
    try:
        return build(*settings)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{operator}: {error}") from None


def channels(operator, x, wanted):
    """Check that ``x``, (N, C, ...), has as many channels as a layer was made for."""
    if x.ndim >= 2 and x.shape[1] != wanted:
        raise ValueError(f"{operator}: made for {wanted} channels, got an input of shape {tuple(x.shape)}, (N, C, ...)")


def floating(operator, x):
    """Check that ``x`` holds float32 or float64 and has no empty axis."""
    if x.dtype.kind != "f":
        raise TypeError(
            f"{operator}: input must be float32 or float64, got {x.dtype}: convert it, x.astype(np.float32)"
        )
    if 0 in x.shape:
        raise ValueError(f"{operator}: every axis of the input must have at least 1 entry, got shape {tuple(x.shape)}")


def rank(operator, x, axes):
    """Check that ``x`` is floating and has the axes named, for instance ``"NCHW"``."""
    if x.ndim != len(axes):
        raise ValueError(f"{operator}: input must be ({', '.join(axes)}), got shape {tuple(x.shape)}")
    floating(operator, x)


def batched(operator, x):
    """Check that ``x`` is floating and (N, C) or (N, C, ...)."""
    if x.ndim < 2:
        raise ValueError(f"{operator}: input must be (N, C) or (N, C, ...), got shape {tuple(x.shape)}")
    floating(operator, x)


def same_dtype(operator, x, **others):
    """Check that the arrays given by name (None: absent) have the dtype of the input ``x``."""
    for name, other in others.items():
        if other is not None and other.dtype != x.dtype:
            raise TypeError(
                f"{operator}: {name} is {other.dtype} but the input is {x.dtype}: convert the input, "
                f"x.astype(np.{other.dtype}); a model becomes {x.dtype} by model.to(dtype='{x.dtype}')"
            )


def shape(operator, name, array, wanted):
    """Check one array's shape (None: absent)."""
    if array is not None and tuple(array.shape) != tuple(wanted):
        raise ValueError(f"{operator}: {name} must have shape {tuple(wanted)}, got {tuple(array.shape)}")


def window_output(operator, size, kernel, stride, padding):
    """Output (h, w) of windows over an image of ``size`` (h, w); an empty output is an error."""
    output = tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, kernel, stride, padding))
    if min(output) < 1:
        raise ValueError(
            f"{operator}: a {kernel[0]}x{kernel[1]} window with stride {stride} and padding {padding} does not fit "
            f"an image of {size[0]}x{size[1]}: the output would be {output[0]}x{output[1]}"
        )
    return output


def pooling_windows(operator, kernel_size, stride, padding):
    """Kernel, stride (None: the kernel) and padding as (h, w) pairs; padding at most half the kernel, as in PyTorch."""
    kernel = pair(operator, "kernel_size", kernel_size, 1)
    stride = kernel if stride is None else pair(operator, "stride", stride, 1)
    padding = pair(operator, "padding", padding, 0)
    if any(2 * p > k for p, k in zip(padding, kernel)):
        raise ValueError(f"{operator}: padding must be at most half the kernel {kernel}, got {padding}")
    return kernel, stride, padding
