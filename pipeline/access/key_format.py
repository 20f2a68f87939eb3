"""The form of an API key: `vck_<key_id>_<secret><checksum>`.

The prefix and the checksum let secret scanners identify a leaked key, and let the service reject a mistyped one
without a look-up.  Only the SHA-256 of the secret is stored.  That is enough: the secret is 256 random bits, which
neither a dictionary nor a brute-force attack can find, so a slow hash would cost time in every request without any
benefit.
"""

import hashlib
import hmac
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from string import ascii_lowercase, ascii_uppercase, digits

RandomBytes = Callable[[int], bytes]

PREFIX = "vck_"
_ID_DIGITS = digits + ascii_lowercase
ID_LENGTH = 12
_BASE62 = digits + ascii_uppercase + ascii_lowercase
_SECRET_BYTES = 32
_SECRET_LENGTH = 43
_CHECKSUM_LENGTH = 6
_KEY_ID = re.compile(rf"[0-9a-z]{{{ID_LENGTH}}}")
_KEY = re.compile(
    rf"(?P<checked>{PREFIX}(?P<key_id>{_KEY_ID.pattern})_(?P<secret>[0-9A-Za-z]{{{_SECRET_LENGTH}}}))"
    rf"(?P<checksum>[0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})"
)
_NO_DIGEST = "0" * 64


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """A key as the caller sent it, before its digest is compared."""

    key_id: str
    digest: str = field(repr=False)


def is_key_id(text: str) -> bool:
    """Return whether the text has the form of a key's id."""
    return _KEY_ID.fullmatch(text) is not None


def key_id_of(text: str) -> str:
    """Return the id in a presented key, whether or not the key is valid, or "" if it has none."""
    match = _KEY.fullmatch(text)
    return match["key_id"] if match else ""


def parse(text: str) -> PresentedKey | None:
    """Parse a key. Return None if its form or its checksum is wrong."""
    match = _KEY.fullmatch(text)
    if match is None or match["checksum"] != checksum(match["checked"]):
        return None
    return PresentedKey(match["key_id"], digest_of(match["secret"]))


def digest_of(secret: str) -> str:
    """Return the digest of a secret, which is stored instead of the secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def digest_matches(digest: str, stored: str | None) -> bool:
    """Compare a secret's digest with the stored one, if there is one, in constant time."""
    # Compared with a digest of zeros, which no secret has, so that a missing key takes the same time.
    return hmac.compare_digest(digest.encode(), (stored or _NO_DIGEST).encode())


def key_text(key_id: str, secret: str) -> str:
    """Return the text of a key, which its owner is shown once."""
    checked = f"{PREFIX}{key_id}_{secret}"
    return checked + checksum(checked)


def random_id(random: RandomBytes) -> str:
    """Return a new key id."""
    # Twice the bits that are needed, so that all ids are almost equally likely.
    return _in_digits(int.from_bytes(random(16)), _ID_DIGITS, ID_LENGTH)


def random_secret(random: RandomBytes) -> str:
    """Return a new secret."""
    return _in_digits(int.from_bytes(random(_SECRET_BYTES)), _BASE62, _SECRET_LENGTH)


def checksum(text: str) -> str:
    """Return the checksum that ends a key, computed from the characters before it."""
    return _in_digits(zlib.crc32(text.encode()), _BASE62, _CHECKSUM_LENGTH)


def _in_digits(number: int, alphabet: str, length: int) -> str:
    """Return the lowest `length` digits of a number in the given alphabet."""
    written = ""
    for _ in range(length):
        number, digit = divmod(number, len(alphabet))
        written = alphabet[digit] + written
    return written
