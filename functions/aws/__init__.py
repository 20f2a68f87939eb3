"""The entry points as AWS Lambda calls them: one module a function, each wired when Lambda imports it."""

import os

# aiohttp reads the machine's certificates twice when it is imported, a tenth of a cold start, for connections that
# are not made here: the AWS clients bring certificates of their own.  Without any, such a connection is refused.
os.environ.setdefault("SSL_CERT_FILE", os.devnull)
