"""Certificates: that the kernels of a layer touch what its definition says, that its gradients are right, and that the
same inputs always give the same bits; with the figures, versions, device and a hash of all that.

    certificate = certify_model(model, settings)      # or certify_layer(Layer.scc(64, 128, 2, 0.33))
    certificate["sha256"], certificate["content"]["holds"], problems(certificate)

Each layer is certified once for a device and its versions; what was found is kept in the cache folder, so training runs
and benchmarks name their certificate without delay (`known`).
"""

from sccengine.certify.certificate import (
    certify_layer,
    certify_model,
    check_intact,
    known,
    known_layer,
    problems,
    read_certificate,
)
from sccengine.certify.layer import Layer, layers_of

__all__ = [
    "Layer",
    "certify_layer",
    "certify_model",
    "check_intact",
    "known",
    "known_layer",
    "layers_of",
    "problems",
    "read_certificate",
]
