"""Logits of given codes agree with the library's within rounding."""

import dataclasses

import pytest
import torch

from tests.qwen import tiny_checkpoint
from tests.qwen.forced_logits import build_talker, error, given, logits_of_library, logits_of_ours
from tests.qwen.tiny_checkpoint import Sizes

NARROW = dataclasses.replace(tiny_checkpoint.TINY, text_vocab=64)
PUBLISHED = dataclasses.replace(tiny_checkpoint.PUBLISHED, text_vocab=64)


@pytest.fixture(scope="module", autouse=True)
def ready() -> None:
    torch.set_num_threads(1)


def check(sizes: Sizes) -> None:
    talker = build_talker(sizes, dtype=torch.float32)
    prompt, codes = given(talker)
    expected = logits_of_library(talker, prompt, codes)
    assert error(logits_of_ours(talker, prompt, codes), expected) < 1e-4
    # In bfloat16 both are rounded, each in its own way: neither may be further from what is right than the other.
    talker = talker.to(torch.bfloat16)
    prompt = prompt.to(torch.bfloat16)
    theirs = error(logits_of_library(talker, prompt, codes), expected)
    assert error(logits_of_ours(talker, prompt, codes), expected) < 1.3 * theirs


def test_logits_of_narrow_layers() -> None:
    check(NARROW)


@pytest.mark.slow
def test_logits_of_published_sizes() -> None:
    check(PUBLISHED)


def test_logits_of_narrower_predictor() -> None:
    """As in the 1.7B model, whose talker has twice the predictor's width."""
    talker = build_talker(NARROW, dtype=torch.float32, predictor_hidden=16)
    prompt, codes = given(talker)
    assert isinstance(talker.code_predictor.small_to_mtp_projection, torch.nn.Linear)
    assert error(logits_of_ours(talker, prompt, codes), logits_of_library(talker, prompt, codes)) < 1e-4
