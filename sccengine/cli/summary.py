"""``sccengine summary``: what a model costs, layer by layer."""

from __future__ import annotations

import click

from sccengine import models
from sccengine.cli.options import image_options, json_option, model_options, print_json, usage_errors


@click.command()
@model_options
@image_options
@json_option
def summary(model, scheme, groups, overlap, width, stem, input_shape, classes, as_json):
    """Layer by layer: output shape, window (width K, shift S, cycle D), effective overlap, parameters, MACs.

    MACs are multiply-accumulates of convolution, sliding-channel and linear layers for one image; FLOPs are twice that.

    \b
    Examples:
      sccengine summary
      sccengine summary --input 3x32x32 --groups 4 --overlap 0.33
      sccengine summary --scheme dw+pw --width 2 --json
      sccengine summary --model vgg16 --input 3x32x32
      sccengine summary --model resnet50 --stem imagenet --input 3x224x224 --classes 1000
    """
    with usage_errors():
        network = models.build(
            model,
            scheme=scheme,
            groups=groups,
            overlap=overlap,
            width=width,
            stem=stem,
            in_channels=input_shape[0],
            num_classes=classes,
        )
        models.check_image_size(network, input_shape[1:])
    result = models.summarize(network, input_shape)
    if as_json:
        print_json(result.as_dict())
    else:
        click.echo(result)
