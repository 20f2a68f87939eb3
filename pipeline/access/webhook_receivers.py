"""The receivers of an owner's webhooks: which URLs are allowed, the owner's default one, and the signing secrets.

Two secrets are valid at a time: a new one is used together with the one before until the next is made.
"""

import re
import secrets
from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

from cachetools import TTLCache

from pipeline.access.key_format import RandomBytes
from pipeline.addresses import is_host, is_loopback, is_public
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.messages.webhooks import SECRET_BYTES, WebhookReceiver, new_secret
from pipeline.errors import InvalidInput, Unavailable
from pipeline.ids import Owner
from pipeline.settings import Settings

URL_MAX = 2048
FIELD = "webhook_url"
_PRINTABLE = re.compile(r"[!-~]+")
_SECRETS_VALID = 2
_CHANGES_TRIED = 10
_CACHE_SIZE, _CACHE_SECONDS = 10_000, 60.0


def check_url(url: str, settings: Settings) -> str:
    """Return a URL if webhooks may be sent to it. The addresses of its host are checked when a webhook is sent.

    Raises
    ------
    InvalidInput
        It is not an https URL of a public host.
    """
    wanted = "should be an https:// URL of a public host, such as https://example.com/webhook"
    if settings.allows_loopback_webhooks:
        wanted += ", or http:// of this machine"
    if len(url) > URL_MAX or not _PRINTABLE.fullmatch(url) or not _may_receive(url, settings):
        raise InvalidInput(
            f"{FIELD} {wanted}, with at most {URL_MAX} characters, without user and fragment.", field=FIELD
        )
    return url


def _may_receive(url: str, settings: Settings) -> bool:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:  # unbalanced brackets, or a port that is not a number
        return False
    if not is_host(host) or port == 0 or parts.username is not None or parts.password is not None or parts.fragment:
        return False
    if is_loopback(host):
        return settings.allows_loopback_webhooks and parts.scheme in {"http", "https"}
    return parts.scheme == "https" and _is_name_or_public(host)


def _is_name_or_public(host: str) -> bool:
    try:
        return is_public(ip_address(host))
    except ValueError:
        return True


async def check_webhook(resources: Resources, owner: Owner, url: str | None) -> str | None:
    """Return the URL of a request's webhook if it can be used.

    Raises
    ------
    InvalidInput
        The URL is not allowed, or the owner has no secret to sign with.
    """
    if url is None:
        return None
    check_url(url, resources.settings)
    if not (await read(resources, owner)).secrets:
        raise InvalidInput(
            "There is no secret yet to sign webhooks with. An operator of the service creates one with "
            "`python -m functions.keys webhook-secret`.",
            field=FIELD,
        )
    return url


async def read(resources: Resources, owner: Owner) -> WebhookReceiver:
    """Return an owner's secrets and default receiver. Both are empty until they are set."""
    body = await resources.voices.get(layout.webhook_receiver(owner))
    return WebhookReceiver.parse_stored(body) or WebhookReceiver()


class DefaultReceivers:
    """The default receivers of owners, cached for a minute. There is one per process."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._urls: TTLCache[Owner, str | None] = TTLCache(
            _CACHE_SIZE, _CACHE_SECONDS, timer=lambda: resources.clock().timestamp()
        )

    async def url_of(self, owner: Owner) -> str | None:
        """Return the default receiver of an owner's webhooks, or None if there is none."""
        if owner not in self._urls:
            self._urls[owner] = (await read(self._resources, owner)).url
        return self._urls.get(owner)


async def make_secret(resources: Resources, owner: Owner, random: RandomBytes = secrets.token_bytes) -> str:
    """Create the secret that webhooks are signed with from now on. Return it, as it can't be shown again.

    The one before stays valid until the next is made: messages are signed with both.
    """
    made = new_secret(random(SECRET_BYTES))
    await _change(
        resources,
        owner,
        lambda before: before.model_copy(update={"secrets": (made, *before.secrets)[:_SECRETS_VALID]}),
    )
    return made


async def set_url(resources: Resources, owner: Owner, url: str | None) -> None:
    """Set the default receiver of an owner's webhooks, or remove it (None).

    Raises
    ------
    InvalidInput
        The URL is not allowed, or the owner has no secret to sign with.
    """
    await check_webhook(resources, owner, url)
    await _change(resources, owner, lambda before: before.model_copy(update={"url": url}))


async def _change(
    resources: Resources, owner: Owner, changed: Callable[[WebhookReceiver], WebhookReceiver]
) -> None:
    """Change an owner's record by compare-and-swap."""
    key = layout.webhook_receiver(owner)
    for _ in range(_CHANGES_TRIED):
        stored = await resources.voices.read(key)
        if stored is None:
            done = await resources.voices.put_once(key, changed(WebhookReceiver()).to_json(), JSON)
        else:
            after = changed(WebhookReceiver.model_validate_json(stored.body))
            done = await resources.voices.replace(key, after.to_json(), JSON, etag=stored.etag)
        if done is not None:
            return
    raise Unavailable("Concurrent writes to the webhook receiver kept conflicting. Try again.")
