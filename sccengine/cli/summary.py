"""``sccengine summary``: what a model costs, layer by layer."""

from __future__ import annotations

import click

from sccengine import models
from sccengine.cli.options import image_options, json_option, model_of, model_options, print_json


@click.command()
@model_options
@image_options
@json_option
def summary(input_shape, as_json, **options):
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
    network, _ = model_of(input_shape=input_shape, **options)
    result = models.summarize(network, input_shape)
    if as_json:
        print_json(result.as_dict())
    else:
        click.echo(result)
