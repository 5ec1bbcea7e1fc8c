"""What tests, benchmarks and the tuner need to know of one way to compute an operator."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple


@dataclass(frozen=True)
class Variant:
    """One entry of an operator's VARIANTS.

    name            as in ``F.scc(..., variant=name)``
    summary         one line: what it does and what it trades
    deterministic   whether the same inputs always give the same bits, whatever the number of threads; one that does
                    not is never chosen unasked
    workspace       what it allocates beside its outputs, in the operator's letters; "none" if nothing
    dtypes          the dtypes that it computes in
    precision       what set_matmul_precision must have allowed for it to be chosen: "highest" needs no permission
    operand_bits    so many bits of each operand take part: whole numbers below 2**operand_bits are exact
    since           the least compute capability of a GPU that can run it
    """

    name: str
    summary: str
    deterministic: bool = True
    workspace: str = "none"
    dtypes: tuple = ("float32", "float64")
    precision: str = "highest"
    operand_bits: int = 53
    since: tuple = (0, 0)


class Launchers(NamedTuple):
    """The launchers of one variant of the contraction.

    forward takes `relu` as its last argument where fuses_relu says so, backward_weight `dbias` where adds_dbias does.
    """

    forward: object
    backward_input: object
    backward_weight: object
    fuses_relu: bool = False
    adds_dbias: bool = False


def published_launchers(stack, direct):
    """{variant: Launchers} of the ways that the paper compares, from a room's scc_stack.py and scc_direct.py."""
    stacks = {
        name: Launchers(
            partial(stack.forward, distinct=distinct),
            partial(stack.backward_input, distinct=distinct),
            partial(stack.backward_weight, distinct=distinct),
        )
        for name, distinct in (("channel_stack", False), ("cyclic_stack", True))
    }
    return {
        **stacks,
        "direct_output_centric": Launchers(direct.forward, direct.scatter_input, direct.scatter_weight),
        "direct_input_centric": Launchers(direct.forward, direct.gather_input, direct.reduce_weight),
    }
