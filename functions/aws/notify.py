"""The function behind the events queue."""

from functools import partial

from functions import notify
from functions.aws.process import serving, start
from pipeline.keyring import Keyring

_process = start("notify")

handler = serving(_process, partial(notify.handle, keyring=Keyring(_process.resources)))
