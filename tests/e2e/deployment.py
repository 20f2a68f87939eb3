"""`template.yaml` deployed to an emulator, as by `make deploy-local`."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from deploy_local import DEPLOYED_FILE, Deployed
from filelock import FileLock
from supervision.sample_recording import write_sample

from tests.e2e.stack import ROOT, read_log, wait_until

DEPLOY_SECONDS = 600
BUILDS = ROOT / ".aws-sam"


class Deployment:
    """The deployment behind an emulated API Gateway.  It has the interface of `Stack`."""

    notifier = "notify"

    def __init__(self, data: Path) -> None:
        self.data = data
        self.url = ""
        self.socket_url = ""
        self.key: str | None = None
        self._log = data.with_suffix(".log")
        self.deployed: Deployed | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Build, deploy, and wait until the deployment is complete."""
        self.data.mkdir(parents=True)
        write_sample(self.data / "sample.wav")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                # It ends with this process, even if that is killed.
                [
                    sys.executable,
                    str(ROOT / "localstack" / "supervision" / "exit_with_parent.py"),
                    str(ROOT / "localstack" / "deploy_local.py"),
                ],
                cwd=ROOT,
                env={
                    **os.environ,
                    "TTS_BACKEND": "mock",
                    "MARK": "auto",
                    "LOG_FORMAT": "json",
                    "RECEIVE_WAIT_SECONDS": "5",
                },
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        ended = self._process.poll
        wait_until(lambda: DEPLOYED_FILE.exists() or ended() is not None, "deployed", DEPLOY_SECONDS)
        assert ended() is None, self.logged()[-4000:]
        deployed = Deployed(**json.loads(DEPLOYED_FILE.read_text()))
        self.url, self.socket_url = deployed.http_url, deployed.websocket_url
        self.deployed = deployed
        self.key = self._make_key(deployed)

    def _make_key(self, deployed: Deployed) -> str:
        environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": deployed.access_key_id,
            "AWS_SECRET_ACCESS_KEY": deployed.secret_access_key,
            "AWS_ENDPOINT_URL": deployed.endpoint_url,
            "BUCKET": deployed.bucket,
            "VOICES_BUCKET": deployed.voices_bucket,
        }
        command = [sys.executable, "-m", "functions.keys", "make", "--owner", "alice"]
        made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def logged(self) -> str:
        """Return the log of the emulator, the worker and the functions."""
        return "\n".join([read_log(self._log), *self._logged_by_functions()])

    def _logged_by_functions(self) -> Iterator[str]:
        if self.deployed is None:
            return
        logs = boto3.client(
            "logs",
            endpoint_url=self.deployed.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=self.deployed.access_key_id,
            aws_secret_access_key=self.deployed.secret_access_key,
        )
        for group in logs.describe_log_groups()["logGroups"]:
            for event in logs.filter_log_events(logGroupName=group["logGroupName"])["events"]:
                yield event["message"]

    def stop(self) -> None:
        """Stop it by closing its standard input."""
        if self._process is not None:
            self._process.communicate(timeout=30)


@contextmanager
def deployed(data: Path) -> Iterator[Deployment]:
    """Deploy, and remove the deployment when the context ends."""
    deployment = Deployment(data)
    BUILDS.mkdir(exist_ok=True)
    # One at a time, because deployments share the build folder.
    with FileLock(BUILDS / "e2e.lock"):
        try:
            deployment.start()
            yield deployment
        finally:
            deployment.stop()
