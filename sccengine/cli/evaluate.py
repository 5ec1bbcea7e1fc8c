"""``sccengine evaluate``: how good a trained run is on the held-out images."""

from __future__ import annotations

import click

from sccengine import data
from sccengine.cli.options import data_dir_option, device_option, json_option, print_json, run_argument
from sccengine.cli.trained import load_trained, weights_option
from sccengine.models.mode import device_of_model
from sccengine.training import evaluate as evaluate_model
from sccengine.training.job import build_test_loader

_MOST_CLASSES = 30  # more than this are not listed one by one


@click.command()
@run_argument
@weights_option
@data_dir_option
@device_option
@json_option
def evaluate(run, weights, data_dir, device, as_json):
    """Loss, accuracy and confusions of the run directory RUN on its held-out images.

    \b
    Examples:
      sccengine evaluate runs/20260131-101500
      sccengine evaluate runs/narrow --weights last --json
    """
    model, config = load_trained(run, weights, device)
    dataset = config["data"]["dataset"]
    _, test_set = data.load(dataset, data_dir or config["environment"].get("data_dir"))
    result = evaluate_model(model, build_test_loader(config, test_set, device_of_model(model)))
    names = config["data"]["class_names"]
    if as_json:
        print_json(
            {
                "run": str(run),
                "weights": weights,
                "dataset": dataset,
                "images": result.images,
                "loss": result.loss,
                "accuracy": result.accuracy,
                "classes": names,
                "confusion": result.confusion.tolist(),
            }
        )
        return
    right = int(result.confusion.trace())
    click.echo(
        f"{run} ({weights} weights) on {dataset}: accuracy {result.accuracy:.2%} "
        f"({right:,} of {result.images:,} right), loss {result.loss:.4f}"
    )
    if len(names) <= _MOST_CLASSES:
        click.echo(_by_class(result.confusion, names))


def _by_class(confusion, names):
    """A table: images of each class, how many were found, and what the others were taken for."""
    width = max(5, *map(len, names))
    lines = ["", f"{'class':<{width}}  {'images':>6}  {'right':>8}  taken for"]
    for i, name in enumerate(names):
        images = int(confusion[i].sum())
        wrong = sorted(((int(n), names[j]) for j, n in enumerate(confusion[i]) if n and j != i), reverse=True)
        others = ", ".join(f"{other} ({n})" for n, other in wrong)
        share = f"{confusion[i, i] / images:.2%}" if images else "-"
        lines.append(f"{name:<{width}}  {images:>6,}  {share:>8}  {others}".rstrip())
    return "\n".join(lines)
