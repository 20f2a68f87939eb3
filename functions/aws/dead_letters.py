"""The function behind the queue of jobs that failed too often."""

import functions.aws.fast_start  # noqa: F401 - before the others
from functions.aws.process import serving, start
from functions.background import dead_letters

handler = serving(start("dead-letters"), dead_letters.handle)
