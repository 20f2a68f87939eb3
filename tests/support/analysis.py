"""An analysis process for tests: its results are given, and it runs in the test's process."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np

from gpu_runner.analysis.consents.statements import StatementMatch
from gpu_runner.analysis.process import AnalysisFailed, AnalysisProcess
from pipeline.contract.records import ReferenceCheck, ReferenceWarning

NOISE = ReferenceWarning(code="noise", message="There is noise.", advice="Record in a quiet room.")


class ScriptedAnalysis(AnalysisProcess):
    """Returns the same result for each recording, once `released` is set."""

    def __init__(self, check: ReferenceCheck | None = None, *, fails: bool = False) -> None:
        super().__init__()
        self.released = asyncio.Event()
        self.released.set()
        self.calls: list[str] = []
        self._fails = fails
        self._results: dict[str, Any] = {
            "check_wav": check or ReferenceCheck(warnings=(NOISE,)),
            "embed_wav": np.ones(1, np.float32),
            "similarity_to": 0.87654,
            "score": (StatementMatch(0.9, 1), 0.9),
        }

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        self.calls.append(function.__name__)
        await self.released.wait()
        if self._fails:
            raise AnalysisFailed("the process died")
        return self._results[function.__name__]
