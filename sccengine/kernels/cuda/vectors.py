"""When kernels on images (C, H, W, N) may take four images at a time, and other questions of the launchers."""

import numpy as np

from sccengine.kernels.cuda import launch

# Bytes of one pixel that neighbouring threads of a block take before they go on to the next: a line of the caches.
LINE = 32 if launch.SIMULATED else 128


def rows_aligned(*arrays):
    """Whether all rows of these (..., M) arrays start at multiples of 16 bytes, so that vectors can be accessed."""
    return all(array.shape[-1] % 4 == 0 and launch.address(array) % 16 == 0 for array in arrays)


def vectors_serve(*arrays):
    """Whether the kernels for float32 in vectors of four serve these arrays; the first tells the dtype."""
    return arrays[0].dtype == np.float32 and rows_aligned(*arrays)


def windows_apart(kernel, stride, padding):
    """Whether no two pooling windows share a pixel and none reaches out of the image's upper and left edge."""
    return padding == (0, 0) and kernel[0] <= stride[0] and kernel[1] <= stride[1]
