"""Additions to the SQS of ministack: fair groups and long polls."""
