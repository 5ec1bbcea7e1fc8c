"""Two packages with the same launchers: ``cpu`` (Numba ``@njit``) and ``cuda`` (Numba ``@cuda.jit``).

``sccengine.backend.kernels_for(array)`` picks the package; ``kernels.scc.forward(...)`` then reads the same for both.
"""
