"""Runs and versions in MLflow; nothing outside this package imports it."""
