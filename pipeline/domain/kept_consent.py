"""The copy of its speaker's consent that a saved voice keeps, until the voice is deleted.

The text is in the voice's `metadata.json`, and the recording, if there is one, in `consent.wav` with its reference.
A recorded consent of `voice_consents` expires as an upload does. The copy does not.
"""

from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.records import KeptConsent, VoiceMetadata
from pipeline.domain import voice_consents
from pipeline.ids import Owner


async def copy_of_recorded(resources: Resources, owner: Owner, consent_id: str) -> tuple[str, bytes]:
    """Return the text and the recording (WAV) to keep of a recorded consent.

    Raises
    ------
    NotFound
        There is no such consent, or it has expired.
    """
    stored = await voice_consents.get(resources, owner, consent_id)
    text = stored.record.text or f"Recorded consent: {stored.record.name} ({stored.record.language})"
    return text, await voice_consents.recording_of(resources, stored)


def with_kept_consent(voice: VoiceMetadata, text: str, *, has_recording: bool) -> VoiceMetadata:
    """Return the metadata with the consent that the voice keeps, or without if the text is blank."""
    if not text:
        return voice
    recording_file = layout.voice_files(voice).kept_consent_audio if has_recording else None
    kept = KeptConsent(text=text, given_at=voice.created_at, recording_file=recording_file)
    return voice.model_copy(update={"consent": kept})


async def recording_of(resources: Resources, voice: VoiceMetadata) -> bytes | None:
    """Return the recording (WAV) of the consent that a voice keeps, or None if there is none."""
    if voice.consent is None or voice.consent.recording_file is None:
        return None
    return await resources.voices.get(voice.consent.recording_file)
