"""`python -m functions.audit verify`: verify the audit log in the storage that the environment names.

For each chain, it prints one line of JSON with the last entry and its hash.  If these lines are kept outside of the
storage, a later verification shows whether the last entries were removed or changed.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from pipeline.access.audit import chain
from pipeline.access.audit.verification import BrokenChain, Head, verify
from pipeline.clients.resources import connect
from pipeline.contract import layout
from pipeline.environment import SettingsError
from pipeline.errors import PipelineError
from pipeline.settings import load_settings
from pipeline.telemetry.logs import configure_logging

WRONG_ARGUMENT = 2
FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        settings = load_settings()
        configure_logging(settings, "audit")
        known = _heads(options.heads) if options.heads else {}
        asyncio.run(_verify(options.owner, known))
    except (SettingsError, OSError, ValidationError) as error:
        sys.stderr.write(f"{error}\n")
        return WRONG_ARGUMENT
    except BrokenChain as error:
        sys.stderr.write(f"{error}\n")
        return FAILED
    except PipelineError as error:
        sys.stderr.write(f"{error.message}\n")
        return FAILED
    return 0


async def _verify(owner: str | None, known: dict[str, Head]) -> None:
    async with connect(load_settings()) as resources:
        names = [layout.audit_chain(owner)] if owner else sorted({*await chain.chains(resources), *known})
        for name in names:
            if head := await verify(resources, name, known.get(name)):
                sys.stdout.write(head.model_dump_json() + "\n")


def _heads(file: Path) -> dict[str, Head]:
    heads = [Head.model_validate_json(line) for line in file.read_bytes().splitlines()]
    return {head.chain: head for head in heads}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m functions.audit", description="Verifies the audit log.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    verifying = commands.add_parser("verify", help="verify that no entry is changed or missing")
    verifying.add_argument("--owner", help="verify only the entries of this owner")
    verifying.add_argument("--heads", type=Path, metavar="FILE", help="compare with the output of an earlier run")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
