"""The pages of `docs/` contain every setting, route, header and message."""

import re
from pathlib import Path
from typing import Any

import pytest

from functions.http.application import create_app
from functions.websocket.client_messages import CLIENT_MESSAGES
from functions.websocket.server_messages import SERVER_MESSAGES
from pipeline.settings import Settings
from tests.support.settings_table import PAGE, rows

DOCS = PAGE.parent
DESCRIPTION: dict[str, Any] = create_app(Settings(auth="keys")).openapi()
OPERATIONS = [
    (method, path, operation)
    for path, methods in DESCRIPTION["paths"].items()
    for method, operation in methods.items()
]
# Standard headers that need no documentation.
PLAIN_HEADERS = {
    "Accept-Ranges",
    "Cache-Control",
    "Content-Range",
    "If-None-Match",
    "If-Range",
    "Last-Modified",
    "Link",
    "Vary",
}


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text()


def routes_page() -> str:
    return page("http") + page("openai") + page("consents")


def is_named(word: str, text: str) -> bool:
    """Return whether a word occurs in the text as code."""
    codes = re.findall(r"(```|`)(.+?)\1", text, re.DOTALL)
    return any(re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", code) for _, code in codes)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.split("`")[1])
def test_setting_is_documented(row: str) -> None:
    assert row in page("settings").splitlines()


def test_documented_settings_exist() -> None:
    there = {line for line in page("settings").splitlines() if line.startswith("| `")}
    assert there == set(rows())


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in OPERATIONS if method != "head"])
def test_route_is_documented(method: str, path: str) -> None:
    assert f"| `{method.upper()} {path}` |" in routes_page()


def test_documented_routes_exist() -> None:
    named = set(re.findall(r"^\| `([A-Z]+ [^`]+)` \|", routes_page(), re.MULTILINE))
    assert named - {"GET /docs"} == {
        f"{method.upper()} {path}" for method, path, _ in OPERATIONS if method != "head"
    }


def headers() -> set[str]:
    given = {
        parameter["name"]
        for _, _, operation in OPERATIONS
        for parameter in operation["parameters"]
        if parameter["in"] == "header"
    }
    answered = {
        name
        for _, _, operation in OPERATIONS
        for answer in operation["responses"].values()
        for name in answer["headers"]
    }
    return {name.title() if name.islower() else name for name in given | answered} - PLAIN_HEADERS


@pytest.mark.parametrize("name", sorted(headers()))
def test_header_is_documented(name: str) -> None:
    assert re.search(rf"(?<![\w-]){name}(?![\w-])", routes_page(), re.IGNORECASE)


def form_fields() -> set[str]:
    schemas = DESCRIPTION["components"]["schemas"]
    bodies = [schema for name, schema in schemas.items() if name.startswith(("Body_", "New"))]
    return {field for body in bodies for field in body["properties"]}


@pytest.mark.parametrize("name", sorted(form_fields()))
def test_form_field_is_documented(name: str) -> None:
    assert is_named(name, routes_page())


@pytest.mark.parametrize(
    "status",
    sorted({status for _, _, operation in OPERATIONS for status in operation["responses"] if int(status) >= 400}),
)
def test_error_status_is_documented(status: str) -> None:
    assert re.search(rf"\b{status}\b", page("http"))


@pytest.mark.parametrize(
    ("type_", "field"),
    [(type_, field) for type_, model in CLIENT_MESSAGES.items() for field in model.model_fields],
)
def test_client_message_field_is_documented(type_: str, field: str) -> None:
    assert f'"type":"{type_}"' in page("websocket")
    assert is_named(field, page("websocket"))


@pytest.mark.parametrize(
    ("type_", "field"),
    sorted({(type_, field) for type_, model in SERVER_MESSAGES.values() for field in model.model_fields}),
)
def test_server_message_field_is_documented(type_: str, field: str) -> None:
    assert f'"type":"{type_}"' in page("websocket")
    assert is_named(field, page("websocket"))


def test_links_resolve() -> None:
    for file in [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)]*)\)", file.read_text()):
            linked = (file.parent / target).resolve() if target else file
            assert linked.exists(), f"{file.name} links {target}"
            assert not anchor or anchor in anchors(linked), f"{file.name} links {target}#{anchor}"


def anchors(file: Path) -> set[str]:
    """Return the anchors of a Markdown page's headings."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_readme_curl_shows_errors() -> None:
    commands = [
        line.strip()
        for line in (DOCS.parent / "README.md").read_text().splitlines()
        if re.match(r"\s*(while )?curl ", line)
    ]
    assert len(commands) > 5
    # `-f` hides the body, which contains the error message.
    assert not [command for command in commands if re.search(r"curl (-\w+ )*-\w*f", command)]
    assert all("--fail-with-body" in command or command.startswith("while ") for command in commands)


def test_named_files_exist() -> None:
    pages = "\n".join(file.read_text() for file in [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")])
    named = re.findall(r"`((?:pipeline|functions|gpu_runner|localstack|infra|docs|tests)/[^`\s<*]*)`", pages)
    assert len(named) > 100
    missing = {name for name in named if not (DOCS.parent / name).exists()}
    assert {
        name for name in missing if not name.startswith("docs/benchmarks/")
    } == set()  # results are written there
