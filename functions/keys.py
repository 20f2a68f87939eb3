"""`python -m functions.keys`: create, list, expire and revoke API keys, in the storage that the environment names.

Only the result is written to standard output, so that a new key can be piped into a secret store.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta

from pipeline.access import api_keys, webhook_receivers
from pipeline.access.api_keys import SCOPES, KeyRecord, Listed
from pipeline.access.owners import check_owner
from pipeline.clients.resources import Resources, connect
from pipeline.contract.records import format_utc
from pipeline.environment import SettingsError
from pipeline.errors import PipelineError
from pipeline.ids import Owner
from pipeline.settings import load_settings
from pipeline.telemetry.logs import configure_logging

WRONG_SETTING = 2
FAILED = 1

DEFAULT_SCOPES = ("preview", "voices:write")
DAYS_MAX = 36_500
COLUMNS = ("id", "owner", "name", "scopes", "created", "expires", "revoked", "last used")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        settings = load_settings()
        configure_logging(settings, "keys")
        asyncio.run(_do(options))
    except SettingsError as error:
        _print_note(str(error))
        return WRONG_SETTING
    except PipelineError as error:
        _print_note(_reason(error))
        return FAILED
    return 0


async def _do(options: argparse.Namespace) -> None:
    async with connect(load_settings()) as resources:
        await options.command(resources, options)


async def _make(resources: Resources, options: argparse.Namespace) -> None:
    days: timedelta | None = options.expires_in_days
    text, record = await api_keys.make(
        resources,
        owner=options.owner,
        name=options.name,
        scopes=options.scope or DEFAULT_SCOPES,
        expires_at=resources.clock() + days if days is not None else None,
    )
    sys.stdout.write(text + "\n")
    until = f"until {format_utc(record.expires_at)}" if record.expires_at else "until it is revoked"
    _print_note(
        f"Made key {record.key_id} for {record.owner} ({', '.join(record.scopes)}), good {until}. "
        f"Keep it now: it is not shown again."
    )


async def _list(resources: Resources, options: argparse.Namespace) -> None:
    rows = [COLUMNS, *(_row(listed) for listed in await api_keys.list_keys(resources, options.owner))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def _row(listed: Listed) -> tuple[str, ...]:
    record = listed.record
    moments = (record.created_at, record.expires_at, record.revoked_at, listed.used_at)
    return (
        record.key_id,
        record.owner,
        record.name or "-",
        ",".join(record.scopes),
        *(format_utc(moment) if moment else "-" for moment in moments),
    )


async def _webhook_secret(resources: Resources, options: argparse.Namespace) -> None:
    sys.stdout.write(await webhook_receivers.make_secret(resources, _owner(options)) + "\n")
    _print_note(
        "Made a webhook secret. Keep it now: it is not shown again. "
        "The one before, if any, stays valid until the next is made."
    )


async def _webhook_url(resources: Resources, options: argparse.Namespace) -> None:
    await webhook_receivers.set_url(resources, _owner(options), options.url)
    _print_note(
        f"Webhooks of jobs without webhook_url are sent to {options.url}."
        if options.url
        else "There is no receiver now."
    )


def _owner(options: argparse.Namespace) -> Owner:
    return check_owner(options.owner) if options.owner is not None else None


async def _expire(resources: Resources, options: argparse.Namespace) -> None:
    moment: datetime = options.at or resources.clock() + options.in_days
    record = await api_keys.expire(resources, options.key_id, moment)
    _print_note(
        f"{_named(record)} is good until {format_utc(moment)}. This takes effect everywhere within a minute."
    )


async def _revoke(resources: Resources, options: argparse.Namespace) -> None:
    record = await api_keys.revoke(resources, options.key_id)
    _print_note(f"{_named(record)} is revoked. This takes effect everywhere within a minute.")


def _named(record: KeyRecord) -> str:
    return f"Key {record.key_id} of {record.owner}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m functions.keys", description="Makes, lists, expires and revokes API keys."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    make = commands.add_parser("make", help="make a key and print it, once")
    make.add_argument(
        "--owner",
        required=True,
        help="the owner of the voices that it gives access to: lower-case letters, digits, hyphens",
    )
    make.add_argument("--name", default="", help="a description, such as the machine that uses it")
    make.add_argument(
        "--scope",
        action="append",
        choices=SCOPES,
        help=f"a permission; the default is {' and '.join(DEFAULT_SCOPES)}",
    )
    make.add_argument("--expires-in-days", type=_days, metavar="N")
    make.set_defaults(command=_make)

    list_ = commands.add_parser("list", help="list the keys without their secrets, oldest first")
    list_.add_argument("--owner", help="list only the keys of this owner")
    list_.set_defaults(command=_list)

    expire = commands.add_parser("expire", help="change when a key expires")
    expire.add_argument("key_id", metavar="KEY_ID")
    moment = expire.add_mutually_exclusive_group(required=True)
    moment.add_argument("--in-days", type=_days, metavar="N", help="0: now")
    moment.add_argument("--at", type=_moment, metavar="TIME", help="such as 2030-01-01T00:00:00Z")
    expire.set_defaults(command=_expire)

    revoke = commands.add_parser("revoke", help="revoke a key; this can't be undone")
    revoke.add_argument("key_id", metavar="KEY_ID")
    revoke.set_defaults(command=_revoke)

    secret = commands.add_parser("webhook-secret", help="make the secret that webhooks are signed with")
    secret.add_argument("--owner", help="the owner of the jobs; omit it if the service uses no keys")
    secret.set_defaults(command=_webhook_secret)

    receiver = commands.add_parser("webhook-url", help="set the receiver of webhooks of jobs without webhook_url")
    receiver.add_argument("--owner", help="the owner of the jobs; omit it if the service uses no keys")
    receiver.add_argument("url", nargs="?", metavar="URL", help="omit it to remove the receiver")
    receiver.set_defaults(command=_webhook_url)
    return parser


def _days(text: str) -> timedelta:
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number <= DAYS_MAX:
        raise argparse.ArgumentTypeError(f"should be a number of days from 0 to {DAYS_MAX}")
    return timedelta(days=number)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.utcoffset() is None:
        raise argparse.ArgumentTypeError("should be a time with its zone, such as 2030-01-01T00:00:00Z")
    return moment


def _reason(error: PipelineError) -> str:
    """Return the reason of an error for an administrator, including its cause."""
    beneath = f" {error.__cause__}" if error.__cause__ else ""
    return " ".join((error.message + beneath).split())


def _print_note(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
