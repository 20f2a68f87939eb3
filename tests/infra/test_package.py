"""The content of the functions' package: locked dependencies, excluded modules and trimmed service models."""

import ast
import gzip
import json
import re
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.loaders
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError

ROOT = Path(__file__).parents[2]
BUILD: dict[str, Any] = runpy.run_path(str(ROOT / "infra" / "package" / "build.py"))
LOCK = (ROOT / "requirements" / "functions.lock").read_text()


def used_services() -> set[str]:
    """Return the AWS services for which our packages create clients."""
    calls = [
        node
        for room in BUILD["OURS"]
        for file in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "client"
    ]
    names = [call.args[0] for call in calls]
    assert all(isinstance(name, ast.Constant) for name in names)
    return {str(name.value) for name in names if isinstance(name, ast.Constant)}


def test_packaged_services_are_the_used_ones() -> None:
    assert used_services() == set(BUILD["SERVICES"])


def test_lock_contains_only_function_packages() -> None:
    locked = set(re.findall(r"^([a-z0-9._-]+)==", LOCK, re.MULTILINE))
    assert {"fastapi", "mangum", "aioboto3", "soundfile"} <= locked
    assert not locked & {"torch", "moto", "pytest", "uvicorn", "websockets", "psutil", "hypothesis"}


def test_lock_matches_dev_lock() -> None:
    pinned = re.compile(r"^([a-z0-9._-]+==[^ ]+)", re.MULTILINE)
    assert set(pinned.findall(LOCK)) <= set(pinned.findall((ROOT / "requirements" / "dev.lock").read_text()))


@pytest.mark.parametrize("name", [name for name in BUILD["UNUSED"] if name.startswith("functions/")])
def test_excluded_module_is_not_imported(name: str) -> None:
    module = name.removesuffix(".py").replace("/", ".")
    assert (ROOT / name).exists()
    entry_points = {f"functions.aws.{entry}" for entry in ("http", "websocket", "notify", "dead_letters", "sweep")}
    assert module not in _reached(entry_points)


def _reached(modules: set[str]) -> set[str]:
    seen, waiting = set[str](), set(modules)
    while waiting:
        module = waiting.pop()
        seen.add(module)
        file = ROOT / (module.replace(".", "/") + ".py")
        for node in ast.walk(ast.parse(file.read_text())) if file.exists() else ():
            if isinstance(node, ast.ImportFrom):
                found = {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                found = {alias.name for alias in node.names}
            else:
                continue
            waiting |= {name for name in found if name.startswith(("functions", "pipeline"))} - seen
    return seen


def test_trimmed_descriptions_lose_only_texts(tmp_path: Path) -> None:
    described = {
        "documentation": "<p>Long.</p>",
        "shapes": {"S": {"members": {"documentation": {"shape": "T", "documentation": "x"}}, "required": ["a"]}},
    }
    for service in ("s3", "ec2"):
        folder = tmp_path / service / "2020-01-01"
        folder.mkdir(parents=True)
        (folder / "service-2.json.gz").write_bytes(gzip.compress(json.dumps(described).encode()))
    partition = {"partition": "aws", "services": {"s3": {"endpoints": {}}, "ec2": {}, "execute-api": {}}}
    (tmp_path / "endpoints.json").write_text(json.dumps({"partitions": [partition], "version": 3}))
    BUILD["_trim_descriptions"](tmp_path)
    kept = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert kept == {"endpoints.json", "s3/2020-01-01/service-2.json"}
    assert json.loads((tmp_path / "s3" / "2020-01-01" / "service-2.json").read_text()) == {
        "documentation": "",
        "shapes": {"S": {"members": {"documentation": {"shape": "T", "documentation": ""}}, "required": ["a"]}},
    }
    (trimmed,) = json.loads((tmp_path / "endpoints.json").read_text())["partitions"]
    assert set(trimmed["services"]) == {"s3", "execute-api"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("service", "call"),
    [
        ("s3", lambda client: client.head_bucket(Bucket="some-bucket")),
        ("sqs", lambda client: client.list_queues()),
        ("apigatewaymanagementapi", lambda client: client.delete_connection(ConnectionId="c")),
    ],
)
def test_trimmed_descriptions_serve_call(service: str, call: Callable[[Any], object], tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(Path(botocore.__file__).parent / "data", data)
    BUILD["_trim_descriptions"](data)
    session = botocore.session.Session()
    loader = botocore.loaders.Loader([str(data)], include_default_search_paths=False)
    session.register_component("data_loader", loader)
    client = session.create_client(
        service,
        region_name="us-east-1",
        endpoint_url="http://127.0.0.1:9",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=Config(retries={"total_max_attempts": 1}),
    )
    with pytest.raises(EndpointConnectionError):
        call(client)
