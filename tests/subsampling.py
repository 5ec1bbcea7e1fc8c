"""What holds of kernels/*/subsample.py on every device: plain loops beside it."""

import numpy as np

# (C, H, W, N), stride
CASES = [
    ((2, 4, 4, 3), (2, 2)),
    ((3, 5, 7, 1), (2, 3)),
    ((1, 1, 1, 5), (3, 2)),
    ((2, 3, 4, 2), (1, 4)),
]


def check(subsample, shape, stride, dtype):
    channels, height, width, samples = shape
    chosen = [(h, w) for h in range(0, height, stride[0]) for w in range(0, width, stride[1])]
    size = (len({h for h, _ in chosen}), len({w for _, w in chosen}))
    random = np.random.default_rng(0)
    x, dy = (
        random.standard_normal(shape).astype(dtype),
        random.standard_normal((channels, *size, samples)).astype(dtype),
    )
    y, dx = np.full_like(dy, np.nan), np.full_like(x, np.nan)
    subsample.forward(x, y, stride)
    subsample.backward(dy, dx, stride)
    want = np.zeros_like(x)
    for h, w in chosen:
        np.testing.assert_array_equal(y[:, h // stride[0], w // stride[1]], x[:, h, w])
        want[:, h, w] = dy[:, h // stride[0], w // stride[1]]
    np.testing.assert_array_equal(dx, want)
