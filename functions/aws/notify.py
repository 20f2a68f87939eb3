"""The function behind the events queue."""

from functions import notify
from functions.aws.process import serving, start

handler = serving(start("notify"), notify.handle)
