"""The function of the events queue."""

from functools import partial

import functions.aws.fast_start  # noqa: F401 - must be imported first
from functions.aws.process import serving, start
from functions.background import notify

_process = start("notify")

handler = serving(_process, partial(notify.handle, lookups=notify.Lookups.of(_process.resources)))
