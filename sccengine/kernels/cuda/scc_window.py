"""Where filters and channels meet: filter f reads channel c with tap k where c = (start[f] + k) mod C and k < K."""

from numba import cuda


@cuda.jit(device=True)
def channel_of(start, tap, C):
    """The channel that a window from `start` reads with `tap`."""
    channel = start + tap
    return channel - C if channel >= C else channel


@cuda.jit(device=True)
def tap_of(start, channel, C):
    """The tap with which a window from `start` would read `channel`; it does so if that is below K."""
    tap = channel - start
    return tap + C if tap < 0 else tap
