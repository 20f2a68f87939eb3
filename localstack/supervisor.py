"""Everything on one machine, with one command: `python localstack/supervisor.py`, or `make run`.

Starts the embedded AWS (unless the environment points elsewhere), provisions it, starts the services as separate
processes, keeps them running, and stops them all when it is stopped, or when it dies.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import embedded
import place
import running_store
import structlog
from child import READY_FILE
from environments import EnvironmentFailed
from filelock import Timeout
from local_settings import LocalSettings, load_local_settings
from ports import PortRefused, check_port, free_port
from processes import Child, GaveUp, Program, answers, leaves
from provision import provision
from recover import recover
from sample import TRANSCRIPTION, write_sample

from pipeline.clients.resources import connect
from pipeline.errors import Unavailable
from pipeline.logs import configure_logging
from pipeline.settings import Settings, SettingsError, load_settings

log = structlog.get_logger()

Services = Callable[[Settings, Path], Sequence[Program]]

WRONG_SETTING = 2
FAILED = 1

# Together well under the 5 s within which everything has stopped.
SERVICES_STOP_SECONDS = 3.0
STORE_STOP_SECONDS = 1.0
SAY_STILL_WAITING_SECONDS = 10


class Refused(Exception):
    """It can't start here; the message says what would help."""


def services(settings: Settings, run_folder: Path) -> list[Program]:
    """Describe the services of this project."""
    health_port = settings.worker_health_port or free_port(embedded.HOST)
    worker_health = f"http://{embedded.HOST}:{health_port}/health"
    return [
        Program(
            "api",
            ["-m", "functions"],
            is_ready=answers(f"{address(settings)}/health"),
            environment={"WORKER_HEALTH_URL": worker_health},
        ),
        Program(
            "worker",
            ["-m", "gpu_runner"],
            is_ready=answers(worker_health),
            environment={"WORKER_HEALTH_PORT": str(health_port)},
        ),
        own_program("pump", run_folder),
        own_program("schedule", run_folder),
    ]


def own_program(name: str, run_folder: Path) -> Program:
    """Describe a program of this folder, which says by a file that it is at work."""
    ready = run_folder / f"{name}.ready"
    return Program(
        name,
        [str(place.HERE / f"{name}.py")],
        is_ready=leaves(ready),
        environment={READY_FILE: str(ready)},
    )


def address(settings: Settings) -> str:
    """Give the address under which this machine reaches the API."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def store_program(port: int, data: Path, settings: Settings) -> Program:
    """Describe the embedded AWS."""

    async def prepare(lost_since: datetime | None) -> None:
        await provision(settings)
        async with connect(settings) as resources:
            await recover(resources, lost_since=lost_since)
        running_store.leave(data, port, settings)

    return Program(
        "embedded AWS",
        [str(place.HERE / "embedded_server.py")],
        is_ready=answers(f"http://{embedded.HOST}:{port}{embedded.HEALTH}"),
        python=str(embedded.python()),
        environment=embedded.server_environment(port, data, settings),
        prepare=prepare,
    )


def main(make_services: Services = services) -> int:
    """Run everything until stopped; the exit code."""
    # Until the event loop takes over: so that an installation under way ends with us.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not os.environ.get("TTS_BACKEND"):
        os.environ["TTS_BACKEND"] = "mock"
    try:
        local = load_local_settings()
        configure_logging(load_settings(), "supervisor")
        with alone_in(local.data_folder) as data:
            choose_port(load_settings())
            store_port = point_at_store(local)
            asyncio.run(supervise(load_settings(), data, store_port, make_services))
    except SettingsError as error:
        print(f"Can't start, a setting is wrong:\n{error}", file=sys.stderr)
        return WRONG_SETTING
    except (Refused, PortRefused, EnvironmentFailed, GaveUp) as error:
        print(f"Can't start: {error}", file=sys.stderr)
        return FAILED
    except Unavailable as error:
        print(f"Can't start: {error.message}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


@contextmanager
def alone_in(data: Path) -> Iterator[Path]:
    """Keep the data folder to ourselves: two stores on one folder would overwrite each other.

    Raises
    ------
    Refused
        Another run has it, or it can't be written.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = running_store.lock_of(data)
        lock.acquire(timeout=0)
    except Timeout:
        raise Refused(
            f"another run uses DATA_DIR {data}. Stop that, or give this one a folder of its own, "
            f"and a port: `make run DATA_DIR=data/second PORT=0`."
        ) from None
    except OSError as error:
        raise Refused(f"DATA_DIR {data} can't be used: {error.strerror or error}.") from error
    with lock:
        yield data


