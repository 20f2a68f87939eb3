"""The function of the dead-letter queue."""

import functions.aws.fast_start  # noqa: F401 - must be imported first
from functions.aws.process import serving, start
from functions.background import dead_letters

handler = serving(start("dead-letters"), dead_letters.handle)
