"""Shifts the wall clock of a Python process, which imports this module if its folder is in PYTHONPATH.

The file in `SHIFTED_CLOCK` has the offset in seconds. After a jump of libfaketime, `time.sleep` would fail.
"""

import ctypes
import datetime
import gc
import os
import time
from pathlib import Path
from typing import Any

_CHECK_SECONDS = 0.2
_file = Path(os.environ["SHIFTED_CLOCK"])
_time, _time_ns = time.time, time.time_ns
_real_now, _real_utcnow = datetime.datetime.now, datetime.datetime.utcnow
_offset, _checked_at = 0.0, float("-inf")


def offset() -> float:
    """Return the current offset in seconds."""
    global _offset, _checked_at
    if time.monotonic() - _checked_at > _CHECK_SECONDS:
        _offset, _checked_at = float(_file.read_text()), time.monotonic()
    return _offset


def _now(_class: Any, tz: datetime.tzinfo | None = None) -> datetime.datetime:
    return _real_now(tz) + datetime.timedelta(seconds=offset())


def _utcnow(_class: Any) -> datetime.datetime:
    return _real_utcnow() + datetime.timedelta(seconds=offset())


time.time = lambda: _time() + offset()
time.time_ns = lambda: _time_ns() + int(offset() * 1e9)
# The attributes of a built-in class can only be set in its dictionary.
(_members,) = gc.get_referents(datetime.datetime.__dict__)
_members["now"], _members["utcnow"] = classmethod(_now), classmethod(_utcnow)
ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.datetime))
