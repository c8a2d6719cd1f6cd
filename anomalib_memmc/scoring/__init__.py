"""Anomaly scores."""
