"""Runs everything on one machine, with one command: `python localstack/supervisor.py`, or `make run`.

With `--store-only` it runs only the embedded S3 and SQS, for services in separate containers.

Starts the embedded AWS (unless the environment configures another), provisions it, starts the services as separate
processes, restarts those that end, and stops them all when it is stopped, or killed.
"""

import argparse
import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import environments  # noqa: F401  (makes the packages importable)
import structlog
from embedded import configuration
from embedded.storage import connection_file
from embedded.storage.data_folder import (
    AwsCredentials,
    DataFolderUnavailable,
    ensure_credentials,
    locked,
    make_private,
    run_folder_of,
)
from embedded.storage.lost_files import restart_when_files_are_lost
from environments import LOCALSTACK
from environments.venvs import EnvironmentFailed
from provisioning.monitor import provision_again_when_lost
from provisioning.provision import provision
from provisioning.recovery import refill_queues
from supervision.first_key import print_first_key
from supervision.lifecycle import READY_FILE
from supervision.local_settings import LocalSettings, apply_arguments, load_local_settings
from supervision.ports import PortUnavailable, check_port, free_port
from supervision.processes import ChildProcess, Program, StartFailed, creates, responds
from supervision.startup_message import local_url, print_startup_message

from pipeline.clients.resources import connect
from pipeline.environment import SettingsError
from pipeline.errors import Unavailable
from pipeline.settings import Settings, load_settings
from pipeline.telemetry.logs import configure_logging

log = structlog.get_logger()

Services = Callable[[Settings, Path], Sequence[Program]]

INVALID_SETTING = 2
FAILED = 1

# Everything has to stop within 5 s. The store starts to stop when the services have ended, and needs a second.
SERVICES_STOP_SECONDS = 3.3
ALL_STOP_SECONDS = 4.5
LOG_WAITING_SECONDS = 10


def services(settings: Settings, run_folder: Path) -> list[Program]:
    """Return the services of this project."""
    health_port = settings.worker_health_port or free_port(configuration.HOST)
    worker_health = f"http://{configuration.HOST}:{health_port}/health"
    return [
        Program(
            "api",
            ["-m", "functions"],
            is_ready=responds(f"{local_url(settings)}/health", 200, 507),
            environment={"WORKER_HEALTH_URL": worker_health},
        ),
        Program(
            "worker",
            ["-m", "gpu_runner"],
            is_ready=responds(worker_health.replace("/health", "/live")),
            environment={"WORKER_HEALTH_PORT": str(health_port)},
            is_required=False,  # the page shows why the voice engine cannot start
        ),
        local_program("pump", run_folder),
        local_program("schedule", run_folder),
    ]


def no_services(_settings: Settings, _run_folder: Path) -> Sequence[Program]:
    """Return no programs, for `--store-only`."""
    return []


def local_program(name: str, run_folder: Path) -> Program:
    """Return a program of this folder, which reports that it is ready by creating a file."""
    ready_file = run_folder / f"{name}.ready"
    return Program(
        name,
        [str(LOCALSTACK / f"{name}.py")],
        is_ready=creates(ready_file),
        environment={READY_FILE: str(ready_file)},
    )


def store_program(port: int, data: Path, settings: Settings, credentials: AwsCredentials) -> Program:
    """Return the embedded AWS, which the environment of this process points at."""

    async def prepare(down_since: datetime | None) -> None:
        await provision(settings)
        async with connect(settings) as resources:
            await refill_queues(resources, down_since=down_since)
        try:
            connection_file.write(data, port, settings)
        except OSError as error:
            log.warning(
                "could not write the connection file; other programs can't find the store", reason=str(error)
            )

    return Program(
        "embedded AWS",
        ["-m", "embedded.server"],
        # It serves no unsigned requests.
        is_ready=responds(f"http://{configuration.HOST}:{port}/", 403),
        python=str(configuration.python()),
        environment=configuration.server_environment(port, data, settings, credentials),
        folder=LOCALSTACK,
        prepare=prepare,
    )


