"""Replaces itself by the command it is given, which then dies with the process that started it, however that ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent = int(sys.argv[1])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # A shell starts what it runs in the background with Ctrl-C ignored, and so would the command be started.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.getppid() == parent:  # else it died before the call above, and nothing would end the command
        os.execvp(sys.argv[2], sys.argv[2:])
