#!/usr/bin/env bash
# Runs the gpu-marked tests and the benchmarks on this machine's GPU and leaves one JSON file of results.
#
#     benchmarks/run_on_gpu.sh [--only PART]... [--skip PART]... [--seconds N]
#
# Needs Python with the dependencies of setup.cfg, numba-cuda, CuPy and, for the peers, PyTorch; nothing is installed or
# downloaded.
# PYTHON names the interpreter (default: python3). OUT names the result file or a folder for it; by default it is
# benchmarks/results/gpu-<device>-<date>.json. The exit status is 0 if every part passed. See run_on_gpu.py.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export SCCENGINE_REQUIRE_GPU=1
export SCCENGINE_CACHE_DIR="${SCCENGINE_CACHE_DIR:-${TMPDIR:-/tmp}/sccengine-cache-$(id -u)}"  # no platformdirs needed
unset NUMBA_ENABLE_CUDASIM
exec "${PYTHON:-python3}" "$root/benchmarks/run_on_gpu.py" "$@"
