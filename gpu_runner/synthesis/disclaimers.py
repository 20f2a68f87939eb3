"""Adds audible labels to the audio of jobs: at the start, and in pauses of long audio."""

from dataclasses import replace

import numpy as np

from gpu_runner.engines import Announcement, Utterance, hash_of
from gpu_runner.synthesis.engine_loop import OnAudio, Speech
from gpu_runner.synthesis.prompt_store import Voice
from gpu_runner.synthesis.watermarking import Synthesize
from pipeline.audio.reference_audio import Samples
from pipeline.clients.resources import Resources
from pipeline.contract.records import Request
from pipeline.provenance.disclaimers import SENTENCES, DisclaimerLookup, DisclaimerSettings

GAP_SECONDS = 0.4  # of silence, around each label
FRAME_SECONDS = 0.02
# hibari pauses for up to 0.3 s within a sentence, and for 0.7 s between sentences. qwen joins its parts with at
# least 0.35 s. So a long pause is awaited for some time, then a short one is used.
LONG_PAUSE_SECONDS, SHORT_PAUSE_SECONDS, PATIENCE_SECONDS = 0.5, 0.32, 15
PAUSE_LEVEL = 10 ** (-35 / 20)  # relative to the loudest sample so far

# "AI" in Morse code: the seconds of each tone, and of the silence after it.
RHYTHM = ((0.1, 0.1), (0.3, 0.3), (0.1, 0.1), (0.1, 0.0))
TONE_HERTZ, TONE_LEVEL, FADE_SECONDS = 1000, 0.1, 0.005


class Disclaimers:
    """Creates the announcements of jobs. A sentence is generated once per voice and language, and kept with it."""

    def __init__(self, resources: Resources, synthesize: Synthesize, sample_rate: int) -> None:
        self._synthesize = synthesize
        self._rate = sample_rate
        self.settings_of = DisclaimerLookup(resources).of

    async def announcement(
        self, request: Request, voice: Voice, settings: DisclaimerSettings
    ) -> Announcement | None:
        """Return the labels that the settings require, or None.

        Raises
        ------
        InvalidInput
            The engine does not speak the language of the disclaimer.
        """
        labels = [rhythm(self._rate)] if settings.chinese_label else []
        if settings.spoken:
            language = request.options.language
            labels.append(
                await self._sentence(request, voice, settings.language if language == "Auto" else language)
            )
        if not labels:
            return None
        gap = np.zeros(round(GAP_SECONDS * self._rate), np.float32)
        return Announcement(
            np.concatenate([part for label in labels for part in (label, gap)]), settings.interval_minutes * 60
        )

    async def _sentence(self, request: Request, voice: Voice, language: str) -> Samples:
        async with voice.announcing:
            if language not in voice.sentences:
                # The seed does not depend on the job, so that every worker generates the same audio.
                options = request.options.model_copy(
                    update={"language": language, "seed": hash_of(language) % 2**53, "max_seconds": None}
                )
                utterance = Utterance(f"{request.job_id}-disclaimer", SENTENCES[language], voice.prompt, options)
                voice.sentences[language] = (await self._synthesize(utterance, _discard)).samples
            return voice.sentences[language]


class Announcing:
    """Inserts announcements into the audio of jobs while it is generated."""

    def __init__(self, synthesize: Synthesize, sample_rate: int) -> None:
        self._synthesize = synthesize
        self._rate = sample_rate

    async def synthesize(self, utterance: Utterance, on_audio: OnAudio) -> Speech:
        """Synthesize an utterance as `EngineThread.synthesize` does, with its announcement."""
        if utterance.announcement is None:
            return await self._synthesize(utterance, on_audio)
        inserter, added = Inserter(utterance.announcement, self._rate), list[Samples]()

        def add(samples: Samples) -> None:
            if len(samples):
                added.append(samples)
                on_audio(samples)

        speech = await self._synthesize(utterance, lambda samples: add(inserter.add(samples)))
        add(inserter.finish())
        return replace(speech, samples=np.concatenate(added))


class Inserter:
    """Inserts an announcement at the start of speech, and in its next pause after each interval."""

    def __init__(self, announcement: Announcement, sample_rate: int) -> None:
        gap = np.zeros(round(GAP_SECONDS * sample_rate), np.float32)
        self._repeated = np.concatenate([gap, announcement.samples])
        self._held = announcement.samples[:0]
        self._intro: Samples | None = announcement.samples
        self._frame = round(FRAME_SECONDS * sample_rate)
        self._interval = announcement.interval_seconds
        self._since = self._quiet = 0  # frames
        self._loudest = 0.0

    def add(self, samples: Samples) -> Samples:
        """Return the samples that are ready, with announcements. Less than a frame is held."""
        samples = np.concatenate([self._held, samples])
        whole = len(samples) - len(samples) % self._frame
        self._held = samples[whole:]
        ready = [] if self._intro is None else [self._intro]
        self._intro = None
        for frame in samples[:whole].reshape(-1, self._frame):
            ready.append(frame)
            if self._is_due(float(np.abs(frame).max())):
                ready.append(self._repeated)
                self._since = 0
        return np.concatenate([samples[:0], *ready])

    def finish(self) -> Samples:
        """Return the rest."""
        return self._held

    def _is_due(self, peak: float) -> bool:
        """Return whether the frame with this peak completes a pause after the interval."""
        self._loudest = max(self._loudest, peak)
        self._quiet = self._quiet + 1 if peak < self._loudest * PAUSE_LEVEL else 0
        self._since += 1
        overdue = self._since * FRAME_SECONDS - self._interval
        pause = LONG_PAUSE_SECONDS if overdue < PATIENCE_SECONDS else SHORT_PAUSE_SECONDS
        return overdue > 0 and self._quiet * FRAME_SECONDS >= pause


def rhythm(sample_rate: int) -> Samples:
    """Return short-long, short-short as tones."""
    parts: list[Samples] = []
    for seconds, silence in RHYTHM:
        time = np.arange(round(seconds * sample_rate)) / sample_rate
        fade = np.minimum(1, np.minimum(time, time[::-1]) / FADE_SECONDS)
        parts.append((TONE_LEVEL * fade * np.sin(2 * np.pi * TONE_HERTZ * time)).astype(np.float32))
        parts.append(np.zeros(round(silence * sample_rate), np.float32))
    return np.concatenate(parts)


def _discard(_samples: Samples) -> None:
    """Ignore audio that is used when it is complete."""
