"""Parallel work: a few Python threads, in each of which torch computes single-threaded.

with single_threaded, ThreadPoolExecutor(N_CORES) as pool:
    list(pool.map(train, members))
"""

from __future__ import annotations

import threading

N_CORES = 2


class SingleThreadedPool:
    """Context in which torch computes in the calling thread: networks do not wait for each other, and sums are
    reproducible.

    Several threads may enter; the last to leave restores the number of threads.
    """

    def __init__(self) -> None:
        self.lock, self.inside, self.before = threading.Lock(), 0, 1

    def __enter__(self) -> None:
        import torch

        with self.lock:
            if not self.inside:
                self.before = torch.get_num_threads()
                torch.set_num_threads(1)
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        import torch

        with self.lock:
            self.inside -= 1
            if not self.inside:
                torch.set_num_threads(self.before)


single_threaded = SingleThreadedPool()
