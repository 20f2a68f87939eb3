"""The function behind the HTTP API."""

from functions.aws.process import start
from functions.aws.requests import answering

handler = answering(start("api"))
