"""The function that the schedule invokes every minute."""

import functions.aws.fast_start  # noqa: F401 - must be imported first
from functions.aws.process import serving, start
from functions.background import sweep

handler = serving(start("sweep"), sweep.handle)
