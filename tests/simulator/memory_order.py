"""Images (N, C, H, W) as the kernels have them, (C, H, W, N), and back."""

import numpy as np


def as_rows(images):
    return np.ascontiguousarray(np.moveaxis(images, 0, -1), np.float32)


def as_images(rows):
    return np.moveaxis(rows, -1, 0)
