"""The design space of a model: which channel groups and overlaps, how wide, for what accuracy at what cost.

``explore`` searches a Space and returns a Study; the record of each design that it tried is a Trial.
"""

from .costs import Costs
from .explore import explore
from .objectives import OBJECTIVES, Objective
from .plan import SAMPLERS, Plan
from .report import write_report
from .space import Space
from .study import Study
from .trial import Design, Trial

__all__ = [
    "OBJECTIVES",
    "SAMPLERS",
    "Costs",
    "Design",
    "Objective",
    "Plan",
    "Space",
    "Study",
    "Trial",
    "explore",
    "write_report",
]
