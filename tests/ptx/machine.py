"""Runs a kernel's PTX with NumPy, all threads of some blocks together, as a GPU does the threads of a warp.

Of the threads that can go on, those furthest behind carry out their next basic block, and then it is looked again. So
threads that took different ways meet where the ways do. At a barrier a thread waits for its block; at a warp-wide
operation for all 32 lanes.
"""

import numpy as np

from tests.ptx.copies import Copies
from tests.ptx.instructions import translate
from tests.ptx.memory import BLOCK_OF_A_MOMENT, Fault, Global, Shared
from tests.ptx.program import WARP_WIDE

WARP = 32
# Threads that run together: more of them take more memory, fewer more turns.
TOGETHER = 4096
ENDED = 1 << 30


def launch(program, grid, block, arguments, shared=0):
    """Runs `program` over a grid of blocks, both (x, y, z), with bytes of dynamic shared memory.

    `arguments`: for each parameter a NumPy array, whose address the kernel gets, or a NumPy scalar. Raises Fault, and
    NotImplementedError for an instruction that is not known here.
    """
    memory = Global([each for each in arguments if isinstance(each, np.ndarray)])
    blocks = int(np.prod(grid))
    step = max(1, TOGETHER // int(np.prod(block)))
    with np.errstate(all="ignore"):
        for first in range(0, blocks, step):
            numbers = np.arange(first, min(blocks, first + step))
            Blocks(program, grid, block, numbers, arguments, memory, shared).run()


class Blocks:
    """Some blocks of a launch, by their `numbers`: the registers of all their threads, and where each thread is.

    What has an element for each thread: `place`, the basic block that it carries out next; `block`, which of these
    blocks it is in; `thread`, its number in the launch; `moment`, when it is in the sense of memory.py.
    """

    def __init__(self, program, grid, block, numbers, arguments, memory, shared):
        self.program = program
        self.arguments = arguments
        self.memory = memory
        self.shared = Shared(len(numbers), program.shared_bytes + shared)
        self.size = int(np.prod(block))
        self.count = len(numbers) * self.size
        self.place = np.zeros(self.count, np.int64)
        self.block = np.repeat(np.arange(len(numbers)), self.size)
        within = np.tile(np.arange(self.size), len(numbers))
        self.thread = numbers[self.block] * self.size + within
        self._numbers = numbers
        self._barriers = np.zeros(len(numbers), np.int64)
        self._mark_time()
        self.copies = Copies(self)
        self._waits = np.zeros(self.count, bool)  # at a barrier
        self._parked = np.zeros(self.count, bool)  # at a warp-wide operation
        self.registers = {
            name: np.zeros(self.count, bool if bits == 1 else f"u{bits // 8}")
            for name, bits in program.registers.items()
        }
        self._set_special(grid, block, within, shared)
        self._translated = [None] * len(program.blocks)

    def _set_special(self, grid, block, within, shared):
        for name, number, shape in (("tid", within, block), ("ctaid", self._numbers[self.block], grid)):
            for axis, size in zip("xyz", shape):
                self.registers[f"%{name}.{axis}"] = (number % size).astype(np.uint32)
                self.registers[f"%n{name}.{axis}"] = np.full(self.count, size, np.uint32)
                number = number // size
        self.registers["%dynamic_smem_size"] = np.full(self.count, shared, np.uint32)

    def run(self):
        while (able := ~(self._waits | self._parked) & (self.place < ENDED)).any():
            place = int(self.place[able].min())
            threads = np.flatnonzero(able & (self.place == place))
            if self.program.blocks[place][0].name in WARP_WIDE:
                threads = self._whole_warps(place)
            if len(threads):
                self._carry_out(place, threads)
        if (self.place < ENDED).any():
            raise Fault("threads wait for others that never come")

    def _carry_out(self, place, threads):
        if self._translated[place] is None:
            self._translated[place] = [translate(each, self) for each in self.program.blocks[place]]
        self.place[threads] = place + 1
        lanes = slice(None) if len(threads) == self.count else threads
        for carry_out in self._translated[place]:
            carry_out(lanes)

    def _whole_warps(self, place):
        """The threads at `place` whose warps are there as a whole; the others are parked."""
        if self.size % WARP:
            raise Fault("a warp-wide operation without all 32 lanes of the warp")
        here = self.place == place
        whole = np.repeat(here.reshape(-1, WARP).all(axis=1), WARP)
        self._parked = (self._parked & ~whole) | (here & ~whole)
        return np.flatnonzero(whole)

    def wait(self, lanes):
        """Lets threads wait for all of their blocks that have not ended."""
        self._waits[lanes] = True
        self._open_barriers()

    def end(self, lanes):
        self.place[lanes] = ENDED
        self._open_barriers()

    def _open_barriers(self):
        waits, places = (each.reshape(-1, self.size) for each in (self._waits, self.place))
        opened = (waits | (places >= ENDED)).all(axis=1) & waits.any(axis=1)
        if not opened.any():
            return
        waiting = np.where(waits, places, -1).max(axis=1, keepdims=True)
        if (waits & (places != waiting))[opened].any():
            raise Fault("the threads of a block wait at different barriers")
        self._waits[np.repeat(opened, self.size)] = False
        self._barriers += opened
        self._mark_time()

    def _mark_time(self):
        self.moment = ((self._numbers << BLOCK_OF_A_MOMENT) + self._barriers)[self.block]
