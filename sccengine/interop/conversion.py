"""A trained pointwise model put into a new run as a sliding-channel one: converted, evaluated, ready to be fine-tuned.

    DIR/conversion.json   what was converted with which settings, errors by layer, cost and held-out accuracy before
                          and after; beside it everything that a run directory holds (training/run_directory.py)

The run's state before its first step has the converted weights, so evaluate, predict and export read the folder as it
is, and ``sccengine train --resume`` fine-tunes it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from sccengine.files import write_json
from sccengine.interop.convert import LayerLoss, to_scc
from sccengine.models import summarize
from sccengine.training import Evaluation, evaluate


@dataclass(frozen=True)
class Conversion:
    """What became of a model.

    layers      what each converted layer lost
    costs       {"parameters", "macs"}: [before, after]; macs are multiply-accumulates of one image
    original, converted   held-out evaluations before and after
    record      conversion.json as it stands
    """

    layers: list[LayerLoss]
    costs: dict[str, list[int]]
    original: Evaluation
    converted: Evaluation
    record: dict


def begin_converted(trainer, model, epochs, *, groups=2, overlap=0.5, images=256, restarts=8, about=None):
    """Convert `model`, put it into `trainer`, and begin the trainer's run of `epochs` epochs; returns a Conversion.

    trainer   a Trainer of the same model with scheme "dw+scc", whose run directory does not exist yet
    model     trained, with scheme "dw+pw"
    images    how many training images calibrate the projection, drawn by the loader's seed; 0: plain truncation
    groups, overlap, restarts   as convert.to_scc has them
    about     more entries for conversion.json

    Raises ValueError for settings that do not fit the model, and what ``Trainer.begin`` raises.
    """
    loader, dataset = trainer.test_loader, trainer.train_loader.dataset
    calibration = _prepared(dataset, min(images, len(dataset)), trainer) if images else None
    original = evaluate(model, loader)
    found, layers = to_scc(
        model,
        dataset.image_shape,
        groups=groups,
        overlap=overlap,
        calibration=calibration,
        restarts=restarts,
        seed=trainer.train_loader.seed,
    )
    weights = found.state_dict()
    trainer.model.load_state_dict(weights)
    converted = trainer.evaluate()
    before, after = (summarize(m, dataset.image_shape) for m in (model, trainer.model))
    costs = {"parameters": [before.params, after.params], "macs": [before.macs, after.macs]}
    record = {
        **(about or {}),
        "groups": groups,
        "overlap": overlap,
        "calibration_images": 0 if calibration is None else len(calibration),
        "layers": [asdict(layer) for layer in layers],
        **costs,
        "accuracy": {"original": original.accuracy, "converted": converted.accuracy, "fine_tuned": None},
    }
    trainer.begin(epochs)
    best = {"epoch": 0, "weights": weights, "confusion": converted.confusion}
    trainer.directory.save_weights(last=weights, best=best)
    trainer.directory.save_pictures(trainer.history, best)
    write_record(trainer, record)
    return Conversion(layers, costs, original, converted, record)


def fine_tune(trainer, conversion, epochs):
    """Train what `begin_converted` began for `epochs` epochs, and note the accuracy after the last in the record."""
    trainer.fit(epochs)
    conversion.record["accuracy"]["fine_tuned"] = trainer.history[-1]["test_accuracy"]
    write_record(trainer, conversion.record)


def write_record(trainer, record):
    """Write conversion.json into the trainer's run directory."""
    write_json(trainer.directory.conversion, record)


def _prepared(dataset, count, trainer):
    """`count` training images as the network gets them in evaluation, drawn at random: data sets may be sorted."""
    chosen = np.random.default_rng(trainer.train_loader.seed).permutation(len(dataset))[:count]
    return trainer.test_loader.transforms(dataset.images[np.sort(chosen)])
