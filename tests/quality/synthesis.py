"""Speak sentences through the whole service: upload, preview, WAV."""

import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import soundfile as sf

from tests.quality.sentences import Reference, Sentence

Item = dict[str, Any]  # of the request in `measures`, with the name of the sentence


def cut(reference: Reference, folder: Path) -> Path:
    """Write the used part of a reference as WAV and return its path."""
    path = folder / f"reference-{Path(reference.name).stem}.wav"
    if not path.exists():
        samples, rate = sf.read(reference.wav, dtype="float32", always_2d=True)
        end = None if reference.end is None else round(reference.end * rate)
        sf.write(path, samples[round(reference.start * rate) : end].mean(axis=1), rate)
    return path


def speak(
    client: httpx.Client,
    sentences: Sequence[Sentence],
    references: Sequence[Reference],
    folder: Path,
    *,
    seed: int,
    language: str,
) -> list[Item]:
    """Speak each sentence in the voice of its own reference, or of the references in turns; write WAV files.

    Raises
    ------
    httpx.HTTPStatusError
        The service refused a request.
    """
    sessions: dict[str, str] = {}
    items = []
    for number, sentence in enumerate(sentences):
        reference = sentence.reference or references[number % len(references)]
        fields = {"response_text": sentence.text, "seed": str(seed), "language": language}
        if session := sessions.get(reference.name):
            answer = client.post("/preview", data={**fields, "session_id": session})
        else:
            recording = cut(reference, folder).read_bytes()
            if reference.transcription:
                fields["transcription"] = reference.transcription
            answer = client.post("/preview", data=fields, files={"audio": recording})
        wav = finished(client, answer)
        sessions[reference.name] = answer.headers["x-session-id"]
        path = folder / f"{seed}-{sentence.name}.wav"
        path.write_bytes(wav)
        items.append(item(sentence, reference, path, language))
    return items


def finished(client: httpx.Client, answer: httpx.Response) -> bytes:
    """Return the WAV of a preview, and wait for it if it takes longer than the request.

    Raises
    ------
    AssertionError
        The job failed.
    """
    answer.raise_for_status()
    if answer.status_code != 202:
        return answer.content
    location = answer.headers["location"]
    while (job := client.get(location).raise_for_status().json())["status"] == "queued":
        time.sleep(1)
    assert job["status"] == "succeeded", job
    return client.get(f"/previews/{job['job_id']}.wav").raise_for_status().content


def item(sentence: Sentence, reference: Reference, path: Path, language: str) -> Item:
    """Describe a file for `measures`."""
    return {
        "sentence": sentence.name,
        "wav": str(path),
        "spoken": sentence.spoken,
        "language": language,
        "reference": reference.name,
        "transcription": reference.transcription,
    }


def espeak_reading(folder: Path) -> dict[str, Path]:
    """Return a reading by espeak-ng, as another speaker, if it is installed."""
    program = shutil.which("espeak-ng")
    if program is None:
        return {}
    path = folder / "reference-espeak-ng.wav"
    text = "The quick brown fox jumps over the lazy dog near the river."
    subprocess.run([program, "-w", path, text], check=True)
    return {"espeak-ng": path}
