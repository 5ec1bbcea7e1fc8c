"""The design space of a model: which channel groups and overlaps, how wide, for what accuracy at what cost."""

from .objectives import OBJECTIVES, Objective
from .space import Space
from .trial import Design, Trial

__all__ = ["OBJECTIVES", "Design", "Objective", "Space", "Trial"]
