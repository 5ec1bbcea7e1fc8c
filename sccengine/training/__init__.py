"""Training: the Trainer, checkpoints that survive anything, histories, pictures; runs taken again and compared."""

from sccengine.training.checkpoint import load_weights, save_weights
from sccengine.training.diff import diff
from sccengine.training.errors import CheckpointError, NonFiniteLossError, RunDirectoryError, TrainingInterrupted
from sccengine.training.evaluation import Evaluation, evaluate, predict
from sccengine.training.history import History, read_history
from sccengine.training.plots import draw_confusion, draw_curves
from sccengine.training.replay import Replay
from sccengine.training.trainer import Trainer

__all__ = [
    "CheckpointError",
    "Evaluation",
    "History",
    "NonFiniteLossError",
    "Replay",
    "RunDirectoryError",
    "Trainer",
    "TrainingInterrupted",
    "diff",
    "draw_confusion",
    "draw_curves",
    "evaluate",
    "load_weights",
    "predict",
    "read_history",
    "save_weights",
]
