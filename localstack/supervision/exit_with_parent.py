"""Runs a program that must not outlive its parent: `python exit_with_parent.py (-m MODULE | SCRIPT) [ARGUMENT…]`.

Its standard input is a pipe that only the parent holds.  When it closes, deliberately or because the parent was
killed, the program is stopped as by Ctrl-C or `kill`; after a grace period it is killed.  This works the same
on every system, and needs only the standard library, because it also runs in other virtual environments.

The program leaves no incomplete bytecode when the disk is full.
"""

import contextlib
import os
import runpy
import signal
import sys
import threading
import time
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

GRACE_SECONDS = 3.5
EXIT_CODE_KILLED = 137


def main() -> None:
    """Run the program that the arguments name, and stop it when the parent has exited."""
    threading.Thread(target=_stop_at_end_of, args=(_take_over_stdin(),), daemon=True, name="parent-watch").start()
    _remove_incomplete_bytecode()
    if sys.argv[1] == "-m":
        name, sys.argv = sys.argv[2], sys.argv[2:]
        sys.path[0] = str(Path.cwd())
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        sys.argv = sys.argv[1:]
        sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
        runpy.run_path(sys.argv[0], run_name="__main__")


def _remove_incomplete_bytecode() -> None:
    """Remove each bytecode file that was not written completely, because the disk is full.

    Python 3.11 keeps such a file, and all later imports of its module fail (CPython issue 126606).
    """
    write = SourceFileLoader.set_data

    def write_completely(self: SourceFileLoader, path: str, data: bytes, **options: Any) -> None:
        write(self, path, data, **options)
        file = Path(path)
        with contextlib.suppress(OSError):
            if file.stat().st_size < len(data):
                file.unlink()

    SourceFileLoader.set_data = write_completely  # type: ignore[assignment]


def _take_over_stdin() -> int:
    """Return a file descriptor of the pipe; the program and its children get an empty standard input."""
    pipe = os.dup(0)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return pipe


def _stop_at_end_of(pipe: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(pipe, 1024):
            pass
    if sys.platform == "win32":
        signal.raise_signal(signal.SIGINT)
    else:
        # To the main thread, to interrupt blocking calls.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    if sys.platform != "win32" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # its children, too
    os._exit(EXIT_CODE_KILLED)


if __name__ == "__main__":
    main()
