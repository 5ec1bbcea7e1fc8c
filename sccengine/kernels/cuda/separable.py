"""A depthwise separable block in evaluation on CUDA.

    z[c] = scale[c] * depthwise(x)[c] + shift[c],                                    then max(z, 0) if asked for
    y[f] = scale[f] * sum_{k<K} weight[f, k] * z[(start[f] + k) mod C] + shift[f],   then max(y, 0) if asked for

with scale and shift as in separable_fold.py.

v1: the two convolutions one after the other, with batch norms and ReLUs in them: five or six launches, and z goes
through memory. For float64, for kernel sizes that have no v2, and for tensor cores.
v2: separable_tiles.py, one kernel beside the one that folds; z stays in shared memory.
"""

from sccengine.kernels.cuda import depthwise, launch, scc, separable_tiles
from sccengine.kernels.cuda.separable_fold import fold


def forward(x, depthwise_stage, mixing_stage, y, windows, stride, padding, precision):
    """y (O, HO, WO, N) from x (C, H, W, N).

    depthwise_stage   weight (C, KH, KW); bias, gamma, beta, mean, var (C,) or None; eps, relu
    mixing_stage      weight (O, K); the others (O,)
    precision         of the products of the 1x1 convolution
    """
    rounds = precision != "highest" and launch.capability(x) >= (8, 0)
    if separable_tiles.serves(x, depthwise_stage.weight.shape[1:]) and not rounds:
        separable_tiles.forward(x, depthwise_stage, mixing_stage, y, windows, stride, padding)
        return
    taps, shift = fold(depthwise_stage)
    weight, bias = fold(mixing_stage)
    z = launch.empty((len(x), *y.shape[1:]), like=x)
    depthwise.forward(x, taps, shift, z, stride, padding, depthwise_stage.relu)
    z, y = _flat(z), _flat(y)
    variant = scc.choose("forward", windows, y, precision)
    scc.forward(z, weight, bias, y, windows, variant, mixing_stage.relu)


def _flat(image):
    return image.reshape(len(image), -1)
