"""Operators on Tensors, one file each: checks, allocation, the recorded Function, the public function.

    import sccengine.functional as F

Every operator takes and returns tensors that are (N, C, ...) to the user and batch-last in memory.
"""

from sccengine.functional.add import add
from sccengine.functional.avg_pool2d import avg_pool2d
from sccengine.functional.batch_norm import batch_norm
from sccengine.functional.channel_shuffle import channel_shuffle
from sccengine.functional.conv2d import conv2d
from sccengine.functional.cross_entropy import cross_entropy
from sccengine.functional.depthwise import depthwise_conv2d
from sccengine.functional.dropout import dropout
from sccengine.functional.flatten import flatten
from sccengine.functional.global_avg_pool2d import global_avg_pool2d
from sccengine.functional.linear import linear
from sccengine.functional.max_pool2d import max_pool2d
from sccengine.functional.relu import relu, relu6
from sccengine.functional.scale import scale
from sccengine.functional.scc import scc
from sccengine.functional.separable import separable

__all__ = [
    "add",
    "avg_pool2d",
    "batch_norm",
    "channel_shuffle",
    "conv2d",
    "cross_entropy",
    "depthwise_conv2d",
    "dropout",
    "flatten",
    "global_avg_pool2d",
    "linear",
    "max_pool2d",
    "relu",
    "relu6",
    "scale",
    "scc",
    "separable",
]
