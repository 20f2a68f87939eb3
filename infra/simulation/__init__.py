"""Simulates days of traffic under the scaling policy of the templates: `python -m infra.simulation`."""
