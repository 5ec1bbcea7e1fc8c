"""The worker that test_exploration_workers.py kills: ``python -m tests.exploration_worker FOLDER [URL STUDY]``.

Its "training" takes time and keeps its epochs in the trial's folder, as checkpoints would be, and trains nothing.
"""

import json
import os
import sys
import time
import zlib

from sccengine.exploration import Study

PAUSE = 0.03  # seconds an epoch takes


def cost(design):
    return {"params": 1000 * design.width / design.groups}


def accuracy(design, epoch):
    """After an epoch, counted from 0: rising, and different for every design."""
    return round(1 - 1 / (2 + epoch) - zlib.crc32(design.slug.encode()) / 2**36, 9)


def train(plan, trial, folder, watch):
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "epochs.json"
    history = json.loads(kept.read_text()) if kept.exists() else {"test_accuracy": [], "seconds": []}
    with open(folder / "begun", "a") as file:
        file.write(f"{os.getpid()} {len(history['seconds'])}\n")
    for epoch in range(len(history["seconds"]), plan.epochs):
        time.sleep(PAUSE)
        history["test_accuracy"].append(accuracy(trial.design, epoch))
        history["seconds"].append(PAUSE)
        new = folder / f"new-{os.getpid()}"
        new.write_text(json.dumps(history))
        new.replace(kept)
        if epoch + 1 < plan.epochs and watch(history):
            break
    return history


if __name__ == "__main__":
    Study(*sys.argv[1:]).run(train=train, cost=cost)
