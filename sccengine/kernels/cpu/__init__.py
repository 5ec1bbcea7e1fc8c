"""CPU kernels: Numba ``@njit`` on NumPy arrays, one file per operator."""
