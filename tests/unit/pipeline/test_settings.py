"""Settings from the environment, and the messages for invalid values."""

import re

import pytest

from pipeline.environment import SettingsError
from pipeline.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*Settings.model_fields, "aws_default_region"):
        monkeypatch.delenv(name.upper(), raising=False)


def complaint(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("TTS_BACKEND", "espeak", "'qwen', 'hibari' or 'mock'"),
        ("AUTH", "off", "'keys' or 'none'"),
        ("PORT", "web", "whole number"),
        ("PORT", "65536", "less than or equal to 65535"),
        ("PORT", "-1", "greater than or equal to 0"),
        ("UVICORN_WORKERS", "0", "greater than or equal to 1"),
        ("UVICORN_WORKERS", "2.5", "whole number"),
        ("WORKER_HEALTH_PORT", "70000", "65535"),
        ("PREVIEW_WAIT_SECONDS", "-1", "greater than or equal to 0"),
        ("PREVIEW_WAIT_SECONDS", "soon", "number"),
        ("PREVIEW_WAIT_SECONDS", "nan", "finite number"),
        ("AWS_ENDPOINT_URL", "localhost:4566", "http://127.0.0.1:4566"),
        ("AWS_ENDPOINT_URL", "ftp://localhost", "http://127.0.0.1:4566"),
        ("AWS_ENDPOINT_URL", "http://", "http://127.0.0.1:4566"),
        ("AWS_ENDPOINT_URL", "http://:4566", "http://127.0.0.1:4566"),
        ("AWS_ENDPOINT_URL", "http://[::1", "http://127.0.0.1:4566"),
        ("AWS_ENDPOINT_URL", "http://localhost:port", "http://127.0.0.1:4566"),
        ("AWS_ENDPOINT_URL_S3", "minio", "http://127.0.0.1:4566"),
        ("AWS_ENDPOINT_URL_SQS", "/queue", "http://127.0.0.1:4566"),
        *(
            ("CORS_ORIGINS", value, "https://studio.example")
            for value in (
                "*",
                "null",
                "studio.example",
                "https://studio.example/",
                "https://studio.example/page",
                "https://STUDIO.example",
                "https://studio.example:443",
                "http://studio.example:80",
                "https://*.example",
                "https://user@studio.example",
                "https://studio..example",
                "ftp://studio.example",
                "file://studio.example",
                "wss://studio.example",
                "javascript://studio.example",
                "app://obsidian.md/",
                "app:",
                "app://",
                "App://obsidian.md",
                "1app://obsidian.md",
                "https://a.example https://b.example",
            )
        ),
        ("BODY_TIMEOUT_SECONDS", "0", "greater than 0"),
        ("BUCKET", "ab", "at least 3"),
        ("BUCKET", "b" * 64, "at most 63"),
        ("VOICES_BUCKET", "v", "at least 3"),
        ("UPLOAD_RETENTION_HOURS", "0", "greater than 0"),
        ("UPLOAD_RETENTION_HOURS", "inf", "finite number"),
        ("UPLOAD_RETENTION_HOURS", "1e300", "less than or equal to"),
        ("UPLOAD_FORM_MINUTES", "0", "greater than 0"),
        ("PREVIEW_RETENTION_MINUTES", "-20", "greater than 0"),
        ("PREVIEW_RETENTION_MINUTES", "inf", "finite number"),
        ("JOB_RETENTION_HOURS", "nan", "finite number"),
        ("JOB_RETENTION_HOURS", "inf", "finite number"),
        ("CONNECTION_RETENTION_HOURS", "inf", "finite number"),
        ("JOB_DEADLINE_MINUTES", "0", "greater than 0"),
        ("JOB_DEADLINE_MINUTES", "inf", "finite number"),
        ("REFERENCE_MAX_MEGABYTES", "0", "greater than 0"),
        ("REFERENCE_MIN_SECONDS", "inf", "finite number"),
        ("REFERENCE_MAX_SECONDS", "inf", "finite number"),
        ("TRANSCRIPTION_MAX_CHARS", "0", "greater than or equal to 1"),
        ("TEXT_MAX_CHARS", "many", "whole number"),
        ("WORKER_BATCH_SIZE", "0", "greater than or equal to 1"),
        ("VISIBILITY_TIMEOUT_SECONDS", "43201", "less than or equal to 43200"),
        ("RECEIVE_WAIT_SECONDS", "21", "less than or equal to 20"),
        ("MAX_RECEIVES", "0", "greater than or equal to 1"),
        ("PROMPT_CACHE_SIZE", "-1", "greater than or equal to 0"),
        ("MOCK_DELAY_SECONDS", "-0.1", "greater than or equal to 0"),
        ("ROOT_PATH", "/tts/", "such as /tts"),
        ("ROOT_PATH", "tts", "such as /tts"),
        ("DEVICE", "gpu", "'auto', 'cpu', 'cuda' or 'cuda:N'"),
        ("PRELOAD_MODEL_ON_STARTUP", "maybe", "true or false"),
        ("LOG_LEVEL", "LOUD", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("LOG_FORMAT", "xml", "'text' or 'json'"),
        ("LOG_PAYLOAD_CHARS", "-1", "greater than or equal to 0"),
    ],
)
def test_invalid_value(monkeypatch: pytest.MonkeyPatch, name: str, value: str, right: str) -> None:
    message = complaint(monkeypatch, **{name: value})
    assert message.startswith(f"{name}: ")
    assert right in message
    assert f"(it is {value!r})"[:40] in message
    assert "\n" not in message
    assert not re.search(r"pars|pattern|validation|Input|Value|pydantic", message)


