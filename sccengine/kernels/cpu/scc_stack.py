"""The channel-window contraction by gathering windows first: the paper's two composed baselines, in NumPy and BLAS.

* channel-stack copies the window of every filter: O * K rows, however often windows repeat.
* cyclic-stack copies each distinct window once and contracts the filters that share it together: D * K rows.

Both read like their definition and cost memory and bandwidth in proportion to the copies.
"""

import numpy as np


def _filters_by_window(windows, distinct):
    """Pairs of (filters, the channels that they read): one a filter, or one a distinct window."""
    channels = windows.channels()
    if not distinct:
        return [(np.array([f]), channels[f]) for f in range(windows.out_channels)]
    return [
        (np.flatnonzero(windows.starts == start), channels[windows.starts == start][0])
        for start in np.unique(windows.starts)
    ]


def _stack(x, shared):
    """(windows, K, M): the gathered windows."""
    return np.stack([x[channels] for _, channels in shared])


def forward(x, weight, bias, y, windows, distinct):
    """y (O, M) from x (C, M), weight (O, K) and bias (O,) or None."""
    shared = _filters_by_window(windows, distinct)
    for (filters, _), window in zip(shared, _stack(x, shared)):
        y[filters] = weight[filters] @ window
    if bias is not None:
        y += bias[:, None]


def backward_input(dy, weight, dx, windows, distinct):
    """dx (C, M): the gradient of the stack, added back to the channels that it was gathered from."""
    shared = _filters_by_window(windows, distinct)
    dstack = np.stack([weight[filters].T @ dy[filters] for filters, _ in shared])
    dx[...] = 0
    for (_, channels), dwindow in zip(shared, dstack):
        dx[channels] += dwindow


def backward_weight(dy, x, dweight, windows, distinct):
    """dweight (O, K)."""
    shared = _filters_by_window(windows, distinct)
    for (filters, _), window in zip(shared, _stack(x, shared)):
        dweight[filters] = dy[filters] @ window.T
