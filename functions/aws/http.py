"""The function behind the HTTP API."""

import functions.aws.fast_start  # noqa: F401 - before the others
from functions.aws.http_adapter import answering
from functions.aws.process import start

handler = answering(start("api"))
