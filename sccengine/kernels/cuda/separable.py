"""A depthwise separable block in evaluation on CUDA.

    z[c] = scale[c] * depthwise(x)[c] + shift[c],                                    then max(z, 0) if asked for
    y[f] = scale[f] * sum_{k<K} weight[f, k] * z[(start[f] + k) mod C] + shift[f],   then max(y, 0) if asked for

with scale and shift as in separable_fold.py.

v1: the two convolutions one after the other, with batch norms and ReLUs in them: four launches, and z goes through
memory. For float64, for kernel sizes that have no v2, and for tensor cores.
v2: separable_tiles.py, one kernel beside the one that folds; z stays in shared memory. Its products run on the units
for float32. On an H200 its blocks took 370 us of MobileNet's evaluation at batch 128 and 105 us of folding and adding
up; by the times of its parts, v1 on tensor cores (TF32x3) would take three quarters of that. Not yet timed as a whole.
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
    (taps, shift), (weight, bias) = fold(depthwise_stage, mixing_stage)
    z = launch.empty((len(x), *y.shape[1:]), like=x)
    depthwise.forward(x, taps, shift, z, stride, padding, depthwise_stage.relu)
    z, y = _flat(z), _flat(y)
    variant = scc.choose("forward", windows, y, precision)
    scc.forward(z, weight, bias, y, windows, variant, mixing_stage.relu)


def _flat(image):
    return image.reshape(len(image), -1)
