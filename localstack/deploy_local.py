"""Deploys `template.yaml` on this machine: `python localstack/deploy_local.py`, or `make deploy-local`.

Starts the embedded AWS, builds and deploys the unchanged template with the SAM CLI, starts a worker beside it (an
emulator has no GPUs), prints where everything listens, and runs until it is stopped.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import environments  # noqa: F401  (makes the packages importable)
import structlog
from embedded import configuration
from embedded.configuration import ACCOUNT, HOST
from embedded.storage.data_folder import AwsCredentials, new_credentials, write_private
from environments import LOCALSTACK, ROOT
from environments.venvs import LOCKS, EnvironmentFailed, ensure
from supervision.ports import PortUnavailable, free_port
from supervision.processes import ChildProcess, Program, StartFailed, responds
from supervisor import stop_on_signals, wait_until_ready

from infra.package.archives import share_archives
from infra.package.python import find_python
from pipeline.clients.resources import client_config, session_for
from pipeline.environment import SettingsError
from pipeline.settings import Settings, load_settings
from pipeline.telemetry.logs import configure_logging

log = structlog.get_logger()

FAILED = 1
STACK = "voice-cloning"
BUILD_FOLDER = ROOT / ".aws-sam" / "local"
# The printed addresses, for other programs.
DEPLOYED_FILE = ROOT / ".aws-sam" / "deployed-local.json"
WORKER_STOP_SECONDS = 3.0
EMULATOR_STOP_SECONDS = 1.0


class CommandFailed(Exception):
    """The SAM CLI failed; the reason is in its output."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """The addresses and credentials that clients and workers need."""

    http_url: str
    websocket_url: str
    endpoint_url: str
    bucket: str
    voices_bucket: str
    synthesis_queue: str
    access_key_id: str
    secret_access_key: str = field(repr=False)


def emulator_program(port: int, settings: Settings, credentials: AwsCredentials) -> Program:
    """Return the embedded AWS with every service and no persistence."""
    environment = configuration.server_environment(port, BUILD_FOLDER, settings, credentials) | {
        "SERVICES": "",
        "OBJECTS_FOLDER": "",
        "QUEUES": "",
        "MINISTACK_HOST": HOST,
        "LAMBDA_ACCOUNT_CONCURRENCY": "1000",
    }
    return Program(
        "embedded AWS",
        ["-m", "embedded.cloud_server"],
        is_ready=responds(f"http://{HOST}:{port}/", 403),
        python=str(functions_python()),
        environment=environment,
        folder=LOCALSTACK,
    )


def worker_program(deployed: Deployed) -> Program:
    """Return a worker that consumes the deployed queue."""
    port = free_port(HOST)
    return Program(
        "worker",
        ["-m", "gpu_runner"],
        is_ready=responds(f"http://{HOST}:{port}/health"),
        environment={
            "BUCKET": deployed.bucket,
            "VOICES_BUCKET": deployed.voices_bucket,
            "SYNTHESIS_QUEUE": deployed.synthesis_queue,
            "WORKER_HEALTH_PORT": str(port),
        },
    )


def functions_python() -> Path:
    """Return the Python for the emulator and its functions: of Lambda's version if available."""
    lambdas = find_python()
    if lambdas is None:
        return ensure("cloud", LOCKS["cloud"])
    return ensure("cloud-3.13", LOCKS["cloud"], lambdas)


def package_flags() -> str:
    """Return the build flags of the package: as deployed, unless it is for a Python other than Lambda's."""
    return "--here" if find_python() is None else ""


def sam_commands(sam: Path) -> list[list[str]]:
    """Return the commands of a deployment to AWS, but without the workers, which need a GPU."""
    build = [str(sam), "build", "--build-dir", str(BUILD_FOLDER)]
    deploy = [
        *(str(sam), "deploy", "--template-file", str(BUILD_FOLDER / "template.yaml")),
        *("--stack-name", STACK, "--resolve-s3", "--no-confirm-changeset", "--no-progressbar"),
        *("--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"),
        *("--parameter-overrides", "Workers=off", "AlarmEmail=nobody@example.com"),
    ]
    return [build, deploy]


