"""Softmax cross-entropy; ``scale`` makes logits large enough to overflow a naive softmax."""

import sccengine.functional as F
from sccengine import reference
from tests.checks import compare, generator

CASES = [
    {"samples": 5, "classes": 7, "label_smoothing": 0.0, "scale": 1, "small": True},
    {"samples": 4, "classes": 3, "label_smoothing": 0.1, "scale": 500, "small": True},
    {"samples": 1, "classes": 1, "label_smoothing": 0.5, "scale": 1, "small": True},
    {"samples": 40, "classes": 9, "label_smoothing": 0.2, "scale": 1, "small": True},
    {"samples": 65, "classes": 100, "label_smoothing": 0.1, "scale": 3},
]


def check(device, case, dtype):
    random = generator(case)
    smoothing = case["label_smoothing"]
    labels = random.integers(0, case["classes"], case["samples"])
    compare(
        device,
        dtype,
        lambda logits: F.cross_entropy(logits, labels, smoothing),
        {"logits": case["scale"] * random.standard_normal((case["samples"], case["classes"]))},
        lambda logits: reference.cross_entropy_forward(logits, labels, smoothing),
        lambda dy, logits: [dy * reference.cross_entropy_backward(logits, labels, smoothing)],
    )
