"""Convert, do not retrain: a trained dw+pw dscnet made dw+scc and fine-tuned, on the embedded digits.

    python benchmarks/convert_digits.py [--epochs 20] [--fine-tune 3] [--seeds 0 1 2 3 4]

Prints, for each seed, the held-out accuracy of the original, of the converted network before and after fine-tuning, and
of one trained from fresh weights for as many epochs as the fine-tuning, and the medians; writes
benchmarks/results/convert-digits.json, from which benchmarks/readme_tables.py makes the README's line.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

import sccengine
from sccengine import data, models, optim
from sccengine.data import transforms
from sccengine.interop import convert
from sccengine.training import Trainer, evaluate

RESULTS = Path(__file__).parent / "results" / "convert-digits.json"
GROUPS, OVERLAP = 2, 0.5
BATCH = 32
LR, LABEL_SMOOTHING = 0.1, 0.1


def train(model, train_set, test_set, epochs, seed):
    normalise = transforms.Normalize(*train_set.channel_statistics())
    loader = data.Loader(train_set, BATCH, shuffle=True, seed=seed, transforms=[normalise], drop_last=True)
    held_out = data.Loader(test_set, 256, transforms=normalise)
    if epochs:
        optimizer = optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4, nesterov=True)
        schedule = optim.schedules.cosine(epochs * len(loader))
        settings = {"schedule": schedule, "label_smoothing": LABEL_SMOOTHING, "progress": "quiet"}
        Trainer(model, optimizer, loader, **settings).fit(epochs)
    return evaluate(model, held_out).accuracy


def run(seed, epochs, fine_tune):
    sccengine.set_seed(seed)
    train_set, test_set = data.load("digits")
    sets = (train_set, test_set)
    model = models.build("dscnet", scheme="dw+pw", in_channels=1)
    row = {"seed": seed, "original": train(model, *sets, epochs, seed)}
    images = transforms.Normalize(*train_set.channel_statistics())(train_set.images)
    settings = {"groups": GROUPS, "overlap": OVERLAP, "seed": seed}
    truncated, _ = convert.to_scc(model, train_set.image_shape, **settings)
    row["truncated"] = train(truncated, *sets, 0, seed)
    converted, report = convert.to_scc(model, train_set.image_shape, calibration=images, **settings)
    row["converted"] = train(converted, *sets, 0, seed)
    row["fine-tuned"] = train(converted, *sets, fine_tune, seed)
    fresh = models.build("dscnet", scheme="dw+scc", in_channels=1, groups=GROUPS, overlap=OVERLAP)
    row["fresh"] = train(fresh, *sets, fine_tune, seed)
    row["layers"] = {r.name: {"energy": r.energy, "unsorted": r.unsorted, "error": r.error} for r in report}
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--fine-tune", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    arguments = parser.parse_args()
    rows = []
    for seed in arguments.seeds:
        rows.append(run(seed, arguments.epochs, arguments.fine_tune))
        print(json.dumps(rows[-1]), flush=True)
    names = ("original", "truncated", "converted", "fine-tuned", "fresh")
    median = {name: float(np.median([row[name] for row in rows])) for name in names}
    print("median", json.dumps(median))
    settings = {"epochs": arguments.epochs, "fine_tune": arguments.fine_tune, "groups": GROUPS, "overlap": OVERLAP}
    made = {"date": time.strftime("%Y-%m-%d"), "sccengine": sccengine.__version__}
    RESULTS.write_text(json.dumps({**made, "settings": settings, "median": median, "seeds": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