def main(make_services: Services = services, arguments: Sequence[str] = ()) -> int:
    """Run everything until stopped, with these settings; return the exit code."""
    # Recordings are personal: files of this process and its children are accessible only to this user.
    os.umask(0o077)
    # Until the event loop handles signals, so that an installation in progress ends with this process.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        apply_arguments(arguments)
        if not os.environ.get("TTS_BACKEND"):
            os.environ["TTS_BACKEND"] = "hibari"
        local = load_local_settings()
        configure_logging(load_settings(), "supervisor")
        with locked(local.data_folder) as data:
            choose_port(load_settings())
            store = prepare_store(local, data)
            asyncio.run(supervise(load_settings(), data, store, make_services))
    except SettingsError as error:
        print(f"Can't start, a setting is wrong:\n{error}", file=sys.stderr)
        return INVALID_SETTING
    except (DataFolderUnavailable, PortUnavailable, EnvironmentFailed, StartFailed) as error:
        print(f"Can't start: {error}", file=sys.stderr)
        return FAILED
    except Unavailable as error:
        print(f"Can't start: {error.message}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def choose_port(settings: Settings) -> None:
    """Choose or check the port of the API before anything is started."""
    if settings.port:
        check_port(settings.host, settings.port)
    else:
        os.environ["PORT"] = str(free_port(settings.host))


def prepare_store(local: LocalSettings, data: Path) -> Program | None:
    """Return the embedded AWS and point the environment at it; return None if it is not used."""
    if not local.uses_embedded_aws(load_settings()):
        return None
    if local.store_port:
        check_port(configuration.HOST, local.store_port)
    port, credentials = local.store_port or free_port(configuration.HOST), ensure_credentials(data)
    configuration.point_environment_at(port, credentials)
    return store_program(port, data, load_settings(), credentials)


async def supervise(settings: Settings, data: Path, own_store: Program | None, make_services: Services) -> None:
    """Start everything, print the startup message, and keep it running until cancelled or stopped by a signal."""
    stop_on_signals()
    run_folder = run_folder_of(data)
    shutil.rmtree(run_folder, ignore_errors=True)
    make_private(run_folder)
    programs = list(make_services(settings, run_folder))
    if own_store is None and not (await provision(settings)).notifies:
        programs.append(local_program("poll_outcomes", run_folder))
    store = [ChildProcess(own_store)] if own_store else []
    children = [ChildProcess(program) for program in programs]
    tasks: list[asyncio.Task[None]] = []
    try:
        log.info("starting the storage" if store else "starting", data=str(data))
        tasks += [asyncio.create_task(child.keep_running()) for child in store]
        await wait_until_ready(store, tasks)
        log.info("starting " + ", ".join(child.name for child in children))
        tasks += [asyncio.create_task(child.keep_running()) for child in children]
        await wait_until_ready(children[:1], tasks)
        await print_first_key(settings, load_local_settings().first_key_owner)
        if not all(child.ready.is_set() for child in children):
            # The voice engine may start minutes later. Meanwhile the page shows its progress.
            print(f"\nThe studio is at {local_url(settings)}. The voice engine is starting.\n", flush=True)
        await wait_until_ready(children, tasks)
        tasks += [asyncio.create_task(watching) for watching in watchers(settings, data, store)]
        print_startup_message(settings, data)
        await asyncio.gather(*tasks)
    except asyncio.CancelledError:
        log.info("stopping")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        end = asyncio.get_running_loop().time() + ALL_STOP_SECONDS
        await asyncio.gather(*(child.stop(SERVICES_STOP_SECONDS) for child in children))
        await asyncio.gather(*(child.stop(end - asyncio.get_running_loop().time()) for child in store))
        shutil.rmtree(run_folder, ignore_errors=True)  # or the next start would look complete before it is


def watchers(settings: Settings, data: Path, store: Sequence[ChildProcess]) -> Iterator[Coroutine[Any, Any, None]]:
    """Yield the coroutines that repair a store that has lost its contents; AWS itself is not watched."""
    if settings.endpoint_for("s3") and settings.endpoint_for("sqs"):
        yield provision_again_when_lost(settings)
    for child in store:
        yield restart_when_files_are_lost(child, configuration.s3_folder_of(data), settings)


def stop_on_signals() -> None:
    """Cancel the current task on the first signal to stop; ignore later ones."""
    if sys.platform == "win32":
        return  # asyncio itself cancels the task on Ctrl-C
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    stopping = False

    def stop() -> None:
        nonlocal stopping
        if task is not None and not stopping:
            task.cancel()
        stopping = True

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)


async def wait_until_ready(children: Sequence[ChildProcess], tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait until all children are ready, or any task fails."""
    while starting := [child for child in children if not child.ready.is_set()]:
        next_ready = asyncio.create_task(starting[0].ready.wait())
        try:
            done, _ = await asyncio.wait(
                [next_ready, *tasks], timeout=LOG_WAITING_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            next_ready.cancel()
        for task in done - {next_ready}:
            task.result()
        if not done:
            log.info("still waiting for " + ", ".join(child.name for child in starting))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store-only", action="store_true", help="run only the embedded S3 and SQS")
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="a setting, such as PORT=9000")
    given = parser.parse_args()
    sys.exit(main(no_services if given.store_only else services, given.settings))
