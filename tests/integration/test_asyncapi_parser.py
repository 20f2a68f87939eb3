"""The AsyncAPI document in the official parser, which `asyncapi validate` uses too."""

import json
import subprocess
from pathlib import Path

import pytest

from functions.http.pages.asyncapi_document import document

ROOT = Path(__file__).parents[2]
SCRIPT = """
import { Parser } from "@asyncapi/parser";
const text = await new Response(process.stdin).text();
const { diagnostics } = await new Parser().parse(text);
process.stdout.write(JSON.stringify(diagnostics.map((one) => `${one.path.join(".")}: ${one.message}`)));
"""

pytestmark = pytest.mark.slow


def faults(text: str) -> list[str]:
    command = ["node", "--input-type=module", "--eval", SCRIPT]
    ran = subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True, timeout=120, check=True)
    found: list[str] = json.loads(ran.stdout)
    return found


def test_asyncapi_parser_accepts_document() -> None:
    assert faults(json.dumps(document())) == []


def test_asyncapi_parser_rejects_bad_action() -> None:
    wrong = json.loads(json.dumps(document()))
    wrong["operations"]["send"]["action"] = "shout"
    assert faults(json.dumps(wrong)) != []
