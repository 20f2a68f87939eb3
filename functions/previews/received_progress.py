"""The progress reports of a worker, for a request that follows a job without its audio."""

from pipeline.contract.messages.stream_messages import AudioChunk, AudioProgress, StreamMessage, StreamStarted

Report = StreamStarted | AudioProgress


class ReceivedProgress:
    """The reports that have not been read: the last one of each kind, however slowly they are read."""

    def __init__(self) -> None:
        self._reports: dict[type[Report], Report] = {}

    def add(self, message: StreamMessage) -> None:
        """Add a message of the worker."""
        if isinstance(message, AudioChunk):
            return
        if isinstance(message, StreamStarted):
            self._reports.clear()
        self._reports[type(message)] = message

    @property
    def has_news(self) -> bool:
        """Whether there are reports."""
        return bool(self._reports)

    def take(self) -> list[Report]:
        """Return the reports since the last call, in order."""
        reports = list(self._reports.values())
        self._reports.clear()
        return reports
