"""The assumptions and prices of the simulation: `assumptions.yaml` and `prices.yaml`, validated."""

from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

HERE = Path(__file__).parent

M = TypeVar("M", bound=BaseModel)


class _Sourced(BaseModel):
    """Numbers, each written with its source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _take_values(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {name: _value(name, entry) for name, entry in given.items()}


def _value(name: str, entry: object) -> object:
    if not isinstance(entry, dict) or "value" not in entry:
        return entry
    if not entry.get("source"):
        raise ValueError(f"{name} should say where it comes from")
    return entry["value"]


class AssumedSpeed(BaseModel):
    """The synthesis speed of a GPU, where none was measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu: str
    base_ms_per_frame: float
    ms_per_frame_and_stream: float
    source: str


class Traffic(_Sourced):
    """The clients' requests."""

    mean_audio_seconds: float
    audio_spread: float
    longest_audio_seconds: float
    day_peak_to_mean: float
    synchronous_share: float
    new_reference_share: float


class Aws(_Sourced):
    """Behaviour of AWS that no template specifies."""

    metric_seconds: int
    metric_lag_seconds: int
    metric_lag_spread_seconds: float
    straggling_share: float
    inactive_queue_hours: float
    inactive_queue_lag_seconds: int
    tracking_out_datapoints: int
    tracking_in_datapoints: int
    managed_scaling_seconds: int
    managed_scale_in_datapoints: int
    managed_scale_in_share: float
    managed_first_instances: int
    instance_launch_seconds: float
    image_gigabytes: float
    image_pull_megabytes_per_second: float
    model_load_seconds: float
    task_stop_seconds: float
    renewal_refused_seconds: float
    io_seconds: float
    spot_interruptions_per_instance_hour: float

    @property
    def image_pull_seconds(self) -> float:
        """Time that an instance without the worker's image takes to pull it."""
        return 1000 * self.image_gigabytes / self.image_pull_megabytes_per_second


class AccountLimits(_Sourced):
    """AWS quotas of an account."""

    account_concurrency: int
    api_requests_per_second: int
    sqs_in_flight: int
    gpu_vcpus: int
    vcpus_per_instance: int


class Assumptions(BaseModel):
    """All of `assumptions.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    written: date
    speed: AssumedSpeed
    traffic: Traffic
    aws: Aws
    limits: AccountLimits


class InstancePrice(BaseModel):
    """The hourly prices of one instance type."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    on_demand: float
    spot: float
    source: str


class PerPreview(_Sourced):
    """The resources that one preview uses, except the GPU."""

    s3_puts: float
    s3_gets: float
    s3_gets_per_second_of_waiting: float
    sqs_requests: float
    fair_requests: float
    notify_gigabyte_seconds: float
    function_seconds: float
    http_requests: float
    log_kilobytes: float
    audio_kilobytes_per_second: float
    upload_kilobytes: float


class Prices(_Sourced):
    """All of `prices.yaml`."""

    written: date
    region: str
    instance_hour: dict[str, InstancePrice]
    disk_gigabyte_month: float
    disk_megabyte_per_second_month: float
    public_address_hour: float
    image_gigabyte_month: float
    lambda_gigabyte_second: float
    lambda_gigabyte_second_arm: float
    lambda_million_requests: float
    http_million_requests: float
    websocket_million_messages: float
    sqs_million_requests: float
    sqs_million_fair_requests: float
    s3_thousand_puts: float
    s3_thousand_gets: float
    s3_gigabyte_month: float
    transfer_gigabyte: float
    logs_gigabyte: float
    alarm_month: float
    metric_month: float
    dashboard_month: float
    schedule_million: float
    per_preview: PerPreview


def load_assumptions() -> Assumptions:
    """Read `assumptions.yaml`."""
    return _load(Assumptions, "assumptions.yaml")


def load_prices() -> Prices:
    """Read `prices.yaml`."""
    return _load(Prices, "prices.yaml")


def _load(kind: type[M], name: str) -> M:
    return kind.model_validate(yaml.safe_load((HERE / name).read_text()))
