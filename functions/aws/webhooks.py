"""The function of the webhooks queue."""

from functools import partial

import functions.aws.fast_start  # noqa: F401 - must be imported first
from functions.aws.process import serving, start
from functions.background import webhooks
from pipeline.clients.webhook_client import webhook_client

_process = start("webhooks")
_client = _process.open(webhook_client(allows_loopback=False))

handler = serving(_process, partial(webhooks.handle, client=_client))
