"""Recipes by name: what ``sccengine train --preset NAME`` takes where an option is not given.

    cifar10, cifar100   the paper's training of VGG, ResNet and MobileNet: SGD with momentum 0.9 (not Nesterov's) and
                        weight decay 5e-4 on all parameters, random crops out of 4 pixels of padding, mirroring,
                        plain cross-entropy; 200 epochs of a cosine from 0.1, batches of 128

The published code steps its rate down over 350 epochs instead; the cosine is the recipe of the collection of CIFAR
models that it builds on. The channels' mean and standard deviation are those of the training images.
"""

from __future__ import annotations

import click

_CIFAR = {
    "epochs": 200,
    "batch_size": 128,
    "augment": True,
    "optimizer": "sgd",
    "lr": 0.1,
    "nesterov": False,
    "schedule": "cosine",
    "weight_decay": 5e-4,
    "decay": "all",
    "label_smoothing": 0.0,
}
PRESETS = {name: {"dataset": name, **_CIFAR} for name in ("cifar10", "cifar100")}


def _use(ctx, param, name):
    """Make the preset's values the defaults of the command's other options."""
    if name is not None:
        ctx.default_map = {**(ctx.default_map or {}), **PRESETS[name]}
    return name


preset_option = click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    is_eager=True,  # before the options whose defaults it changes
    callback=_use,
    help="The paper's recipe for that data set; options that are given take precedence.",
)
