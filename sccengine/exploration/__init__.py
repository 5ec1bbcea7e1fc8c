"""The design space of a model: which channel groups and overlaps, how wide, for what accuracy at what cost.

``explore`` searches a Space and returns a Study; the record of each design that it tried is a Trial.
"""

from sccengine.exploration.costs import Costs
from sccengine.exploration.explore import explore
from sccengine.exploration.objectives import OBJECTIVES, Objective
from sccengine.exploration.plan import SAMPLERS, Plan
from sccengine.exploration.report import write_report
from sccengine.exploration.space import Space
from sccengine.exploration.study import Study
from sccengine.exploration.trial import Design, Trial

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
