"""The function of the HTTP API."""

import functions.aws.fast_start  # noqa: F401 - must be imported first
from functions.aws.http_adapter import answering
from functions.aws.process import start

handler = answering(start("api"))
