# Tasks of a developer. `make` lists them. They use the environment that is active (CONTRIBUTING.md).
.DEFAULT_GOAL := help
.PHONY: help test fast lint docs bench ci

help:  ## list the tasks
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

test:  ## all tests
	pytest

fast:  ## the tests that take less than ten seconds each
	pytest -m 'not slow'

lint:  ## style and types
	ruff check .
	ruff format --check .
	mypy

docs:  ## the site, in build/site, and the tests of its links, commands, code and notebook
	mkdocs build --strict
	pytest tests/test_extending.py tests/docs

bench:  ## MemMC-MAE, PaDiM and PatchCore on generated images, about five minutes
	anomalib-memmc benchmark --config configs/benchmark.yaml

ci:  ## what the CI does, in a fresh environment
	.ci/run
