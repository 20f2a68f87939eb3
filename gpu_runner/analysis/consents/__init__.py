"""Checks of consents: the words of the statement, and the speaker."""
