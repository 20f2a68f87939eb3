"""Runs a program that must not outlive whoever started it: `python tethered.py (-m MODULE | SCRIPT) [ARGUMENT…]`.

Its standard input is a pipe that only the starter holds.  When that closes, on purpose or because the starter was
killed, the program is asked to stop as by Ctrl-C or `kill`; past a grace it is ended.  This works alike on every
system, and needs nothing but the standard library, because it runs in environments of others too.
"""

import contextlib
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

GRACE_SECONDS = 3.5
KILLED = 137


def main() -> None:
    """Run the program that the arguments name under a tether."""
    threading.Thread(target=_watch, args=(_take_over_stdin(),), daemon=True, name="tether").start()
    if sys.argv[1] == "-m":
        name, sys.argv = sys.argv[2], sys.argv[2:]
        sys.path[0] = str(Path.cwd())
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        sys.argv = sys.argv[1:]
        sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
        runpy.run_path(sys.argv[0], run_name="__main__")


def _take_over_stdin() -> int:
    """Keep the pipe for the tether; the program and its children see an empty input."""
    tether = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return tether


def _watch(tether: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(tether, 1024):
            pass
    if sys.platform == "win32":
        signal.raise_signal(signal.SIGINT)
    else:
        # To the main thread, so that whatever it sleeps in is interrupted.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    if sys.platform != "win32" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # what it started and is stuck too
    os._exit(KILLED)


if __name__ == "__main__":
    main()
