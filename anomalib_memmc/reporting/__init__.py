"""Summaries and pictures of results."""
