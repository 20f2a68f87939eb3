"""The engine's thread: one for everything, nothing begun after `close`, nothing begun is lost by it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
import pytest

from gpu_runner.engines import CannotLoad, Engine, EngineLost, Finished, Piece, Reference, Utterance
from gpu_runner.engines.mock import MockPrompt, hum
from gpu_runner.synthesis.engine_loop import EngineFailed, Speech
from gpu_runner.synthesis.engine_thread import NAME, EngineThread, Stopping
from pipeline.contract.records import Options
from pipeline.errors import InvalidInput
from tests.support.engines import ScriptedEngine
from tests.support.speech import voice
from tests.support.waiting import until

PROMPT = MockPrompt(f0=120.0, level=0.1)
Start = Callable[[Engine], Awaitable[EngineThread]]


def utterance(job_id: str, text: str = "Hello.") -> Utterance:
    return Utterance(job_id, text, PROMPT, Options())


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    threads: list[EngineThread] = []

    async def start_one(engine: Engine) -> EngineThread:
        threads.append(EngineThread(lambda: engine))
        assert await threads[-1].start() is engine
        return threads[-1]

    yield start_one
    for thread in threads:
        await thread.end(5)


def synthesize_all(thread: EngineThread, *utterances: Utterance) -> list["asyncio.Task[Speech]"]:
    return [asyncio.create_task(thread.synthesize(one)) for one in utterances]


async def test_prompts_have_own_thread(start: Start) -> None:
    engine = ScriptedEngine()
    thread = await start(engine)
    prompt = await thread.make_prompt(Reference(voice(100), ""))
    await thread.restore_prompt(prompt.to_json())
    assert engine.threads == {"engine prompts"}
    engine.threads.clear()
    await asyncio.gather(*synthesize_all(thread, utterance("a"), utterance("b")))
    assert engine.threads == {"engine"}


async def test_synthesis_during_prompt(start: Start) -> None:
    engine = ScriptedEngine()
    engine.prompt_gate.clear()
    thread = await start(engine)
    making = asyncio.create_task(thread.make_prompt(Reference(voice(100), "")))
    async with asyncio.timeout(5):
        await thread.synthesize(utterance("a"))
    assert not making.done()
    engine.prompt_gate.set()
    await making


async def test_results_per_caller(start: Start) -> None:
    engine = ScriptedEngine()
    engine.errors["bad"] = InvalidInput("bad")
    thread = await start(engine)
    good, bad, other = synthesize_all(
        thread, utterance("a"), utterance("b", "bad"), utterance("c", "Another text.")
    )
    np.testing.assert_array_equal((await good).samples, hum("Hello.", PROMPT))
    np.testing.assert_array_equal((await other).samples, hum("Another text.", PROMPT))
    with pytest.raises(InvalidInput):
        await bad


async def test_rejected_admission_fails_alone(start: Start) -> None:
    engine = ScriptedEngine()
    engine.admit_errors["bad"] = InvalidInput("no")
    thread = await start(engine)
    bad, good = synthesize_all(thread, utterance("a", "bad"), utterance("b"))
    with pytest.raises(InvalidInput):
        await bad
    assert len((await good).samples)


async def test_waiting_beyond_capacity(start: Start) -> None:
    engine = ScriptedEngine(capacity=2)
    thread = await start(engine)
    await asyncio.gather(*synthesize_all(thread, *(utterance(str(number)) for number in range(7))))
    assert engine.max_active == 2
    assert sorted(engine.admitted) == [str(number) for number in range(7)]


async def test_admission_during_step(start: Start) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    thread = await start(engine)
    tasks = synthesize_all(thread, utterance("a"))
    await until(lambda: engine.active == ["a"])
    tasks += synthesize_all(thread, utterance("b"))
    await until(lambda: engine.active == ["a", "b"])
    engine.paused = False
    await asyncio.gather(*tasks)


async def test_cancelled_synthesis_frees_slot(start: Start) -> None:
    engine = ScriptedEngine(capacity=1)
    engine.paused = True
    thread = await start(engine)
    first, second, third = synthesize_all(thread, utterance("a"), utterance("b"), utterance("c"))
    await until(lambda: engine.active == ["a"])
    first.cancel()
    second.cancel()
    await until(lambda: engine.active == ["c"])
    engine.paused = False
    assert len((await third).samples)
    assert engine.cancelled == ["a"]
    assert engine.admitted == ["a", "c"]
    assert first.cancelled()
    assert second.cancelled()


async def test_prompt_during_synthesis(start: Start) -> None:
    engine = ScriptedEngine(capacity=1)
    engine.paused = True
    thread = await start(engine)
    tasks = synthesize_all(thread, utterance("a"), utterance("b"))
    await until(lambda: engine.active == ["a"])
    async with asyncio.timeout(5):
        await thread.make_prompt(Reference(voice(100), ""))
    assert engine.active == ["a"]
    engine.paused = False
    await asyncio.gather(*tasks)


async def test_failed_step_fails_its_batch(start: Start) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    thread = await start(engine)
    lost = synthesize_all(thread, utterance("a"), utterance("b"))
    await until(lambda: len(engine.active) == 2)
    engine.step_errors.append(RuntimeError("out of memory"))
    results = await asyncio.gather(*lost, return_exceptions=True)
    assert [type(result) for result in results] == [EngineFailed, EngineFailed]
    engine.paused = False
    assert len((await thread.synthesize(utterance("c"))).samples)


async def test_lost_engine_rejects_everything(start: Start) -> None:
    engine = ScriptedEngine(capacity=1)
    engine.paused = True
    thread = await start(engine)
    tasks = synthesize_all(thread, utterance("a"), utterance("b"))
    await until(lambda: engine.active == ["a"])
    engine.step_errors.append(EngineLost("device-side assert"))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [EngineLost, EngineLost]
    with pytest.raises(EngineLost):
        await thread.synthesize(utterance("c"))


async def test_engine_lost_in_prompt(start: Start) -> None:
    class Dying(ScriptedEngine):
        def restore_prompt(self, document: bytes) -> MockPrompt:
            raise EngineLost("gone")

    thread = await start(Dying())
    with pytest.raises(EngineLost):
        await thread.restore_prompt(b"{}")
    with pytest.raises(EngineLost):
        await thread.synthesize(utterance("a"))


class FailsToCancel(ScriptedEngine):
    """One whose `cancel` raises, against its contract."""

    def cancel(self, job_id: str) -> None:
        raise RuntimeError(f"cannot cancel {job_id}")


class FailsAltogether(ScriptedEngine):
    """One whose `step` raises what nothing should catch."""

    def step(self) -> list[Piece | Finished]:
        raise SystemExit


async def test_failed_cancel_rejects_waiting(start: Start) -> None:
    engine = FailsToCancel(capacity=2)
    engine.paused = True
    thread = await start(engine)
    cancelled, admitted, waiting = synthesize_all(thread, utterance("a"), utterance("b"), utterance("c"))
    await until(lambda: engine.active == ["a", "b"])
    cancelled.cancel()
    async with asyncio.timeout(5):
        results = await asyncio.gather(admitted, waiting, return_exceptions=True)
        with pytest.raises(EngineLost, match="cannot cancel a"):
            await thread.synthesize(utterance("d"))
        assert "cannot cancel a" in str(await thread.lost())
    assert [type(result) for result in results] == [EngineLost, EngineLost]


async def test_dead_thread_rejects_waiting(start: Start) -> None:
    thread = await start(FailsAltogether())
    async with asyncio.timeout(5):
        with pytest.raises(EngineLost, match="SystemExit"):
            await thread.synthesize(utterance("a"))
        with pytest.raises(EngineLost, match="SystemExit"):
            await thread.make_prompt(Reference(voice(100), ""))


async def test_fatal_admission_is_rejected(start: Start) -> None:
    engine = ScriptedEngine()
    engine.admit_errors["bad"] = SystemExit("bye")
    thread = await start(engine)
    async with asyncio.timeout(5):
        with pytest.raises(EngineLost, match="bye"):
            await thread.synthesize(utterance("a", "bad"))


async def test_close_rejects_waiting_only(start: Start) -> None:
    engine = ScriptedEngine(capacity=1)
    engine.paused = True
    thread = await start(engine)
    begun, waiting = synthesize_all(thread, utterance("a"), utterance("b"))
    await until(lambda: engine.active == ["a"])
    thread.close()
    with pytest.raises(Stopping):
        await waiting
    with pytest.raises(Stopping):
        await thread.synthesize(utterance("c"))
    assert not begun.done()
    engine.paused = False
    assert len((await begun).samples)
    assert engine.admitted == ["a"]


async def test_cancelled_caller_leaves_queue(start: Start) -> None:
    engine = ScriptedEngine(capacity=1)
    engine.paused = True
    thread = await start(engine)
    begun, waiting = synthesize_all(thread, utterance("a"), utterance("b"))
    await until(lambda: engine.active == ["a"])
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    engine.paused = False
    await begun
    await thread.synthesize(utterance("c"))
    assert engine.admitted == ["a", "c"]


async def test_load_error_is_raised() -> None:
    def load() -> Engine:
        raise CannotLoad("no weights")

    thread = EngineThread(load)
    with pytest.raises(CannotLoad, match="no weights"):
        await thread.start()
    await thread.end(5)


def is_running() -> bool:
    return any(thread.name == NAME for thread in threading.enumerate())


async def test_thread_ends() -> None:
    thread = EngineThread(ScriptedEngine)
    await thread.start()
    assert is_running()
    await thread.end(5)
    assert not is_running()


async def test_end_has_timeout() -> None:
    loading = threading.Event()

    def load() -> Engine:
        loading.wait(10)
        return ScriptedEngine()

    thread = EngineThread(load)
    starting = asyncio.create_task(thread.start())
    await asyncio.sleep(0)
    async with asyncio.timeout(2):
        await thread.end(0.1)
    assert is_running()
    loading.set()
    await starting
    await until(lambda: not is_running())
