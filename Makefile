# For a fresh clone: `make demo` and `make test`. Each target sets up what it needs first.
# ARGS is passed on: make demo ARGS=--keep, make test ARGS="tests/unit -x".

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

ARGS ?=
CODE := mountkit tests docker .ci

# Nothing but bytecode is cached in the checkout.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/mountkit
CHECKS := $(CACHE)/checks-$(shell printf %s '$(CURDIR)' | sha256sum | cut -c1-12)
export RUFF_CACHE_DIR := $(CHECKS)/ruff
export MYPY_CACHE_DIR := $(CHECKS)/mypy
export HYPOTHESIS_STORAGE_DIRECTORY := $(CHECKS)/hypothesis

# The environment holds the dependencies only and is shared by all checkouts that want the same
# ones; the code under test is the one beside this file.
export PYTHONPATH := $(CURDIR)

# Some containers forbid Python to keep bytecode. Then each of some hundred commands of a test run
# compiles the package, and each worker rewrites every test module.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo check test chaos image test-container test-chart test-cluster test-slurm lint venv clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

demo: ## Train into a bucket on this machine, kill the mount, resume, and check every claim
	@python="$$(.ci/setup --fuse)"; exec "$$python" -m mountkit demo $(ARGS)

PYTEST = -m pytest --dist worksteal -o cache_dir='$(CHECKS)/pytest'

# Four at a time, also on two cores: most of them wait most of the time, for a helper or a mount.
check: lint ## Run the linters and the tests without mounts, in a minute
	@python="$$(.ci/setup)"; tools="$$(.ci/setup --tools)"; stores="$$(.ci/setup-stores)"; \
	PATH="$$tools:$$stores:$$PATH" exec "$$python" $(PYTEST) -n 4 tests/unit tests/store $(ARGS)

test: lint ## Run the linters and all tests, without the long series of `make chaos`
	@python="$$(.ci/setup --fuse)"; tools="$$(.ci/setup --tools)"; stores="$$(.ci/setup-stores)"; \
	PATH="$$tools:$$stores:$$PATH" exec "$$python" $(PYTEST) -n 4 $(ARGS)

chaos: ## Run the long series: daemons, supervisors and stores that fail at random moments
	@python="$$(.ci/setup --fuse)"; tools="$$(.ci/setup --tools)"; stores="$$(.ci/setup-stores)"; \
	PATH="$$tools:$$stores:$$PATH" MOUNTKIT_TEST_CHAOS=1 exec "$$python" $(PYTEST) -n 4 -m chaos \
		tests/fuse $(ARGS)

test-container: ## Build the images and test containers of them, on a real Docker engine
	@python="$$(.ci/setup)"; tools="$$(.ci/setup --tools)"; images="$$(.ci/setup-container)"; \
	[ -n "$$images" ] || { echo "make test-container: skipped, for the reason above"; exit 0; }; \
	exec env PATH="$$tools:$$PATH" $$images "$$python" $(PYTEST) -n 4 tests/container $(ARGS)

image: ## Build the trainer's and the sidecar's image for CPUs, and prove both
	@images="$$(.ci/setup-container)"; \
	[ -n "$$images" ] || { echo "make image: no image was built, for the reason above"; exit 1; }; \
	for image in $$images; do docker/test.sh "$${image#*=}"; done

test-slurm: ## Run the tests on a real Slurm, which is started for each of them
	@python="$$(.ci/setup --fuse)"; tools="$$(.ci/setup --tools)"; .ci/setup-slurm; \
	PATH="$$tools:$$PATH" exec "$$python" $(PYTEST) -n 2 tests/slurm $(ARGS)

test-chart: ## Run the tests of the Helm chart, which need no cluster
	@python="$$(.ci/setup)"; tools="$$(PYTHON="$$python" .ci/setup-chart)"; \
	PATH="$$tools:$$PATH" exec "$$python" $(PYTEST) -n 2 tests/chart $(ARGS)

# One after the other: they share one cluster, of this machine's cores.
test-cluster: ## Run the chart on a Kubernetes of one node, which is built once (eight minutes)
	@python="$$(.ci/setup --fuse)"; tools="$$(.ci/setup --tools)"; \
	chart="$$(PYTHON="$$python" .ci/setup-chart)"; cluster="$$(.ci/setup-cluster)"; \
	images="$$(.ci/setup-container)"; PATH="$$cluster:$$chart:$$tools:$$PATH" \
	exec env $$images "$$python" $(PYTEST) tests/cluster $(ARGS)

lint: ## Check style, types, and which folder imports which
	@python="$$(.ci/setup)"; \
	"$$python" -m ruff check $(CODE); \
	"$$python" -m ruff format --check $(CODE); \
	"$$python" -m mypy; \
	"$$(dirname "$$python")/lint-imports" --no-logo --cache-dir '$(CHECKS)/imports'

.PHONY: pictures
pictures: ## Draw the pictures of the README anew, from a real demo
	@python="$$(.ci/setup --fuse)"; exec "$$python" tests/pictures.py

venv: ## Make the virtual environment and print where it is
	@python="$$(.ci/setup)"; echo "$${python%/bin/python}"

clean: ## Remove what was built here; the shared virtual environments stay
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis '$(CHECKS)'
	@find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
	@if compgen -G '$(CACHE)/venv-*' >/dev/null; then \
		echo "Virtual environments stay; remove them with: rm -rf $(CACHE)/venv-*"; fi
