"""Benchmark several models over several seeds on one data set: one command, one table.

``anomalib-memmc benchmark --config configs/benchmark.yaml`` trains and tests every model of the configuration with
every seed, each job in a process of its own, and writes to the output folder:

- ``results.csv``: one row per job with every test metric, the matched AUROCs, seconds, memory, versions and the hash of
  its configuration;
- ``predictions.parquet``: label, score and trivial baselines of every test image, for all jobs;
- ``table.md``: mean ± spread over the seeds, the table printed at the end;
- ``<model>-seed<k>/``: the job's configuration, log, predictions and checkpoint.

A finished job is not run again, so an interrupted benchmark continues where it stopped.
"""
