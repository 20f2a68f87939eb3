"""Checks of references and similarities of speakers, measured beside the synthesis."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from cachetools import LRUCache

from gpu_runner.analysis.checks import check_wav, nothing_checked
from gpu_runner.analysis.consents.check import check_consent
from gpu_runner.analysis.process import AnalysisFailed, AnalysisProcess
from gpu_runner.analysis.speaker import embed_wav, similarity_to
from pipeline.audio.reference_audio import Recording, Samples
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import JobAnalysis, ReferenceCheck, Request
from pipeline.errors import NotFound, PipelineError

AT_ONCE = 16  # further previews are not analysed: the process would never catch up
SIMILARITY_SECONDS = 5
_CACHED = 256

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class PreviewAnalysis:
    """What has been measured so far for one preview."""

    speech: asyncio.Future[Recording]
    """The first seconds of the generated audio."""
    found: JobAnalysis = field(default_factory=JobAnalysis)
    published: JobAnalysis | None = None
    """The part in the outcome, once it is written."""

    def add_speech(self, samples: Samples, sample_rate: int) -> None:
        """Measure the similarity of the generated audio to the reference."""
        self.speech.set_result(Recording(samples[: SIMILARITY_SECONDS * sample_rate], sample_rate))

    def publish(self) -> JobAnalysis:
        """Return what has been measured, for the outcome. The rest is stored later."""
        self.published = self.found
        return self.found


class Analyses:
    """Analyses recordings in a child process. An outcome never waits for the analysis of its preview.

    Without a process, checks are unavailable, and previews are not analysed.
    """

    def __init__(
        self, resources: Resources, process: AnalysisProcess | None, is_revoked: Callable[[str], bool]
    ) -> None:
        self._resources = resources
        self._process = process
        self._is_revoked = is_revoked
        self._checks = LRUCache[str, ReferenceCheck](_CACHED)
        self._speakers = LRUCache[str, Samples](_CACHED)
        self._running = dict[PreviewAnalysis, asyncio.Task[None]]()

    async def check(self, request: Request, wav: bytes | None = None) -> ReferenceCheck:
        """Check the reference of a session, and store the result with it. `wav` is its recording, if it was read.

        Raises
        ------
        NotFound
            The session has no recording.
        """
        keys = layout.reference(request)
        if self._process is None:
            check = nothing_checked()
        else:
            wav = wav or await self._read(request)
            try:
                check = await self._process.run(check_wav, wav, await self._transcription(request))
            except AnalysisFailed:
                check = nothing_checked()
        self._check_not_revoked(request)
        await self._resources.bucket.put(keys.check, check.to_json(), JSON)
        self._checks[keys.folder] = check
        return check

    async def check_consent(self, request: Request) -> None:
        """Check the recording of a consent, see `consents.check_consent`."""
        await check_consent(self._resources, self._process, request)

    def start(self, request: Request) -> PreviewAnalysis | None:
        """Begin to analyse a preview. None if analyses are off, or too many are running."""
        if self._process is None or self._resources.settings.quality == "off" or len(self._running) >= AT_ONCE:
            return None
        analysis = PreviewAnalysis(asyncio.get_running_loop().create_future())
        self._running[analysis] = asyncio.create_task(self._analyse(request, analysis, self._process))
        self._running[analysis].add_done_callback(lambda _: self._running.pop(analysis))
        return analysis

    def cancel(self, analysis: PreviewAnalysis) -> None:
        """Stop the analysis of a preview that failed."""
        if analysis in self._running:
            self._running[analysis].cancel()

    def drop_revoked(self) -> None:
        """Forget the measures of revoked references."""
        for cache in (self._checks, self._speakers):
            for folder in filter(self._is_revoked, list(cache)):
                del cache[folder]

    async def aclose(self) -> None:
        """Stop all analyses, and end the child process."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._process:
            self._process.close()

    async def _analyse(self, request: Request, analysis: PreviewAnalysis, process: AnalysisProcess) -> None:
        try:
            check = await self._known_check(request)
            is_unchecked = check is None and request.source.session_id is not None
            speaker = self._speakers.get(layout.reference(request).folder)
            wav = await self._read(request) if is_unchecked or speaker is None else b""
            if is_unchecked:
                check = await self.check(request, wav)
            if check:
                analysis.found = JobAnalysis(reference_check=check)
            if speaker is None:
                speaker = await self._measured_speaker(request, wav, process)
            if speaker is not None:
                similarity = await process.run(similarity_to, speaker, await analysis.speech)
                found = analysis.found.model_copy(update={"speaker_similarity": round(similarity, 3)})
                analysis.found = found
            self._check_not_revoked(request)
            if analysis.published not in (None, analysis.found):
                key = layout.analysis(request.job_id)
                await self._resources.bucket.put(key, analysis.found.to_json(), JSON)
        except (AnalysisFailed, PipelineError) as error:
            log.info("preview not analysed", job_id=request.job_id, reason=str(error))

    async def _known_check(self, request: Request) -> ReferenceCheck | None:
        keys = layout.reference(request)
        if keys.folder in self._checks or request.new_reference is not None or request.source.session_id is None:
            return self._checks.get(keys.folder)
        return ReferenceCheck.parse_stored(await self._resources.bucket.get(keys.check), key=keys.check)

    async def _measured_speaker(self, request: Request, wav: bytes, process: AnalysisProcess) -> Samples | None:
        speaker = await process.run(embed_wav, wav)
        if speaker is not None:
            self._check_not_revoked(request)
            self._speakers[layout.reference(request).folder] = speaker
        return speaker

    def _check_not_revoked(self, request: Request) -> None:
        if self._is_revoked(layout.reference(request).folder):
            raise NotFound("The reference was deleted.", field="session_id")

    async def _read(self, request: Request) -> bytes:
        wav = await self._resources.bucket_of(request.source).get(layout.reference(request).audio)
        if wav is None:
            raise NotFound("The reference was deleted.", field="session_id")
        return wav

    async def _transcription(self, request: Request) -> str:
        if request.new_reference is not None:
            return request.new_reference.transcription
        return (await self._resources.bucket.get(layout.reference(request).transcription) or b"").decode()
