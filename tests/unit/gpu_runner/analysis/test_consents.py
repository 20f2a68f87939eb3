"""Checks of consents: the words of the statement, the digits of its code, and the speaker."""

from datetime import UTC, datetime

import pytest

from gpu_runner.analysis.consents import check as consents
from gpu_runner.analysis.consents.statements import StatementMatch, match
from pipeline.audio.reference_audio import encode_wav, encoded
from pipeline.contract.records import ConsentCheck, Source
from pipeline.domain import acceptance
from pipeline.domain.consents import giving, recorded
from pipeline.domain.consents.giving import Terms
from pipeline.domain.consents.statements import statement
from tests.support.analysis import ScriptedAnalysis
from tests.support.engines import ScriptedEngine
from tests.support.fake_service import reference_recording
from tests.support.fakes.resources import Fakes
from tests.support.job_requests import make_request, store_upload, success_of
from tests.support.workers import fake_time_worker
from tests.unit.gpu_runner.analysis.conftest import Speak

WORDS = ["i", "agree", "my", "code", "is"]


@pytest.mark.parametrize(
    ("recognized", "words", "wrong_digits"),
    [
        ("i agree my code is one two three oh five six", 1.0, 0),
        ("i agree my code is one two four zero five six", 1.0, 1),
        ("twenty one i agree my code is one two zero five six", 1.0, 1),
        ("my code is one two three", 0.6, 3),
        ("is code my agree i", 0.2, 6),
        ("", 0.0, 6),
    ],
)
def test_match_of_recognized_words(recognized: str, words: float, wrong_digits: int) -> None:
    assert match(WORDS, "123056", recognized.split()) == StatementMatch(words, wrong_digits)


async def checked(fakes: Fakes, analysis: ScriptedAnalysis | None, language: str = "en") -> ConsentCheck:
    """Give a consent for an upload, and return its check by a worker."""
    source = Source(session_id=await store_upload(fakes.resources))
    terms = Terms("Ann", ["books"])
    consent, _ = await giving.prepare(fakes.resources, None, source, terms, language)
    await giving.give(fakes.resources, None, consent.consent_id, encoded(reference_recording()))
    reading = Source(session_id=consent.consent_id)
    request = make_request(fakes.resources, reading, consent.consent_id, kind="consent")
    await acceptance.accept(fakes.resources, request)
    async with fake_time_worker(fakes, ScriptedEngine(), analysis) as worker:
        await worker.until_ended(request.job_id)
    assert (await success_of(fakes.resources, request)).preview is None
    check = (await recorded.get(fakes.resources, None, consent.consent_id)).record.check
    assert check is not None
    return check


async def test_consent_job_stores_scores(fakes: Fakes) -> None:
    check = await checked(fakes, ScriptedAnalysis())
    assert (check.words, check.wrong_digits, check.speaker, check.is_passed) == (0.9, 1, 0.9, True)
    assert (check.words_min, check.speaker_min) == (consents.WORDS_MIN, consents.SPEAKER_MIN)


@pytest.mark.parametrize("fails", [True, False])
async def test_consent_job_without_analysis(fakes: Fakes, fails: bool) -> None:
    check = await checked(fakes, ScriptedAnalysis(fails=True) if fails else None)
    assert (check.words, check.speaker, check.is_passed) == (None, None, False)


async def test_spoken_statement_is_checked(speak: Speak) -> None:
    now = datetime(2026, 11, 29, tzinfo=UTC)
    text = statement("English", "Alice Smith", "Example Audio", ("audio books",), now, "271506")
    reading = speak(text, 190)
    reference = encode_wav(speak("My father went home to see the children.", 190))
    other_code = text.replace("2 7 1 5 0 6", "9 3 8 8 4 4")
    (same, speaker), (replayed, _), (not_english, same_speaker) = (
        consents.score(reference, encode_wav(reading), spoken)
        for spoken in ((text, "271506"), (other_code, "938844"), None)
    )
    assert same is not None
    assert same.words >= consents.WORDS_MIN
    assert same.wrong_digits <= consents.WRONG_DIGITS_MAX
    assert replayed is not None
    assert replayed.wrong_digits > consents.WRONG_DIGITS_MAX
    assert not_english is None
    assert speaker is not None
    assert speaker == same_speaker
    assert speaker >= consents.SPEAKER_MIN


async def test_other_speech_is_not_statement(speak: Speak) -> None:
    now = datetime(2026, 11, 29, tzinfo=UTC)
    text = statement("English", "Alice Smith", "Example Audio", ("audio books",), now, "271506")
    talk = encode_wav(speak("My father went home to see the children, and they asked him for a story.", 190))
    spoken, _ = consents.score(talk, talk, (text, "271506"))
    assert spoken is not None
    assert spoken.words < consents.WORDS_MIN
    assert spoken.wrong_digits > consents.WRONG_DIGITS_MAX
