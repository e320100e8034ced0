# The verbs of the project; continuous integration calls the same ones. `make help` lists them.
PYTHON ?= $(or $(shell command -v python3.11),$(shell command -v python3.12),python3)
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo install test test-slow test-docker test-gpu bench-gpu lint format type serve export loadtest bench train-demo export-demo evaluate-demo evaluate-precisions clean

help: ## list the verbs
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# Three stamps, so that `make demo` on a fresh machine fetches what serving needs and nothing else, and `make export` not
# what the tests need.
$(VENV)/serving: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt -e '.[cpu]'
	touch $@

$(VENV)/exporting: $(VENV)/serving
	$(PIP) install -q -c constraints.txt -e '.[cpu,export]'
	touch $@

$(VENV)/everything: $(VENV)/serving
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/serving ## serve the demo models, POST the sample clip and pictures, print the answers (KEEP=1: stay up)
	$(BIN)/python -m demo.run --port $(PORT) $(if $(KEEP),--keep)

install: $(VENV)/everything ## make .venv with all dependencies, tensorrt-rtx (NVIDIA's licence) among them

test: install ## run the test suite
	$(BIN)/python -m pytest

test-slow: install ## run the tests that take minutes, and only those
	$(BIN)/python -m pytest -m 'slow and not gpu and not docker'

test-docker: install ## build the images, start them, POST a clip
	scripts/test_docker.sh

# An environment of its own: ONNX Runtime's packages for CPU and GPU exclude each other. GPU_PYTHON=python3 takes one
# that is there already.
ifdef GPU_PYTHON
GPU_READY :=
else
GPU_PYTHON := .venv-gpu/bin/python
GPU_READY := .venv-gpu/ready
endif

.venv-gpu/ready: pyproject.toml constraints.txt
	test -x .venv-gpu/bin/python || $(PYTHON) -m venv .venv-gpu
	.venv-gpu/bin/python -m pip install -q -c constraints.txt -e '.[dev]'
	.venv-gpu/bin/python -m pip uninstall -q -y onnxruntime onnxruntime-gpu
	.venv-gpu/bin/python -m pip install -q -c constraints.txt -e '.[gpu]'
	touch $@

test-gpu: $(GPU_READY) ## check parity on an NVIDIA GPU; fails if CLIPSERVE_GPU_PROMISED=1, or a driver, promises one in vain
	$(GPU_PYTHON) -m pytest -m gpu tests/gpu

bench-gpu: $(GPU_READY) ## measure torch, torch.compile, ONNX Runtime and TensorRT on an NVIDIA GPU; try NVDEC
	$(GPU_PYTHON) -m bench.gpu

lint: install ## check style
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: install ## apply style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

type: install ## check types
	$(BIN)/mypy

serve: $(VENV)/serving ## serve model_repository/ on PORT
	$(BIN)/clipserve serve --port $(PORT) --default-model uniformer_tiny_shapes

export: $(VENV)/exporting ## export NAME (make export NAME=uniformer_s_16x4_k400 CHECKPOINT=file.pth)
	$(BIN)/clipserve export $(NAME) $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT))

loadtest: install ## headless Locust against a server of its own (USERS=8 DURATION=20s)
	$(BIN)/python -m loadtest $(if $(USERS),--users $(USERS)) $(if $(DURATION),--duration $(DURATION))

bench: install ## measure networks against the machine's peak, and decoding against a full decode, seeking, torchcodec
	$(PIP) install -q -c constraints.txt -e '.[bench]'
	$(BIN)/python -m bench.networks
	$(BIN)/python -m bench.decoding

train-demo: install ## train the demo networks from their seeds
	$(BIN)/python -m demo.train
	$(BIN)/python -m demo.train_segmentation

export-demo: install ## export the demo networks anew into model_repository/, and measure the classifiers on 200 clips
	$(BIN)/python -m demo.export

evaluate-demo: install ## POST freshly generated clips and pictures to a server and print how right the answers are
	$(BIN)/python -m demo.evaluate
	$(BIN)/python -m demo.evaluate_segmentation

evaluate-precisions: install ## export the demo classifiers in every precision and measure each on 1,000 clips
	$(BIN)/python -m demo.evaluate_precisions

clean: ## remove the virtual environment and everything generated
	rm -rf $(VENV) .venv-gpu build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis demo/data loadtest/results
	find . -name __pycache__ -prune -exec rm -rf {} +
