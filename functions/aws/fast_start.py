"""What makes a function's process start faster; the entry points import it before anything else."""

import gc
import ssl
from typing import Any

# The collector goes through everything that imports leave behind, again and again, and finds nothing: a sixth of a
# cold start.  `process.start` turns it on again.
gc.disable()


class LazyCertificates(ssl.SSLContext):
    """A client's context that reads the machine's certificates at its first connection."""

    are_read = False

    def wrap_bio(self, *bios: Any, **more: Any) -> ssl.SSLObject:
        """See `ssl.SSLContext`."""
        if not self.are_read:
            self.load_default_certs()
            self.are_read = True
        return super().wrap_bio(*bios, **more)


def _import_aiohttp() -> None:
    """Import it without the context that it makes for connections which most functions never open.

    Reading the machine's certificates is a tenth of a cold start; the AWS clients bring certificates of their own.
    """
    made, ssl.create_default_context = ssl.create_default_context, _lazy_context
    try:
        import aiohttp  # noqa: F401
    finally:
        ssl.create_default_context = made


def _lazy_context(*_: Any, **__: Any) -> ssl.SSLContext:
    return LazyCertificates(ssl.PROTOCOL_TLS_CLIENT)


_import_aiohttp()
