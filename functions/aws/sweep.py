"""The function that the schedule calls every minute."""

from functions import sweep
from functions.aws.process import serving, start

handler = serving(start("sweep"), sweep.handle)
