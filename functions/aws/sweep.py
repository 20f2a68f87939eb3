"""The function that the schedule calls every minute."""

import functions.aws.fast_start  # noqa: F401 - before the others
from functions.aws.process import serving, start
from functions.background import sweep

handler = serving(start("sweep"), sweep.handle)
