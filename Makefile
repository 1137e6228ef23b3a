# Everything a newcomer needs: `make repro` runs the pipeline, `make test` runs the tests.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export VIRTUAL_ENV := $(CURDIR)/.venv

.PHONY: help setup repro test test-slow lint clean
help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: .venv/.ready  ## make .venv from constraints.txt

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[stamps,sequence,serve,sign,s3,schedule,sweep,dev]'
	@$(BIN)/python -c 'import cv2' 2>/dev/null || { \
	  echo 'opencv-python finds no libGL here: taking opencv-python-headless (the same cv2)'; \
	  v=$$($(BIN)/python -m pip show opencv-python | sed -n 's/^Version: //p'); \
	  $(BIN)/python -m pip uninstall --quiet --yes opencv-python && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps \
	    "opencv-python-headless==$$v"; }
	@$(BIN)/python -c 'import cv2'
	@touch $@

repro: setup  ## run the pipeline: fetch, ingest, extract, train, evaluate, report
	@mmpipe unlock
	dvc repro

test: setup lint  ## lint, types and the test suite
	python -m pytest -m "not slow"

test-slow: setup  ## the longer proofs: kills, two clean runs, the whole pipeline
	python -m pytest -m slow --timeout 3000

lint: setup  ## ruff and mypy
	ruff check .
	ruff format --check .
	mypy

clean:  ## remove the environment and what the tests left
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build *.egg-info
