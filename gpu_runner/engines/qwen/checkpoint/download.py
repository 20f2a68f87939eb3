"""Downloads a model from the hub, and reports the progress."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import requests
import structlog
from huggingface_hub import HfApi, constants, errors, snapshot_download
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils.tqdm import disable_progress_bars

from gpu_runner.engines import CannotLoad, DownloadFailed, OnStart
from pipeline.contract.engines import EngineStart

LOOK_SECONDS = 1.0
LOG_SECONDS = 10.0
HUB_TIMEOUT_SECONDS = 10.0

log = structlog.get_logger()


def download(model_id: str, revision: str, on_start: OnStart) -> Path:
    """Download a model and return its folder. Files that an earlier attempt has downloaded are kept.

    Raises
    ------
    CannotLoad
        The hub does not have it, or HF_HUB_OFFLINE is set.
    DownloadFailed
        The hub can't be reached, the connection was cut, or the disk is full.
    """
    what = f"{model_id} at revision {revision}"
    if constants.HF_HUB_OFFLINE:
        raise CannotLoad(
            f"{what} is not in the cache ({constants.HF_HUB_CACHE}) and HF_HUB_OFFLINE is set. "
            "Unset it, or set QWEN_TTS_MODEL_ID to a local directory."
        )
    total = None
    try:
        total = _size(model_id, revision)
        log.info(
            "downloading the model",
            model=model_id,
            revision=revision,
            size=_text_of(total),
            kept=_text_of(_kept_bytes(model_id)),
            to=constants.HF_HUB_CACHE,
        )
        with _reporting(model_id, total, on_start):
            return Path(snapshot_download(model_id, revision=revision))
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        line = str(error).strip().splitlines()[0]
        raise CannotLoad(f"{what} is not on the hub, or not accessible: {line}") from None
    except OSError as error:  # connections, timeouts and full disks alike
        kept = f"{_text_of(_kept_bytes(model_id))} of {_text_of(total) if total else 'the model'}"
        raise DownloadFailed(
            f"{what} can't be downloaded from {_host_of(error)}: {_reason_of(error)}. "
            f"{kept} are kept, and the next attempt continues there. "
            "Check network and disk, or set QWEN_TTS_MODEL_ID to a local directory."
        ) from None


def _size(model_id: str, revision: str) -> int:
    info = HfApi().model_info(model_id, revision=revision, files_metadata=True, timeout=HUB_TIMEOUT_SECONDS)
    return sum(sibling.size or 0 for sibling in info.siblings or [])


def _kept_bytes(model_id: str) -> int:
    """Return the size of the files in the cache, including incomplete ones."""
    folder = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=model_id, repo_type="model"))
    size = 0
    for file in folder.rglob("*"):
        try:
            size += file.lstat().st_size if file.is_file() and not file.is_symlink() else 0
        except FileNotFoundError:  # an incomplete file was renamed
            continue
    return size


@contextmanager
def _reporting(model_id: str, total: int, on_start: OnStart) -> Iterator[None]:
    """Report the progress of a download until the context ends.

    The progress bars of the library have no callback for the bytes of each file, and they fill a log.
    """
    disable_progress_bars()
    ended = threading.Event()
    began, kept_before = time.monotonic(), _kept_bytes(model_id)

    def look() -> None:
        logged = began
        while True:
            kept, now = min(_kept_bytes(model_id), total), time.monotonic()
            speed = (kept - kept_before) / max(now - began, LOOK_SECONDS)
            remaining = round((total - kept) / speed) if speed > 0 else None
            on_start(EngineStart(phase="downloading", bytes=kept, total_bytes=total, remaining_seconds=remaining))
            if now - logged >= LOG_SECONDS:
                logged = now
                left = "unknown" if remaining is None else f"{remaining} s"
                log.info("downloading the model", done=f"{_text_of(kept)} of {_text_of(total)}", remaining=left)
            if ended.wait(LOOK_SECONDS):
                return

    looking = threading.Thread(target=look, name="download progress", daemon=True)
    looking.start()
    try:
        yield
    finally:
        ended.set()
        looking.join()


def _host_of(error: OSError) -> str:
    """Return the host of a failed request. The files of a model may be on another host than the hub."""
    request = getattr(error, "request", None) or getattr(error.__cause__, "request", None)
    return urlsplit(getattr(request, "url", None) or constants.ENDPOINT).netloc


def _reason_of(error: OSError) -> str:
    causes = (error, error.__cause__)
    if any(isinstance(cause, requests.Timeout) for cause in causes):
        return "it did not answer in time"
    if any(
        isinstance(cause, requests.ConnectionError | requests.exceptions.ChunkedEncodingError) for cause in causes
    ):
        return "the connection failed"
    return (str(error).strip().rstrip(".").splitlines() or [type(error).__name__])[0]


def _text_of(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
