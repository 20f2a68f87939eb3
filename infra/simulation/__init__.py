"""A day of traffic against the scaling policy that the templates describe: `python -m infra.simulation`."""
