"""Optimizations of a function's cold start; the entry points import this module first."""

import gc
import ssl
from typing import Any

# Garbage collection during the imports frees almost nothing and takes a sixth of a cold start.  `process.start`
# enables it again.
gc.disable()


class LazyCertificates(ssl.SSLContext):
    """A client context that loads the system's certificates at its first connection."""

    are_read = False

    def wrap_bio(self, *bios: Any, **more: Any) -> ssl.SSLObject:
        """See `ssl.SSLContext`."""
        if not self.are_read:
            self.load_default_certs()
            self.are_read = True
        return super().wrap_bio(*bios, **more)


def _import_aiohttp() -> None:
    """Import aiohttp without the default SSL context that it creates, which most functions never use.

    Loading the system's certificates is a tenth of a cold start; the AWS clients use certificates of their own.
    """
    made, ssl.create_default_context = ssl.create_default_context, _lazy_context
    try:
        import aiohttp  # noqa: F401
    finally:
        ssl.create_default_context = made


def _lazy_context(*_: Any, **__: Any) -> ssl.SSLContext:
    return LazyCertificates(ssl.PROTOCOL_TLS_CLIENT)


_import_aiohttp()
