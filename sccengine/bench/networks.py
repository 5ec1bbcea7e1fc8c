"""The networks of the whole-model benchmarks: dscnet on 1xHxW images, and those whose layers form a chain on 3xHxW.

Axes of a case: "model", "scheme", "batch" and "image" (H = W).
"""

from __future__ import annotations

from sccengine import models, nn

GROUPS, OVERLAP = 2, 0.5


def build(axes):
    """The network that all competitors copy, freshly initialised, on the CPU."""
    settings = {"scheme": axes["scheme"], "groups": GROUPS, "overlap": OVERLAP}
    return models.build(axes["model"], in_channels=image_shape(axes)[0], **settings)


def image_shape(axes):
    """(C, H, W)."""
    return (1 if axes["model"] == "dscnet" else 3, axes["image"], axes["image"])


def summary(axes):
    """Its models.Summary."""
    return models.summarize(build(axes), image_shape(axes))


def layers(axes):
    """Its layers as oracle_network takes them; ValueError for a model that is no chain."""
    found = []
    for name, layer in build(axes).named_modules():
        if isinstance(layer, nn.Conv2d):
            found.append(("conv2d", name, (layer.stride, layer.padding, layer.groups)))
        elif isinstance(layer, nn.SCC):
            found.append(("scc", name, (layer.groups, layer.overlap)))
        elif isinstance(layer, nn.BatchNorm2d) and layer.relu:
            found.append(("norm_relu", name, ()))
        elif isinstance(layer, nn.MaxPool2d):
            found.append(("max_pool2d", name, (layer.kernel_size, layer.stride, layer.padding)))
        elif isinstance(layer, (nn.GlobalAvgPool2d, nn.Linear)):
            found.append(("linear" if isinstance(layer, nn.Linear) else "global_avg_pool2d", name, ()))
        elif not list(layer.children()):
            raise ValueError(f"there is no oracle for {type(layer).__name__} ({name})")
    return found
