"""Streams of audio: from generated samples to messages for subscribers."""
