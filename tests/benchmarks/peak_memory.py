"""Peak memory of processes."""

from pathlib import Path

import psutil


def peak_bytes(pid: int) -> int:
    """Return the peak resident memory of a process. Without /proc, return the current one.

    `getrusage` is not used, because its value includes the parent's memory before `exec`.
    """
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return int(psutil.Process(pid).memory_info().rss)
