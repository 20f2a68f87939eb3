"""Measure the speech of an engine through the whole service, and write JSON and Markdown."""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import httpx

from gpu_runner.engines.hibari.stock_voice import MODEL
from pipeline.settings import Settings
from tests.e2e.stack import running
from tests.quality.adaptations import speak_adapted
from tests.quality.environment import measured, recordings
from tests.quality.report import Summary, bounds, fingerprint, summarize, table
from tests.quality.sentences import Reference, Sentence, own_references, own_sentences, seed_tts_eval
from tests.quality.synthesis import Item, cut, espeak_reading, speak

SETTINGS = {"LOG_LEVEL": "WARNING", "UVICORN_WORKERS": "1", "AUTH": "none"}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.quality", description=__doc__)
    parser.add_argument("--results", type=Path, help="write RESULTS.json and RESULTS.md")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="one run of all sentences for each")
    parser.add_argument("--language", default="English")
    parser.add_argument("--sentences", type=Path, help="a folder in the layout of seed-tts-eval (meta.lst)")
    parser.add_argument("--only", nargs="+", default=[""], help="names of sentences, or their first letters")
    parser.add_argument("--limit", type=int, help="speak only the first sentences")
    parser.add_argument("--url", help="measure a running service instead of a new one")
    parser.add_argument("--adaptations", action="store_true", help="compare the adaptations of hibari instead")
    parser.add_argument("--bounds", type=Path, help="write bounds: the worst run with a tolerance of 25 %%")
    arguments = parser.parse_args()
    everything = seed_tts_eval(arguments.sentences) if arguments.sentences else own_sentences()
    chosen = [sentence for sentence in everything if sentence.name.startswith(tuple(arguments.only))]
    sentences = chosen[: arguments.limit]
    references = own_references(recordings())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.adaptations:
            items = speak_adapted(sentences, references, folder)
        else:
            # The last reference has two speakers.
            items = speak_by_service(sentences, references[:-1], folder, arguments)
        used = [sentence.reference for sentence in sentences if sentence.reference]
        speakers = {reference.name: cut(reference, folder) for reference in [*references, *used]}
        items, versions = measured(items, speakers | espeak_reading(folder), folder)
    summaries = summaries_of(items)
    models = {} if arguments.url else {"model": model_of("hibari" if arguments.adaptations else backend())}
    write(items, summaries, models | fingerprint(versions), arguments.results)
    if arguments.bounds:
        arguments.bounds.write_text(json.dumps(bounds(list(summaries.values())), indent=2) + "\n")


def speak_by_service(
    sentences: list[Sentence], references: list[Reference], folder: Path, arguments: argparse.Namespace
) -> list[Item]:
    """Speak the sentences with each seed by a running service, or by a new one with the engine `TTS_BACKEND`."""

    def spoken(url: str) -> list[Item]:
        with httpx.Client(base_url=url, timeout=120, follow_redirects=True) as client:
            engine = client.get("/health").raise_for_status().json()["engine"]["name"]
            return [
                item | {"run": f"{engine}, {arguments.language}, seed {seed}"}
                for seed in arguments.seeds
                for item in speak(client, sentences, references, folder, seed=seed, language=arguments.language)
            ]

    if arguments.url:
        return spoken(arguments.url)
    with running(folder / "service", {**SETTINGS, "TTS_BACKEND": backend()}) as stack:
        return spoken(stack.url)


def backend() -> str:
    """Return the engine to measure."""
    return os.environ.get("TTS_BACKEND") or "hibari"


def model_of(engine: str) -> str:
    """Return the model of an engine."""
    return {"hibari": MODEL, "qwen": Settings().qwen_tts_model_id}.get(engine, engine)


def summaries_of(items: list[dict[str, Any]]) -> dict[str, Summary]:
    """Return a summary for each run, in order."""
    runs = dict.fromkeys(item["run"] for item in items)
    return {run: summarize([item for item in items if item["run"] == run]) for run in runs}


def write(
    items: list[dict[str, Any]], summaries: dict[str, Summary], machine: dict[str, Any], results: Path | None
) -> None:
    """Print the table, and write it with the measures of each file."""
    markdown = table(summaries) + "\n\n" + "".join(f"- {name}: {value}\n" for name, value in machine.items())
    print(markdown)
    if results:
        results.parent.mkdir(parents=True, exist_ok=True)
        results.with_suffix(".md").write_text(markdown)
        files = [{name: value for name, value in item.items() if name != "wav"} for item in items]
        document = {"machine": machine, "summaries": summaries, "files": files}
        results.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
