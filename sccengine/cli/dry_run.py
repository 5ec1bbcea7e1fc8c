"""``sccengine train --dry-run``: whether a run would start, found out on one batch, with nothing updated or written."""

from __future__ import annotations

import sccengine.functional as F
from sccengine.autograd import Tensor
from sccengine.models import summarize
from sccengine.models.mode import device_of_model, evaluation_mode
from sccengine.training.diagnosis import first_bad_array
from sccengine.wording import counted


def check_run(trainer, epochs):
    """Lines about a run of `epochs` epochs, after a batch forward and backward, and one of test images.

    Raises RuntimeError that says which loss or gradient is not finite, and what model or data raise.
    """
    model, loader = trainer.model, trainer.train_loader
    device = device_of_model(model)
    images, labels = next(iter(loader))
    loss = F.cross_entropy(
        model(Tensor(images, device=device)), Tensor(labels, device=device), label_smoothing=trainer.label_smoothing
    )
    loss.backward()
    gradients = {f"the gradient of {name}": parameter.grad.numpy() for name, parameter in model.named_parameters()}
    if (bad := first_bad_array({"the loss": loss.numpy(), **gradients})) is not None:
        raise RuntimeError(f"dry run: {bad} is not finite on the first batch")
    summary = summarize(model, loader.dataset.image_shape)
    test_images, _ = next(iter(trainer.test_loader))
    with evaluation_mode(model):
        model(Tensor(test_images, device=device))
    shape = " x ".join(map(str, loader.dataset.image_shape))
    return [
        f"data: images {shape}, {loader.dataset.num_classes} classes; {counted(epochs, 'epoch')} of "
        f"{counted(len(loader), 'step')} of {counted(len(images), 'image')}",
        f"model: {summary.params:,} parameters, {summary.macs:,} MACs an image",
        f"first batch: loss {loss.item():.3f}, all {len(gradients)} gradients finite; test images go through",
        "dry run: nothing was updated or written",
    ]
