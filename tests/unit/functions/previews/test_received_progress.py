"""The reports of a worker that have not been read."""

from functions.previews.received_progress import ReceivedProgress
from pipeline.contract.messages.stream_messages import AudioProgress, StreamStarted


def started(take: str) -> StreamStarted:
    return StreamStarted(job_id="j", take=take)


def progress(take: str, seconds: float) -> AudioProgress:
    return AudioProgress(job_id="j", take=take, audio_seconds=seconds)


def test_last_report_of_each_kind() -> None:
    received = ReceivedProgress()
    for report in (started("a"), progress("a", 0.3), progress("a", 0.6)):
        received.add(report)
    assert received.take() == [started("a"), progress("a", 0.6)]
    assert not received.has_news


def test_new_take_replaces_reports() -> None:
    received = ReceivedProgress()
    for report in (started("a"), progress("a", 0.3), started("b")):
        received.add(report)
    assert received.take() == [started("b")]
