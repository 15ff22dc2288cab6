"""Ctrl-C ends a command within two seconds, also while a library computes outside Python.

Python raises KeyboardInterrupt between two bytecodes, so a long call into compiled code delays it. A thread learns of
the signal at once (`signal.set_wakeup_fd`) and ends the process if it is still there after the grace period. That is
as safe as a kill: every file is written to a temporary name, and the same command resumes.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time

from pricesmith.core.console import INTERRUPTED_MESSAGE

GRACE = 1.3  # seconds
SHOW_CURSOR = "\x1b[?25h"


def install_interrupt_guard() -> None:
    """Start the thread that ends this process soon after SIGINT. Only the main thread of the program may call this."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=watch, args=(reader, writer), daemon=True, name="interrupt-guard").start()


def watch(reader: socket.socket, writer: socket.socket) -> None:
    """Wait for SIGINT, then for the grace period, then end the process with exit code 130. `writer` is kept open."""
    while True:
        received = reader.recv(64)
        if not received:
            return
        if signal.SIGINT in received and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            break
    time.sleep(GRACE)
    cursor = SHOW_CURSOR if sys.stderr.isatty() else ""
    # The main thread may hold the lock of sys.stderr, so this writes to the file descriptor.
    os.write(2, f"{cursor}{INTERRUPTED_MESSAGE}\n".encode())
    os._exit(130)
