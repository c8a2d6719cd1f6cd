"""The studies behind docs/, each `python -m experiments.NAME`."""
