"""The context in which all jobs are processed."""

from collections.abc import Callable
from dataclasses import dataclass

from gpu_runner.analysis.analyses import Analyses
from gpu_runner.dependency_health import Sleep
from gpu_runner.streaming.posts import Posts
from gpu_runner.synthesis.disclaimers import Disclaimers
from gpu_runner.synthesis.engine_thread import EngineThread
from gpu_runner.synthesis.prompt_store import PromptStore
from gpu_runner.synthesis.revocations import Revocations
from gpu_runner.synthesis.watch import Watches
from gpu_runner.synthesis.watermarking import Synthesize
from pipeline.clients.resources import Resources
from pipeline.provenance.manifests import Manifests
from pipeline.settings import Mark


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """Everything the worker holds for its lifetime."""

    resources: Resources
    engine: EngineThread
    prompts: PromptStore
    manifests: Manifests
    analyses: Analyses
    synthesize: Synthesize
    """`EngineThread.synthesize`, with announcements and the watermark."""
    posts: Posts
    disclaimers: Disclaimers
    marks: tuple[Mark, ...]
    """The marks that `synthesize` adds."""
    revocations: Revocations
    watches: Watches
    sample_rate: int
    model: str
    reproducible_as: Callable[[], str | None]
    """See `Reproducible`. Returns None if a retried job may have different audio."""
    sleep: Sleep

    def drop_revoked(self) -> None:
        """Forget everything derived from revoked references."""
        self.prompts.drop_revoked()
        self.analyses.drop_revoked()
