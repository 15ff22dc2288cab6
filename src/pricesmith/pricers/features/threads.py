"""How work is put on cores: a few threads of ours, each of which computes alone.

with one_thread_each, ThreadPoolExecutor(CORES) as pool:
    list(pool.map(train, members))
"""

from __future__ import annotations

import threading

N_CORES = 2


class SingleThreadedPool:
    """Inside, torch computes a thread's work in that thread: members do not wait, and sums keep their order.

    Threads may be inside together; the last to leave puts back what the first has found.
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