async def deploy(port: int, settings: Settings, credentials: AwsCredentials) -> Deployed:
    """Build and deploy the template.

    Raises
    ------
    CommandFailed
        It can't be built or deployed.
    """
    sam = ensure("sam", LOCKS["sam"]).with_name("sam")
    environment = os.environ | {
        "SAM_CLI_TELEMETRY": "0",
        "SAM_CLI_ENABLE_LANGUAGE_EXTENSIONS": "1",
        "PYTHON": str(functions_python()),
        "PACKAGE_FLAGS": package_flags(),
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    build, deploy = sam_commands(sam)
    await _run(build, environment)
    await asyncio.to_thread(share_archives, BUILD_FOLDER)
    await _run(deploy, environment)
    return _deployed(await _outputs(settings), port, credentials)


async def _run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=sys.stderr
    )
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        process.kill()
        raise
    if code:
        raise CommandFailed(f"`{' '.join(command)}` ended with {code}; see above for why.")


async def _outputs(settings: Settings) -> dict[str, str]:
    session = session_for(settings)
    async with session.client("cloudformation", config=client_config()) as cloudformation:
        stacks = (await cloudformation.describe_stacks(StackName=STACK))["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in stacks[0]["Outputs"]}


def _deployed(outputs: Mapping[str, str], port: int, credentials: AwsCredentials) -> Deployed:
    """Return the emulator's addresses of services that have separate host names on AWS."""
    apis = f"{HOST}:{port}/_aws/execute-api"
    return Deployed(
        http_url=f"http://{apis}/{_api_id(outputs['HttpUrl'])}/$default",
        websocket_url=f"ws://{apis}/{_api_id(outputs['WebSocketUrl'])}/ws",
        endpoint_url=f"http://{HOST}:{port}",
        bucket=outputs["EphemeralBucket"],
        voices_bucket=outputs["VoicesBucket"],
        synthesis_queue=outputs["SynthesisQueue"],
        **asdict(credentials),
    )


def _api_id(url: str) -> str:
    return (urlsplit(url).hostname or "").split(".")[0]


async def serve(port: int, settings: Settings, credentials: AwsCredentials) -> None:
    """Start everything, print where it listens, and keep it running until a signal stops it."""
    stop_on_signals()
    emulator = ChildProcess(emulator_program(port, settings, credentials))
    children = [emulator]
    tasks = [asyncio.create_task(emulator.keep_running())]
    try:
        await wait_until_ready([emulator], tasks)
        deployed = await deploy(port, settings, credentials)
        worker = ChildProcess(worker_program(deployed))
        children.append(worker)
        tasks.append(asyncio.create_task(worker.keep_running()))
        await wait_until_ready([worker], tasks)
        _print_and_write(deployed)
        await asyncio.gather(*tasks)
    except asyncio.CancelledError:
        log.info("stopping")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for child in reversed(children):
            await child.stop(EMULATOR_STOP_SECONDS if child is emulator else WORKER_STOP_SECONDS)


def _print_and_write(deployed: Deployed) -> None:
    """Print where everything listens, and write it to a private file, with the credentials."""
    everything = asdict(deployed)
    write_private(DEPLOYED_FILE, json.dumps(everything, indent=2))
    shown = {name: value for name, value in everything.items() if name != "secret_access_key"}
    print(
        f"\nDeployed:\n{json.dumps(shown, indent=2)}\n\n"
        f"AWS calls have to be signed with the credentials in {DEPLOYED_FILE}.\nCtrl-C stops everything.\n",
        flush=True,
    )


def main() -> int:
    """Deploy and serve until stopped; return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not os.environ.get("TTS_BACKEND"):
        os.environ["TTS_BACKEND"] = "mock"
    DEPLOYED_FILE.unlink(missing_ok=True)
    try:
        port = free_port(HOST)
        # ministack passes this access key to the functions, with the secret of its own environment.
        credentials = replace(new_credentials(), access_key_id=ACCOUNT)
        configuration.point_environment_at(port, credentials)
        settings = load_settings()
        configure_logging(settings, "deploy-local")
        os.environ["AWS_DEFAULT_REGION"] = settings.aws_region
        asyncio.run(serve(port, settings, credentials))
    except (SettingsError, PortUnavailable, EnvironmentFailed, StartFailed, CommandFailed) as error:
        print(f"Can't deploy: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        DEPLOYED_FILE.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
