"""Prefect flows: wiring, retries and artifacts. What they wire is in `menagerie`."""
