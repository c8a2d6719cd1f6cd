"""What all data sets share: samples, parts, cache."""
