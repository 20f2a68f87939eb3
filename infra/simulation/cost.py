"""The cost of a day, by item."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from infra.simulation.assumptions import Prices
from infra.simulation.policy import Policy, Scaling
from infra.simulation.simulated_day import DayResult, End

HOURS_A_MONTH = 730.0
DAYS_A_MONTH = HOURS_A_MONTH / 24
MILLION = 1e6
IMAGES_KEPT = 5
MINUTES_A_DAY = 1440
POLLED_QUEUES = 3  # by Lambda: events, webhooks, and the dead letters of synthesis
LAMBDA_POLLERS = 5
SWEEP_LISTINGS = 13  # a minute
SWEEP_PUTS = 1  # a minute: the record of the sweep
SWEEP_GIGABYTE_SECONDS = 0.25  # half a second of 512 MB


@dataclass(frozen=True, slots=True)
class Bill:
    """Dollars by item, for one day."""

    items: Mapping[str, float]
    previews: int

    @property
    def total(self) -> float:
        """Dollars of the day."""
        return sum(self.items.values())

    @property
    def per_thousand(self) -> float:
        """Dollars per thousand previews."""
        return 1000 * self.total / self.previews if self.previews else float("nan")


def bill(result: DayResult, prices: Prices, image_gigabytes: float) -> Bill:
    """Return the cost of a day."""
    previews = result.count(End.COMPLETED)
    policy, waited = result.setup.policy, waited_seconds(result)
    items = {
        "GPU instances": _instances(result, prices),
        "functions": _functions(previews, waited, prices, policy),
        "APIs": previews * prices.per_preview.http_requests * prices.http_million_requests / MILLION,
        "storage": _storage(previews, waited, prices),
        "queues": _queues(result, previews, prices),
        "data out": _megabytes_out(result, prices) / 1000 * prices.transfer_gigabyte,
        "metrics": _metrics(result, prices),
        "logs": previews * prices.per_preview.log_kilobytes / MILLION * prices.logs_gigabyte,
        "fixed": _fixed(policy, prices, image_gigabytes),
    }
    return Bill(items, previews)


def waited_seconds(result: DayResult) -> float:
    """Return the total time that functions wait for their previews."""
    most = result.setup.policy.limits.preview_wait_seconds
    waits = np.minimum(np.nan_to_num(result.latency, nan=0.0), most)
    return float(waits.sum()) * result.setup.assumptions.traffic.synchronous_share


def _instances(result: DayResult, prices: Prices) -> float:
    return result.instance_seconds / 3600 * instance_hour(result.setup.policy.scaling, prices)


def instance_hour(scaling: Scaling, prices: Prices) -> float:
    """Return the cost of one running worker for an hour: instance, disk and address."""
    price = prices.instance_hour[scaling.instance_type]
    disk = scaling.disk_gigabytes * prices.disk_gigabyte_month
    disk += max(0, scaling.disk_megabytes_per_second - 125) * prices.disk_megabyte_per_second_month
    return (price.spot if scaling.is_spot else price.on_demand) + prices.public_address_hour + disk / HOURS_A_MONTH


def _functions(previews: int, waited: float, prices: Prices, policy: Policy) -> float:
    limits, each = policy.limits, prices.per_preview
    second = prices.lambda_gigabyte_second_arm if limits.function_is_arm else prices.lambda_gigabyte_second
    gigabyte_seconds = (waited + previews * each.function_seconds) * limits.function_megabytes / 1024
    gigabyte_seconds += previews * each.notify_gigabyte_seconds + MINUTES_A_DAY * SWEEP_GIGABYTE_SECONDS
    requests = previews * (each.http_requests + 1) + MINUTES_A_DAY
    return gigabyte_seconds * second + requests * prices.lambda_million_requests / MILLION


def _storage(previews: int, waited: float, prices: Prices) -> float:
    each = prices.per_preview
    puts = previews * each.s3_puts + MINUTES_A_DAY * (SWEEP_LISTINGS + SWEEP_PUTS)
    gets = previews * each.s3_gets + waited * each.s3_gets_per_second_of_waiting
    return (puts * prices.s3_thousand_puts + gets * prices.s3_thousand_gets) / 1000


def _queues(result: DayResult, previews: int, prices: Prices) -> float:
    each = prices.per_preview
    polls = result.gpu_seconds / 20 + POLLED_QUEUES * LAMBDA_POLLERS * result.length / 20
    requests = previews * each.sqs_requests + polls
    fair = previews * each.fair_requests * prices.sqs_million_fair_requests
    return (requests * prices.sqs_million_requests + fair) / MILLION


def _megabytes_out(result: DayResult, prices: Prices) -> float:
    spoken = result.ends == End.COMPLETED
    return float(result.day.audio_seconds[spoken].sum()) * prices.per_preview.audio_kilobytes_per_second / 1000


def _metrics(result: DayResult, prices: Prices) -> float:
    """Return the cost of the metrics of previews, billed for each hour with data."""
    ended = result.day.arrivals + np.nan_to_num(result.latency, nan=0.0)
    hours = len(np.unique(ended[result.ends == End.COMPLETED] // 3600))
    return hours * result.setup.policy.preview_metrics * prices.metric_month / HOURS_A_MONTH


def _fixed(policy: Policy, prices: Prices, image_gigabytes: float) -> float:
    """Return the fixed cost of a day, without any traffic."""
    month = policy.alarmed_metrics * prices.alarm_month + prices.dashboard_month
    month += IMAGES_KEPT * image_gigabytes * prices.image_gigabyte_month
    return month / DAYS_A_MONTH
