"""Child processes: the end of a program that is never ready."""

import asyncio
from pathlib import Path

import pytest
from supervision import processes
from supervision.processes import ChildProcess, Program, StartFailed


async def test_slow_failing_start_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processes, "STABLE_SECONDS", 0)  # every run is long
    monkeypatch.setattr(processes, "FIRST_BACKOFF_SECONDS", 0.01)
    script = tmp_path / "broken.py"
    script.write_text("import sys; sys.exit(7)")

    async def never() -> bool:
        return False

    with pytest.raises(StartFailed, match="broken does not start"):
        async with asyncio.timeout(20):
            await ChildProcess(Program("broken", [str(script)], never)).keep_running()


async def test_optional_program_is_restarted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processes, "FIRST_BACKOFF_SECONDS", 0.01)
    script = tmp_path / "broken.py"
    script.write_text("import sys; sys.exit(7)")
    ends = asyncio.Queue[str]()
    monkeypatch.setattr(processes.log, "warning", lambda event, **_: ends.put_nowait(event))

    async def never() -> bool:
        return False

    program = Program("broken", [str(script)], never, is_required=False)
    running = asyncio.create_task(ChildProcess(program).keep_running())
    async with asyncio.timeout(20):
        for _ in range(processes.ATTEMPTS_TO_START + 1):
            assert await ends.get() == "broken ended; restarting it"
    running.cancel()
