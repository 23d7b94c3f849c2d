"""What the process does with memory that it is done with."""

import asyncio
import ctypes
import gc

# What a tick allocates is soon free again by reference counts. A full collection would stop the loop, for 70 ms and
# more at 10,000 models: it comes by itself only after 100 million allocations. Smaller ones come seldom enough that an
# answer being read is not taken for something old: at a fifth, 30 MB of pages were.
THRESHOLDS = (10_000, 5, 2_000)
# Seconds. Only a full collection frees a circle of objects that was in use for longer, as each connection that breaks
# leaves one: without it, `make soak` took 1 MB more each minute.
COLLECT_EVERY = 60.0
# Objects that it may look through, at 0.3 us each. More are a fleet of thousands of models that has just been read.
MOST_LOOKED_THROUGH = 60_000
# Of malloc.h. By default each thread keeps what it freed for itself, and a block of a size that was freed once is kept:
# at 100,000 models 40 of 480 MB.
M_ARENA_MAX, M_MMAP_THRESHOLD, LARGE_BLOCK = -8, -3, 2**17


def give_memory_back() -> None:
    """Have freed memory shared by all threads, and large blocks returned at once; glibc alone knows this."""
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)


async def keep_collecting() -> None:
    """Collect from now on, but for what is there already; ends only by being cancelled."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    while True:
        await asyncio.sleep(COLLECT_EVERY)
        collect_old()


def collect_old() -> None:
    """Free what is old and in no use, or leave out all that is there now, if it is too much to look through."""
    if len(gc.get_objects(generation=2)) > MOST_LOOKED_THROUGH:
        gc.freeze()
    else:
        gc.collect()
