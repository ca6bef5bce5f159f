# `make demo` and `make test` do all set-up themselves (a .venv with pinned libraries) and re-use it from then on.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
SETUP := requirements.txt setup.py tools/setup_env.py

# A sourced ROS installation would mix its libraries with the rclpy wheels of the .venv.
unexport PYTHONPATH AMENT_PREFIX_PATH COLCON_PREFIX_PATH ROS_DISTRO
ifneq ($(ROS_DISTRO),)
unexport LD_LIBRARY_PATH
endif

.PHONY: help demo test lint sample clean
help: ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 8

demo: $(VENV)/.ready ## reconstruct the bundled clip and print where the URDF is and how far it is from the truth
	@$(RUN) -m art_perception.cli.main demo --out urdf_out/demo

test: $(VENV)/.ready-dev ## run the tests
	ROS_PYTHON_CHECK_FIELDS=1 OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.ready-dev ## ruff and mypy
	$(RUN) -m ruff check .
	$(RUN) -m mypy

sample: $(VENV)/.ready ## render the bundled clip and the picture of the README again
	$(RUN) tools/make_sample.py
	$(RUN) tools/make_figure.py

clean: ## remove the .venv, build folders, caches and results
	rm -rf $(VENV) build install log *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find urdf_out -mindepth 1 ! -name .gitkeep -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.ready: $(SETUP)
	@$(PYTHON) tools/setup_env.py $(VENV) requirements.txt
	@touch $@

$(VENV)/.ready-dev: $(SETUP) requirements-dev.txt
	@$(PYTHON) tools/setup_env.py $(VENV) requirements-dev.txt
	@touch $@ $(VENV)/.ready
