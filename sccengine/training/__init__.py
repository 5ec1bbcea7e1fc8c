"""Training: the Trainer, checkpoints that survive anything, histories, pictures; runs taken again and compared."""

from .checkpoint import load_weights, save_weights
from .diff import diff
from .errors import CheckpointError, NonFiniteLossError, RunDirectoryError, TrainingInterrupted
from .evaluation import Evaluation, evaluate, predict
from .history import History, read_history
from .plots import draw_confusion, draw_curves
from .replay import Replay
from .trainer import Trainer

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
