"""CUDA kernels: Numba ``@cuda.jit`` on CuPy arrays (or the simulator), one file per operator."""
