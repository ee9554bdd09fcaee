# SPDX-License-Identifier: GPL-2.0-or-later
# The commands of README.md. Each gets the machine ready first (tests/bootstrap.py), which takes a
# moment where it is.

PYTHON ?= python3
VENV   := .venv/bin
KERNEL ?= 6.1-cloud

.NOTPARALLEL:

.DEFAULT_GOAL := help
.PHONY: help demo test quick kernel compare service bench manual lint setup setup-quick clean

help:  ## show this
	@echo 'pydumpfile: from a Linux panic to a dump'
	@echo
	@sed -n 's/^\([a-z]*\):.*  ## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r target text; do printf '%-14s %s\n' "$$target" "$$text"; done
	@echo
	@echo 'make demo KERNEL=6.12-cloud crashes another kernel (6.1-cloud, 6.12-cloud, 6.1, 6.12).'

demo: setup  ## crash a real kernel in QEMU, dump it, open the dump, tell what happened
	@$(VENV)/python -m tests.lab.demo --kernel $(KERNEL)

test: setup lint  ## lint, then all tests, real kernels included (minutes at first, then cached)
	@$(VENV)/python -m pytest $(PYTEST_ARGS)

quick: setup-quick  ## tests that need no QEMU
	@$(VENV)/python -m pytest -m 'not lab and not full and not service' $(PYTEST_ARGS)

kernel: setup  ## build the patched kernels of kpatch/ and boot them in every way, those with KASAN and UBSAN too (hours)
	@$(VENV)/python -m tests.kernel_lab build
	@$(VENV)/python -m tests.kernel_lab matrix
	@$(VENV)/python -m tests.kernel_lab lists

compare: setup  ## filtering in the kernel against user space, into docs/comparison.md (hours; COMPARE_ARGS=--quick: minutes)
	@$(VENV)/python -m tests.kernel_lab compare $(COMPARE_ARGS)

service: setup  ## kdump services in whole distributions, and what can go wrong in them (root, half an hour)
	@$(VENV)/python -m pytest -m service tests/lab $(PYTEST_ARGS)

bench: setup  ## measure beside makedumpfile, into docs/performance.md (a quarter of an hour, on an idle machine)
	@$(VENV)/python -m tests.bench $(BENCH_ARGS)

manual: setup-quick  ## write the manual page and the completions anew, from the table of options
	@$(VENV)/python -m docs.manual

lint: setup-quick  ## ruff check, ruff format --check, mypy --strict
	@echo 'lint: ruff check' && $(VENV)/ruff check --quiet .
	@echo 'lint: ruff format --check' && $(VENV)/ruff format --check --quiet .
	@echo 'lint: mypy --strict' && $(VENV)/mypy

setup:  ## install what is missing: Debian packages, .venv, the compiled module
	@$(PYTHON) tests/bootstrap.py

setup-quick:
	@$(PYTHON) tests/bootstrap.py --no-lab

clean:  ## remove .venv and whatever was built here (not the cores in ~/.cache/pydumpfile)
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f pydumpfile/_pagescan*.so pydumpfile/_pagescan.c
	find pydumpfile tests csrc -name __pycache__ -prune -exec rm -rf {} +
