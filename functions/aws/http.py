"""The function behind the HTTP API."""

import functions.aws.fast_start  # noqa: F401 - before the others
from functions.aws.process import start
from functions.aws.requests import answering

handler = answering(start("api"))
