"""The checks of a reference recording. docs/quality.md has the recordings that the limits were calibrated with."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from gpu_runner.analysis.activity import speech_seconds
from gpu_runner.analysis.audio import at_model_rate
from gpu_runner.analysis.opinion import predict_opinion
from gpu_runner.analysis.speakers import similarity_of_halves
from gpu_runner.analysis.transcripts import align, is_english, suggest, syllable_rate
from pipeline.audio.reference_audio import Recording, Samples, decode_wav
from pipeline.contract.records import ReferenceCheck, ReferenceWarning
from pipeline.marking.checkpoints import PackageMissing

SPEECH_MIN, SPEECH_SHORT = 1.0, 3.0  # seconds
RECORDING_LONG = 30.0  # seconds
CLIPPED_SHARE = 0.001  # of the samples, in flat peaks
BACKGROUND_MIN, SIGNAL_MIN = 3.0, 3.2  # opinion scores
HALVES_MIN = 0.8  # similarity
ALIGNMENT_MIN, ALIGNED_MIN = -0.0035, 0.7  # score, and share of the speech
SYLLABLES_MIN, SYLLABLES_MAX = 1.5, 9.0  # per second


@dataclass(slots=True)
class Inspection:
    """A recording, at its own rate and at that of the models, and what the checks have found."""

    recording: Recording
    transcription: str
    samples: Samples
    speech: float | None = None
    """Seconds of speech."""
    measures: dict[str, float] = field(default_factory=dict)
    suggestion: str | None = None


Check = Callable[[Inspection], Iterator[ReferenceWarning]]


def check_wav(wav: bytes, transcription: str) -> ReferenceCheck:
    """Run all checks on a stored reference."""
    return check_reference(decode_wav(wav), transcription)


def nothing_checked() -> ReferenceCheck:
    """Return the result of a worker that can't analyse recordings."""
    return ReferenceCheck(unavailable=tuple(CHECKS))


def check_reference(recording: Recording, transcription: str) -> ReferenceCheck:
    """Run all checks. A check without its package is listed as unavailable."""
    samples = at_model_rate(recording.samples, recording.sample_rate)
    inspection = Inspection(recording, transcription.strip(), samples)
    warnings: list[ReferenceWarning] = []
    unavailable: list[str] = []
    for name, check in CHECKS.items():
        try:
            warnings += check(inspection)
        except PackageMissing:
            unavailable.append(name)
        if inspection.speech is not None and inspection.speech < SPEECH_MIN:
            break  # the others measure speech
    return ReferenceCheck(
        warnings=tuple(warnings),
        unavailable=tuple(unavailable),
        measures={name: round(value, 5) for name, value in inspection.measures.items()},
        suggested_transcription=inspection.suggestion,
    )


def _speech(inspection: Inspection) -> Iterator[ReferenceWarning]:
    inspection.speech = inspection.measures["speech_seconds"] = speech_seconds(inspection.samples)
    if inspection.speech < SPEECH_MIN:
        yield _warning(
            "no_speech",
            f"The recording has {inspection.speech:.1f} s of speech.",
            "Record 5 to 15 seconds of speech, without music.",
        )
    elif inspection.speech < SPEECH_SHORT:
        yield _warning(
            "short_speech",
            f"The recording has only {inspection.speech:.1f} s of speech.",
            "Record 5 to 15 seconds of speech.",
        )


def _length(inspection: Inspection) -> Iterator[ReferenceWarning]:
    seconds = inspection.measures["seconds"] = inspection.recording.duration_seconds
    if seconds > RECORDING_LONG:
        yield _warning(
            "long_recording",
            f"The recording lasts {seconds:.0f} s.",
            "Choose the best 5 to 15 seconds. A longer recording slows down each preview.",
        )


def _clipping(inspection: Inspection) -> Iterator[ReferenceWarning]:
    share = inspection.measures["clipped_share"] = _flat_share(inspection.recording.samples)
    if share > CLIPPED_SHARE:
        yield _warning(
            "clipping",
            f"{100 * share:.1f} % of the samples are clipped.",
            "Lower the level of the microphone, or move away from it, and record again.",
        )


def _flat_share(samples: Samples) -> float:
    """Return the share of samples in flat peaks: clipping, also if the audio was attenuated afterwards."""
    flat = (samples[1:-1] == samples[:-2]) & (samples[1:-1] == samples[2:])
    loud = np.abs(samples[1:-1]) >= 0.9 * np.abs(samples).max()
    return float(np.mean(flat & loud))


def _sound(inspection: Inspection) -> Iterator[ReferenceWarning]:
    opinion = predict_opinion(inspection.samples)
    inspection.measures |= {"background_score": opinion.background, "signal_score": opinion.signal}
    if opinion.background < BACKGROUND_MIN:
        yield _warning(
            "noise",
            f"The recording has background noise: {opinion.background:.1f} of 5 points.",
            "Record in a quiet room, without music, fans or traffic.",
        )
    if opinion.signal < SIGNAL_MIN:
        yield _warning(
            "distorted_speech",
            f"The speech is reverberant or distorted: {opinion.signal:.1f} of 5 points.",
            "Record close to the microphone, in a room with carpets or curtains, without effects.",
        )


def _speakers(inspection: Inspection) -> Iterator[ReferenceWarning]:
    similarity = similarity_of_halves(inspection.samples)
    if similarity is None:
        return
    inspection.measures["similarity_of_parts"] = similarity
    if similarity < HALVES_MIN:
        yield _warning(
            "several_speakers",
            "Parts of the recording seem to be spoken by different people.",
            "Use a recording, or a part of it, with one speaker.",
        )


def _transcription(inspection: Inspection) -> Iterator[ReferenceWarning]:
    if not inspection.transcription:
        inspection.suggestion = suggest(inspection.samples)
    elif not _matches(inspection):
        yield _warning(
            "transcription_mismatch",
            "The transcription does not match the recording.",
            "Write exactly the words of the recording, or leave the transcription blank.",
        )


def _matches(inspection: Inspection) -> bool:
    """Align an English transcription. Otherwise check only the speaking rate."""
    text, speech = inspection.transcription, inspection.speech
    seconds = inspection.recording.duration_seconds if speech is None else speech
    if not is_english(text):
        rate = inspection.measures["syllables_per_second"] = syllable_rate(text, seconds)
        return SYLLABLES_MIN <= rate <= SYLLABLES_MAX
    alignment = align(inspection.samples, text)
    if alignment is None:
        return False
    aligned = alignment.seconds / seconds
    inspection.measures |= {"alignment_score": alignment.score, "aligned_share": aligned}
    return alignment.score >= ALIGNMENT_MIN and (speech is None or aligned >= ALIGNED_MIN)


def _warning(code: str, message: str, advice: str) -> ReferenceWarning:
    return ReferenceWarning(code=code, message=message, advice=advice)


CHECKS: dict[str, Check] = {
    "speech": _speech,
    "length": _length,
    "clipping": _clipping,
    "sound": _sound,
    "speakers": _speakers,
    "transcription": _transcription,
}
