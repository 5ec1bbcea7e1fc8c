"""Honest timing of the engine's operators and training steps: what ``sccengine bench`` and benchmarks/ share.

case.py       what a benchmark consists of             catalog.py    which there are, and their peers
harness.py    check, time in turns, check again        selection.py  which cases of them
timers.py     how one call is timed                    machine.py, ceilings.py  what the machine is and can do
rows.py       what is kept of it                       tables.py, compare.py, plots.py  what is made of that
scc.py, scc_layers.py, depthwise.py, conv2d.py, batch_norm.py, train_step.py, inference.py  the benchmarks
"""
