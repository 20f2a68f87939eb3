"""Manifests in the files that a process makes."""

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from pipeline.clients.resources import Resources
from pipeline.environment import SettingsError, pem
from pipeline.errors import Unavailable
from pipeline.marking import manifest
from pipeline.marking.manifest import InvalidCredentials, Origin, Signer, SigningFailed
from pipeline.marking.marks import is_active
from pipeline.settings import Settings

log = structlog.get_logger(__name__)


class Manifests:
    """Adds manifests to files, if `MARK` chooses them. One per process.

    Raises
    ------
    SettingsError
        Manifests are required and unavailable, or the certificates of the settings can't be used.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._is_active = is_active("c2pa", resources.settings, missing=manifest.missing_package())
        self._loading = asyncio.Lock()
        anchors = resources.settings.mark_trust_anchors
        self.trust_anchors = pem(anchors, "MARK_TRUST_ANCHORS") if anchors else ""
        self._signer = _configured(resources.settings) if self._is_active else None

    async def add(self, body: bytes, media_type: str, origin: Origin) -> bytes:
        """Return a file with a manifest; unchanged if there is none for its format, or `MARK` does not choose it.

        Raises
        ------
        Unavailable
            The certificate can't be read, or the file can't be signed and `MARK_REQUIRED` is set.
        """
        sign = await self.signing(media_type)
        return await asyncio.to_thread(sign, body, origin)

    async def signing(self, media_type: str) -> Callable[[bytes, Origin], bytes]:
        """Return a function that adds manifests to files of this type, for threads that also do other work.

        Both raise as `add`.
        """
        if not self._is_active or media_type not in manifest.MEDIA_TYPES:
            return lambda body, _origin: body
        return partial(self._sign, await self._loaded(), media_type)

    def _sign(self, signer: Signer, media_type: str, body: bytes, origin: Origin) -> bytes:
        try:
            return signer.sign(body, media_type, origin)
        except SigningFailed as error:
            log.error("manifest not added", reason=str(error))  # noqa: TRY400 - the reason says it all
            if self._resources.settings.mark_required:
                raise Unavailable("The audio can't be signed.") from None
            return body

    async def copy(self, wav: bytes, body: bytes, media_type: str, job_id: str) -> bytes:
        """Return the encoded form of a stored preview with the manifest of the preview. Raises as `add`."""
        if not self._is_active or media_type not in manifest.MEDIA_TYPES:
            return body
        stored = await asyncio.to_thread(manifest.read, wav, "audio/wav")
        settings = self._resources.settings
        unknown = Origin(job_id, self._resources.clock(), settings.tts_backend)
        return await self.add(body, media_type, (stored.origin if stored else None) or unknown)

    async def serial_number(self) -> str | None:
        """Return the serial number of the service's certificate, or None without manifests."""
        return (await self._loaded()).serial_number if self._is_active else None

    async def _loaded(self) -> Signer:
        async with self._loading:
            if self._signer is None:
                from pipeline.provenance import certificates  # here, as its imports take a tenth of a cold start

                self._signer = Signer(await certificates.shared(self._resources))
        return self._signer


def _configured(settings: Settings) -> Signer | None:
    """Return the signer with the certificate of the settings, or None if there is none."""
    if settings.mark_certificate is None and settings.mark_private_key is None:
        return None
    from pipeline.provenance import certificates

    try:
        return Signer(certificates.configured(settings))
    except InvalidCredentials as error:
        raise SettingsError(f"MARK_CERTIFICATE: {error}") from None
