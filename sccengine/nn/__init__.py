"""Layers and the Module tree, with PyTorch's names, defaults and state-dict keys wherever PyTorch has the thing."""

from sccengine.autograd import Parameter
from sccengine.nn import init
from sccengine.nn.avg_pool2d import AvgPool2d
from sccengine.nn.batch_norm import BatchNorm2d
from sccengine.nn.channel_shuffle import ChannelShuffle
from sccengine.nn.containers import ModuleList, Sequential
from sccengine.nn.conv2d import Conv2d
from sccengine.nn.cross_entropy import CrossEntropyLoss
from sccengine.nn.dropout import Dropout
from sccengine.nn.flatten import Flatten
from sccengine.nn.fusion import unfused
from sccengine.nn.global_avg_pool2d import GlobalAvgPool2d
from sccengine.nn.linear import Linear
from sccengine.nn.max_pool2d import MaxPool2d
from sccengine.nn.module import Module
from sccengine.nn.relu import ReLU, ReLU6
from sccengine.nn.scc import SCC

__all__ = [
    "SCC",
    "AvgPool2d",
    "BatchNorm2d",
    "ChannelShuffle",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "Linear",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "Parameter",
    "ReLU",
    "ReLU6",
    "Sequential",
    "init",
    "unfused",
]
