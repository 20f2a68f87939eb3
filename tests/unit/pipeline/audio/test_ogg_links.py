"""Chained Ogg files are decoded completely, or refused."""

import pytest

from pipeline.audio.ogg_links import LINKS_MAX, split_links
from pipeline.audio.reference_audio import decode_reference
from pipeline.errors import InvalidAudio
from pipeline.settings import Settings
from tests.support.recordings import encoded, tone

SETTINGS = Settings()
VORBIS = encoded(tone(1.5, rate=48_000), "OGG", "VORBIS", 48_000)
OPUS = encoded(tone(2, rate=48_000), "OGG", "OPUS", 48_000)
STEREO = encoded(tone(1, rate=48_000, channels=2), "OGG", "VORBIS", 48_000)


@pytest.mark.parametrize(
    ("links", "seconds"),
    [([VORBIS], 1.5), ([OPUS], 2), ([VORBIS] * 3, 4.5), ([OPUS] * 3, 6), ([VORBIS, OPUS, STEREO], 4.5)],
)
@pytest.mark.parametrize("between", [b"", b"junk", bytes(100)])
def test_ogg_chained(links: list[bytes], seconds: float, between: bytes) -> None:
    recording = decode_reference(between.join(links) + between, SETTINGS)
    assert recording.duration_seconds == pytest.approx(seconds, abs=0.02)


def test_ogg_chained_rates_are_refused() -> None:
    with pytest.raises(InvalidAudio, match="sample rates 16000 and 48000 Hz"):
        decode_reference(VORBIS + encoded(None, "OGG", "VORBIS"), SETTINGS)


def test_ogg_chained_too_long() -> None:
    with pytest.raises(InvalidAudio, match=r"lasts 61\.5 s"):
        decode_reference(VORBIS * 41, SETTINGS)


@pytest.mark.parametrize("missing", [1, 20, 500])
def test_ogg_last_link_truncated(missing: int) -> None:
    with pytest.raises(InvalidAudio, match="truncated"):
        decode_reference((VORBIS * 2)[:-missing], SETTINGS)


def test_ogg_too_many_links() -> None:
    page = OPUS[: OPUS.index(b"OggS", 4)]
    with pytest.raises(InvalidAudio, match=f"more than {LINKS_MAX} parts"):
        split_links((page + OPUS[OPUS.index(b"OggS", 4) :]) * (LINKS_MAX + 1))
    with pytest.raises(InvalidAudio, match="parts"):
        split_links(b"OggS" + bytes(23) + (b"OggS" + bytes(23)) * 200_000)
