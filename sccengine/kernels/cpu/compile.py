"""``jit`` and ``parallel_jit``: how every CPU kernel is compiled, cached on disk and launched.

Arithmetic: contraction to FMA, reassociation (needed to vectorise sums), reciprocals; never "no NaNs" or
"no infinities", so a NaN in the data reaches the loss. Division by zero gives inf, as in NumPy.

Cache: Numba notices an edit of the file a kernel stands in, not of a helper it imports, and would go on running
old machine code. So the folder carries a hash of all sources of this package and of Numba's version. It lies in
$NUMBA_CACHE_DIR, else $SCCENGINE_CACHE_DIR, else the platform's cache folder; without a writable folder kernels
are compiled anew in each process, which warns, and where a file is damaged its kernel is. Numba's own setting is
changed only while a kernel is being decorated.

Threads: unless the user chose a layer, GNU OpenMP with a short spin where it exists, else Numba's workqueue.
Workqueue sleeps between launches, and waking it costs 50 to 200 us. OpenMP's own default spins for some ms, at every
launch, when another process holds the core that its worker needs. ``SPIN`` turns of its loop, 20 to 120 us by
processor, bridge the gap between two launches: a training step takes 0 to 6 % longer than with three times as many,
and on busy cores a third of the time. Launches from several Python threads take turns: workqueue aborts the process
otherwise. GNU OpenMP aborts a forked child, so there kernels run on the calling thread.
"""

import contextlib
import functools
import hashlib
import os
import sys
import threading
import warnings
from pathlib import Path

import numba
import numpy as np

from sccengine.kernels.cache_folder import cache_root, writable

FASTMATH = frozenset({"contract", "reassoc", "nsz", "arcp"})

#: Elements read or written from which a launch pays for the other threads; kernels weigh it by their arithmetic.
PARALLEL_WORK = 1 << 16

#: Elements of a flat array that one ``prange`` index handles.
BLOCK = 8192

SPIN = "3000"

_OPTIONS = {"fastmath": set(FASTMATH), "error_model": "numpy", "boundscheck": False}

_turn = threading.RLock()
_serial_only = False


def _choose_threading_layer():
    """Load the OpenMP layer with a short spin (libgomp reads the variable as it is loaded), else take workqueue."""
    if numba.config.THREADING_LAYER != "default":
        return
    layer = "workqueue"
    if sys.platform == "linux":
        added = "GOMP_SPINCOUNT" not in os.environ and "OMP_WAIT_POLICY" not in os.environ
        if added:
            os.environ["GOMP_SPINCOUNT"] = SPIN
        try:
            from numba.np.ufunc import omppool

            layer = "omp" if omppool.openmp_vendor == "GNU" else layer
        except ImportError:
            pass
        finally:
            if added:
                del os.environ["GOMP_SPINCOUNT"]
    numba.config.THREADING_LAYER = layer


def _after_fork():
    global _turn, _serial_only
    _turn = threading.RLock()
    _serial_only = numba.config.THREADING_LAYER == "omp"


def _keep_freed_memory():
    """Let the C library keep the scratch memory of kernels, of which every launch takes and frees some.

    glibc returns a freed block to the system, and the next launch faults its pages in anew, which takes longer than
    many a kernel, until it has seen a block of that size freed. So one of the largest such size is freed here, of
    which no page was ever touched. Where MALLOC_MMAP_THRESHOLD_ is set, that holds.
    """
    np.empty((1 << 25) - (1 << 16), np.uint8)


_keep_freed_memory()
_choose_threading_layer()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def source_hash():
    """Hash of Numba's version and of every source file beside this one."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@functools.cache
def cache_folder():
    """The folder of the compiled kernels as a string, or None, after a warning, where it cannot be written."""
    root = Path(numba.config.CACHE_DIR) if numba.config.CACHE_DIR else cache_root()
    folder = writable(root / source_hash())
    if folder is None:
        variable = "NUMBA_CACHE_DIR" if numba.config.CACHE_DIR else "SCCENGINE_CACHE_DIR"
        warnings.warn(
            f"{root} cannot be written: this process and each later one compiles the kernels it needs anew, which "
            f"takes long; set {variable} to a folder that can",
            stacklevel=2,
        )
        return None
    return str(folder)


def _njit(function, subfolder="", **options):
    folder = cache_folder()
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = os.path.join(folder, subfolder) if folder else ""
    try:
        dispatcher = numba.njit(cache=folder is not None, **_OPTIONS, **options)(function)
    finally:
        numba.config.CACHE_DIR = before
    dispatcher._cache.load_overload = functools.partial(_load_if_whole, dispatcher._cache)
    return dispatcher


def _load_if_whole(cache, signature, context):
    """What the cache holds for the signature; None, and nothing kept, where its files are damaged."""
    try:
        return type(cache).load_overload(cache, signature, context)
    except Exception as error:
        warnings.warn(
            f"a kernel is compiled anew, its files in {cache.cache_path} are damaged ({error!r})", stacklevel=2
        )
        with contextlib.suppress(OSError):
            cache.flush()
        return None


def jit(function):
    """Compile a helper, or a kernel that runs on the calling thread.

    Always inlined where compiled code calls it: of one that is not, there are two copies, its own and one in the
    caller's object file, optimised apart; fresh code calls the one, code from the cache the other, and where sums are
    reassociated their last bits differ.
    """
    return _njit(function, forceinline=True)


def parallel_jit(function):
    """Compile a kernel that holds a ``numba.prange``; the result is called from Python only, one call at a time.

    It takes one argument more, ``parallel``: False runs a version of the kernel whose prange is a plain loop on the
    calling thread, where there is too little to do to wake the others. Either version is compiled when it is first
    wanted. Let it depend on the problem alone, not on the number of threads: the two versions round alike only where
    sums have their order written down. A prange index is unsigned: give it to helpers as ``np.int64(index)``, or Numba
    compiles each helper twice. The Numba dispatchers stand in ``.dispatcher`` and ``.serial``.
    """
    dispatcher = _njit(function, parallel=True)
    # Numba's cache does not tell the two apart: each has its folder.
    serial = _njit(function, "serial")

    @functools.wraps(function)
    def launch(*args, parallel=True):
        with _turn:
            return (dispatcher if parallel and not _serial_only else serial)(*args)

    launch.dispatcher = dispatcher
    launch.serial = serial
    return launch