def test_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    message = complaint(monkeypatch, ORIGIN_SECRET="too-short")
    assert message == "ORIGIN_SECRET: should have at least 16 characters"


def test_all_invalid_values_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    message = complaint(monkeypatch, PORT="x", LOG_LEVEL="LOUD", TEXT_MAX_CHARS="0")
    assert [line.split(":")[0] for line in message.splitlines()] == ["PORT", "TEXT_MAX_CHARS", "LOG_LEVEL"]


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"REFERENCE_MIN_SECONDS": "60"}, ["REFERENCE_MIN_SECONDS", "REFERENCE_MAX_SECONDS"]),
        ({"REFERENCE_MAX_SECONDS": "0.5"}, ["REFERENCE_MIN_SECONDS", "REFERENCE_MAX_SECONDS"]),
        (
            {"JOB_RETENTION_HOURS": "1"},
            ["JOB_RETENTION_HOURS", "JOB_DEADLINE_MINUTES", "PREVIEW_RETENTION_MINUTES"],
        ),
        ({"JOB_DEADLINE_MINUTES": "1430"}, ["JOB_RETENTION_HOURS"]),
    ],
)
def test_conflicting_values(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], named: list[str]) -> None:
    message = complaint(monkeypatch, **environment)
    assert all(name in message for name in named)
    assert "should be" in message


def test_consistent_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_RETENTION_HOURS", "1.5")
    monkeypatch.setenv("PREVIEW_RETENTION_MINUTES", "30")
    monkeypatch.setenv("REFERENCE_MIN_SECONDS", "59.9")
    assert load_settings().job_retention_hours == 1.5


def test_empty_value_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(name.upper(), "")
    assert load_settings() == Settings()


def test_names_ignore_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("log_level", "debug")
    monkeypatch.setenv("LOG_FORMAT", "JSON")
    monkeypatch.setenv("Tts_Backend", "Mock")
    monkeypatch.setenv("MOCK_DELAY_SECONDS", "1e-1")
    settings = load_settings()
    assert (settings.log_level, settings.log_format, settings.tts_backend) == ("DEBUG", "json", "mock")
    assert settings.mock_delay_seconds == 0.1


def test_unknown_variable_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTS", "x")
    assert load_settings().port == 8000


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_region_has_two_names(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "eu-central-1")
    assert load_settings().aws_region == "eu-central-1"


def test_endpoints_per_service() -> None:
    settings = Settings(aws_endpoint_url="http://all:1", aws_endpoint_url_s3="https://minio.example")
    assert settings.endpoint_for("s3") == "https://minio.example"
    assert settings.endpoint_for("sqs") == "http://all:1"
    assert Settings().endpoint_for("s3") is None


def test_cors_origins_list(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().allowed_origins == ()
    named = ("https://studio.example", "http://localhost:3000", "http://[::1]:8080", "http://a-b.example:443")
    monkeypatch.setenv("CORS_ORIGINS", ", ".join(named) + ",")
    assert load_settings().allowed_origins == named


@pytest.mark.parametrize(
    "origin",
    [
        "app://obsidian.md",
        "tauri://localhost",
        "capacitor://localhost:8080",
        "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        "moz-extension://2c127fa4-62c7-7e4f-90e5-472b45eecfdc",
        "vscode-webview://0bchk3_a",
    ],
)
def test_cors_origins_app_scheme(origin: str) -> None:
    assert Settings(cors_origins=f"https://studio.example,{origin}").allowed_origins[1] == origin


def test_voices_bucket_default() -> None:
    assert Settings(bucket="all-of-it").bucket_for_voices == "all-of-it"
    assert Settings(bucket="all-of-it", voices_bucket="voices").bucket_for_voices == "voices"


def test_every_setting_has_description() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_megabytes_are_binary() -> None:
    assert Settings(reference_max_megabytes=0.5).reference_max_bytes == 512 * 1024


@pytest.mark.parametrize(
    ("environment", "wants_keys"),
    [
        ({}, False),
        ({"HOST": "127.8.8.8"}, False),
        ({"HOST": "::1"}, False),
        ({"HOST": "localhost"}, False),
        ({"HOST": "0.0.0.0"}, True),
        ({"HOST": "::"}, True),
        ({"HOST": "192.168.1.4"}, True),
        ({"HOST": "voices.example"}, True),
        ({"HOST": "0.0.0.0", "AUTH": "none"}, False),
        ({"AUTH": "Keys"}, True),
        ({"AWS_LAMBDA_FUNCTION_NAME": "http"}, True),
        ({"AWS_LAMBDA_FUNCTION_NAME": "http", "AUTH": "none"}, False),
    ],
)
def test_auth_default(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], wants_keys: bool) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert load_settings().wants_keys is wants_keys


@pytest.mark.parametrize("proxies", ["127.0.0.1", "10.0.0.0/8, ::1", "2001:db8::/32"])
def test_trusted_proxies(proxies: str) -> None:
    assert len(Settings(trusted_proxies=proxies).proxies) == proxies.count(",") + 1


@pytest.mark.parametrize("proxies", ["*", "localhost", "10.0.0.1/8", "127.0.0.1;::1"])
def test_trusted_proxies_invalid(proxies: str) -> None:
    with pytest.raises(ValueError, match="addresses or networks"):
        Settings(trusted_proxies=proxies)
