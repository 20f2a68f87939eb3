"""Responses with previews: creation, streaming, stored audio, and the events of a job."""
