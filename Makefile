# Copyright 2026 the vts_ros authors
# SPDX-License-Identifier: Apache-2.0

# The first of these that runs and is in the range is used; override with `make PYTHON=...`.
PYTHONS := python3 python3.12 python3.11 python3.13 python3.10
IN_RANGE := import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in $(PYTHONS); do \
	if $$python -c '$(IN_RANGE)' 2>/dev/null; then echo $$python; break; fi; done)

BIN := .venv/bin
READY := .venv/.ready

# More threads than cores make everything slower. Tests run beside each other as it is.
export OMP_NUM_THREADS ?= 2
check test fuzz: export OMP_NUM_THREADS := 1

# Processes that run tests, each whole files of them. More than cores, of which two are meant: many
# tests wait for nodes that start.
WORKERS ?= 4
PYTEST := $(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile \
	--no-loadscope-reorder --max-worker-restart=0

.DEFAULT_GOAL := help
.PHONY: help setup demo picture parameters check test tests fuzz lint style types clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## Create .venv with everything that is needed; done once

$(READY): setup.py constraints.txt
	@test -n '$(PYTHON)' || { \
		echo 'No Python 3.10 to 3.13 with venv found (on Ubuntu: apt install python3-venv).'; \
		exit 1; }
	@echo 'Setting up .venv with $(PYTHON), about two minutes ...'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@touch .venv/COLCON_IGNORE
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt -e '.[cpu,fleet,ros,rtx,lab,test]'
	@touch $@

demo: $(READY)  ## Describe a drive and write an annotated video; DEMO_BAG=<folder> takes your own bag
	@DEMO_BAG='$(DEMO_BAG)' $(BIN)/python -m vts_ros.lab.demo

parameters: $(READY)  ## Write config/vts.yaml and docs/parameters.md from the table of parameters
	@$(BIN)/python -m vts_ros.nodes.parameter_pages

picture: $(READY)  ## Make pictures of the docs again: the overlay node in the demo, an annotated video and bag
	@$(BIN)/python -m vts_ros.lab.demo --picture docs/overlay.jpg
	@$(BIN)/python -m vts_ros.lab.first_pictures docs

lint: style types  ## Check style and types

style: $(READY)
	@$(BIN)/ruff check .

types: $(READY)
	@$(BIN)/mypy

# Types are checked beside the tests, on whatever core is free.
check: style  ## Lint and the unit tests: what starts no process, no node and no training
	@$(MAKE) --no-print-directory --jobs=2 types tests SELECT="-m 'not slow'"

test: style  ## Lint and all tests; VTS_TEST_BAGS=<folder> adds those on real bags
	@$(MAKE) --no-print-directory --jobs=2 types tests

# Compiled once, also where Python writes no bytecode: else all that tests start would compile it.
tests: $(READY)
	@$(BIN)/python -m compileall -q vts_ros
	@$(PYTEST) $(SELECT)

fuzz: $(READY)  ## Try the properties on 2,000 new examples each; what is found can be run again
	@VTS_HYPOTHESIS=random $(PYTEST) -m hypothesis --timeout=3600 -o faulthandler_timeout=7200

clean:  ## Remove the environment and everything that was built
	rm -rf .venv build install log out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
