"""Deploys `template.yaml` on this machine: `python localstack/deploy_local.py`, or `make deploy-local`.

Starts the embedded AWS, builds and deploys the very template with the SAM CLI, starts a worker beside it (there is
no GPU to be had from an emulator), says where everything listens, and goes on until it is stopped.
"""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import embedded
import place
import structlog
from environments import LOCKS, EnvironmentFailed, ensure
from ports import PortRefused, free_port
from processes import Child, GaveUp, Program, answers
from supervisor import stop_on_signals, until_ready

from pipeline.clients.resources import client_config, session_for
from pipeline.logs import configure_logging
from pipeline.settings import Settings, SettingsError, load_settings

log = structlog.get_logger()

FAILED = 1
STACK = "voice-cloning"
BUILD_FOLDER = place.ROOT / ".aws-sam" / "local"
# Where whoever started this finds what it printed.
DEPLOYED_FILE = place.ROOT / ".aws-sam" / "deployed-local.json"
WORKER_STOP_SECONDS = 3.0
CLOUD_STOP_SECONDS = 1.0


class CommandFailed(Exception):
    """The SAM CLI could not do it; it has said why."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """What a client needs, and what a worker needs."""

    http_url: str
    websocket_url: str
    endpoint_url: str
    bucket: str
    voices_bucket: str
    synthesis_queue: str


def cloud_program(port: int, settings: Settings) -> Program:
    """Describe the embedded AWS, with every service and nothing kept."""
    environment = embedded.server_environment(port, BUILD_FOLDER, settings) | {
        "SERVICES": "",
        "S3_PERSIST": "0",
        "MINISTACK_HOST": embedded.HOST,
        "LAMBDA_ACCOUNT_CONCURRENCY": "1000",
    }
    return Program(
        "embedded AWS",
        [str(place.HERE / "cloud_server.py")],
        is_ready=answers(f"http://{embedded.HOST}:{port}{embedded.HEALTH}"),
        python=str(ensure("cloud", LOCKS["cloud"])),
        environment=environment,
    )


def worker_program(deployed: Deployed) -> Program:
    """Describe a worker that takes its jobs from the deployed queue."""
    port = free_port(embedded.HOST)
    return Program(
        "worker",
        ["-m", "gpu_runner"],
        is_ready=answers(f"http://{embedded.HOST}:{port}/health"),
        environment={
            "BUCKET": deployed.bucket,
            "VOICES_BUCKET": deployed.voices_bucket,
            "SYNTHESIS_QUEUE": deployed.synthesis_queue,
            "WORKER_HEALTH_PORT": str(port),
        },
    )


def sam_commands(sam: Path) -> list[list[str]]:
    """Give what an AWS user types too, but for the workers: those need a GPU."""
    build = [str(sam), "build", "--build-dir", str(BUILD_FOLDER)]
    deploy = [
        *(str(sam), "deploy", "--template-file", str(BUILD_FOLDER / "template.yaml")),
        *("--stack-name", STACK, "--resolve-s3", "--no-confirm-changeset", "--no-progressbar"),
        *("--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"),
        *("--parameter-overrides", "Workers=off"),
    ]
    return [build, deploy]


async def deploy(port: int, settings: Settings) -> Deployed:
    """Build and deploy the template.

    Raises
    ------
    CommandFailed
        It can't be built or deployed.
    """
    sam = ensure("sam", LOCKS["sam"]).with_name("sam")
    runs_functions = ensure("cloud", LOCKS["cloud"])
    environment = os.environ | {
        "SAM_CLI_TELEMETRY": "0",
        "PYTHON": str(runs_functions),
        "PACKAGE_FLAGS": "--here",
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for command in sam_commands(sam):
        await _run(command, environment)
    return _described(await _outputs(settings), port)


async def _run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=place.ROOT, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=sys.stderr
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


def _described(outputs: Mapping[str, str], port: int) -> Deployed:
    """Tell where the emulator serves what has a host name of its own on AWS."""
    apis = f"{embedded.HOST}:{port}/_aws/execute-api"
    return Deployed(
        http_url=f"http://{apis}/{_api_id(outputs['HttpUrl'])}/$default",
        websocket_url=f"ws://{apis}/{_api_id(outputs['WebSocketUrl'])}/ws",
        endpoint_url=f"http://{embedded.HOST}:{port}",
        bucket=outputs["EphemeralBucket"],
        voices_bucket=outputs["VoicesBucket"],
        synthesis_queue=outputs["SynthesisQueue"],
    )


def _api_id(url: str) -> str:
    return (urlsplit(url).hostname or "").split(".")[0]


async def serve(port: int, settings: Settings) -> None:
    """Start everything, say so, and keep it running until told to stop by a signal."""
    stop_on_signals()
    cloud = Child(cloud_program(port, settings))
    children = [cloud]
    tasks = [asyncio.create_task(cloud.keep_running())]
    try:
        await until_ready([cloud], tasks)
        deployed = await deploy(port, settings)
        worker = Child(worker_program(deployed))
        children.append(worker)
        tasks.append(asyncio.create_task(worker.keep_running()))
        await until_ready([worker], tasks)
        _announce(deployed)
        await asyncio.gather(*tasks)
    except asyncio.CancelledError:
        log.info("stopping")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for child in reversed(children):
            await child.stop(CLOUD_STOP_SECONDS if child is cloud else WORKER_STOP_SECONDS)


def _announce(deployed: Deployed) -> None:
    """Print where everything listens, and leave it in a file, which is whole as soon as it is there."""
    text = json.dumps(asdict(deployed), indent=2)
    with tempfile.NamedTemporaryFile("w", dir=DEPLOYED_FILE.parent, delete=False, encoding="utf-8") as file:
        file.write(text)
    Path(file.name).replace(DEPLOYED_FILE)
    print(f"\nDeployed:\n{text}\n\nCtrl-C stops everything.\n", flush=True)


def main() -> int:
    """Deploy and serve until stopped; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not os.environ.get("TTS_BACKEND"):
        os.environ["TTS_BACKEND"] = "mock"
    DEPLOYED_FILE.unlink(missing_ok=True)
    try:
        port = free_port(embedded.HOST)
        environment = embedded.for_clients(os.environ, port)
        os.environ.clear()
        os.environ.update(environment)
        settings = load_settings()
        configure_logging(settings, "deploy-local")
        os.environ["AWS_DEFAULT_REGION"] = settings.aws_region
        asyncio.run(serve(port, settings))
    except (SettingsError, PortRefused, EnvironmentFailed, GaveUp, CommandFailed) as error:
        print(f"Can't deploy: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        DEPLOYED_FILE.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
