"""The sliding-channel layers of VGG16, ResNet18 and MobileNet, each shape once, as the benchmark scc times its own."""

from __future__ import annotations

from sccengine import models
from sccengine.bench import operators, scc
from sccengine.bench.case import Benchmark

_MODELS = ("vgg16", "resnet18", "mobilenet")
_GROUPS, _OVERLAP = 2, 0.5
_BATCH = 128


def _layers():
    """(C, O, H) of each, from the widest image to the narrowest."""
    shapes = set()
    for name in _MODELS:
        model = models.build(name, scheme="dw+scc", groups=_GROUPS, overlap=_OVERLAP)
        for row in models.summarize(model, (3, 32, 32)).rows:
            if row.type == "SCC":
                shapes.add((row.groups * row.width, *row.output_shape[:2]))
    return sorted(shapes, key=lambda shape: (-shape[2], shape))


BENCHMARK = Benchmark(
    "scc_layers",
    operators.with_passes(dict(N=_BATCH, C=c, O=o, H=h, cg=_GROUPS, co=_OVERLAP) for c, o, h in _layers()),
    operators.with_passes([dict(N=2, C=16, O=32, H=2, cg=_GROUPS, co=_OVERLAP)]),
    scc.case,
    "F.scc",
)
