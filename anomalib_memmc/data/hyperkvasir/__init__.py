"""Hyper-Kvasir."""
