"""The check of a consent's recording: the words of its statement, and the speaker of the reference.

The limits are chosen from the error rates in docs/consents.md.
"""

from contextlib import suppress

from gpu_runner.analysis.consents.statements import StatementMatch, compare
from gpu_runner.analysis.process import AnalysisFailed, AnalysisProcess
from gpu_runner.analysis.speaker import embed, similarity
from pipeline.audio.reference_audio import decode_wav
from pipeline.clients.resources import Resources
from pipeline.contract.records import ConsentCheck, RecordedConsent, Request
from pipeline.domain.consents import recorded
from pipeline.domain.consents.giving import reference_wav
from pipeline.marking.checkpoints import PackageMissing

WORDS_MIN = 0.5
WRONG_DIGITS_MAX = 1
SPEAKER_MIN = 0.75

Scores = tuple[StatementMatch | None, float | None]


async def check_consent(resources: Resources, process: AnalysisProcess | None, request: Request) -> None:
    """Check the recording of a consent, and store the scores with it. None for scores that can't be computed.

    Raises
    ------
    NotFound
        The consent, its recording or its reference was deleted.
    """
    consent_id, owner = request.reference_id, request.source.owner
    stored = await recorded.get(resources, owner, consent_id)
    recording = await recorded.recording_of(resources, stored)
    scores: Scores = None, None
    if process is not None and stored.record.reference is not None:
        reference = await reference_wav(resources, stored.record.reference)
        with suppress(AnalysisFailed):
            scores = await process.run(score, reference, recording, statement_of(stored.record))
    await recorded.change(resources, consent_id, check=_check(resources, scores))


def statement_of(record: RecordedConsent) -> tuple[str, str] | None:
    """Return the statement and its code if the words can be recognized: only English ones."""
    return (record.text, record.code) if record.language == "English" and record.code else None


def score(reference: bytes, recording: bytes, statement: tuple[str, str] | None) -> Scores:
    """Compare a recording (WAV) with its statement and with the speaker of the reference (WAV)."""
    spoken, sample = decode_wav(recording), decode_wav(reference)
    match, likeness = None, None
    with suppress(PackageMissing):
        match = compare(spoken.samples, spoken.sample_rate, *statement) if statement else None
    with suppress(PackageMissing):
        speakers = [embed(one.samples, one.sample_rate) for one in (spoken, sample)]
        likeness = round(similarity(*speakers), 3)
    return match, likeness


def _check(resources: Resources, scores: Scores) -> ConsentCheck:
    match, likeness = scores
    return ConsentCheck(
        checked_at=resources.clock(),
        words=match.words if match else None,
        words_min=WORDS_MIN,
        wrong_digits=match.wrong_digits if match else None,
        wrong_digits_max=WRONG_DIGITS_MAX,
        speaker=likeness,
        speaker_min=SPEAKER_MIN,
    )