def choose_port(settings: Settings) -> None:
    """Settle the port of the API before anything is started."""
    if settings.port:
        check_port(settings.host, settings.port)
    else:
        os.environ["PORT"] = str(free_port(settings.host))


def point_at_store(local: LocalSettings) -> int | None:
    """Point the environment at the embedded AWS, on the port that is given back; None when it is not wanted."""
    if not local.wants_own_store(load_settings()):
        return None
    port = free_port(embedded.HOST)
    environment = embedded.for_clients(os.environ, port)
    os.environ.clear()
    os.environ.update(environment)
    return port


async def supervise(settings: Settings, data: Path, store_port: int | None, make_services: Services) -> None:
    """Start everything, say so, and keep it running until cancelled or told to stop by a signal."""
    stop_on_signals()
    run_folder = running_store.run_folder_of(data)
    shutil.rmtree(run_folder, ignore_errors=True)
    run_folder.mkdir()
    programs = list(make_services(settings, run_folder))
    if store_port is None:
        store = []
        if not (await provision(settings)).notifies:
            programs.append(own_program("announce", run_folder))
    else:
        store = [Child(store_program(store_port, data, settings))]
    children = [Child(program) for program in programs]
    tasks: list[asyncio.Task[None]] = []
    try:
        for started_together in (store, children):
            tasks += [asyncio.create_task(child.keep_running()) for child in started_together]
            await until_ready(started_together, tasks)
        announce_ready(settings, data)
        await asyncio.gather(*tasks)
    except asyncio.CancelledError:
        log.info("stopping")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(child.stop(SERVICES_STOP_SECONDS) for child in children))
        await asyncio.gather(*(child.stop(STORE_STOP_SECONDS) for child in store))


def stop_on_signals() -> None:
    """Turn the first signal to stop into a cancellation; later ones change nothing, as the end is near anyway."""
    if sys.platform == "win32":
        return  # there, asyncio makes a cancellation of Ctrl-C
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    told = False

    def stop() -> None:
        nonlocal told
        if task is not None and not told:
            task.cancel()
        told = True

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)


async def until_ready(children: Sequence[Child], tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for children to be ready, or for any task to fail."""
    while slow := [child for child in children if not child.ready.is_set()]:
        next_one = asyncio.create_task(slow[0].ready.wait())
        try:
            done, _ = await asyncio.wait(
                [next_one, *tasks], timeout=SAY_STILL_WAITING_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            next_one.cancel()
        for task in done - {next_one}:
            task.result()
        if not done:
            log.info("still waiting for " + ", ".join(child.name for child in slow))


def announce_ready(settings: Settings, data: Path) -> None:
    """Print where it listens and a first thing to try."""
    sample = data / "sample.wav"
    write_sample(sample)
    url = address(settings)
    make_key = "It wants a key:\n\nKEY=$(make -s keys ARGS='make --owner me')\n\n" if settings.wants_keys else ""
    show_key = '-H "Authorization: Bearer $KEY" ' if settings.wants_keys else ""
    print(
        f"""
Listening on {url} (WebSocket: {url.replace("http", "ws", 1)}/ws, description: {url}/docs)
What is saved is kept in {data}
{make_key}Try it:

curl -fsS {show_key}-F "audio=@{sample.as_posix()}" -F "transcription={TRANSCRIPTION}" \
-F "response_text=Good to hear you." -o preview.wav {url}/preview

Ctrl-C stops everything.
""",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
