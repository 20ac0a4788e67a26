# make demo    fine-tune on three sample photographs and compare, in minutes
# make test    lint, then the tests
# make lint    ruff
# make clean   remove what these made; records and models of your own stay

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := outputs/demo

.PHONY: demo test test-all lint clean

demo: $(VENV)/run.stamp
	rm -rf $(DEMO)
	$(BIN)/python create_tfrecords.py --sample --preset demo --records $(DEMO)/tfrecord
	$(BIN)/python train_srgan.py --device gpu --preset demo --init-generator weights/pretrained.keras --init-srgan weights/srgan.keras --finetune-lr 1e-6 --records $(DEMO)/tfrecord --outputs $(DEMO)
	$(BIN)/python inference.py --device gpu --preset demo --records $(DEMO)/tfrecord --outputs $(DEMO)
	@echo "Look at $(DEMO)/images/grid.png"

test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-all: lint
	$(BIN)/python -m pytest

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) $(DEMO) .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Tries $(PYTHON) and then the versions that will do; installs the requirements file $(1).
define install
	@python=; for candidate in $(PYTHON) python3.13 python3.12 python3.11; do \
		if $$candidate -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
		then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo 'Missing: Python 3.11, 3.12 or 3.13. Install one, or name it: make PYTHON=/path/to/python3.12' >&2; exit 1; fi; \
	if ! $$python -c 'import venv, ensurepip' 2>/dev/null; then \
		echo "Missing: Python's venv module. On Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; fi; \
	echo "Installing $(1) into $(VENV), once"; \
	$$python -m venv $(VENV) && $(BIN)/pip install --quiet --disable-pip-version-check -r $(1) || exit 1; \
	if ! $(BIN)/python -c 'import cv2' 2>/dev/null; then \
		echo 'Missing: libGL, for OpenCV. On Debian and Ubuntu: sudo apt install libgl1 libglib2.0-0' >&2; exit 1; fi
	@touch $@
endef

$(VENV)/run.stamp: requirements.txt
	$(call install,requirements.txt)

$(VENV)/dev.stamp: requirements-dev.txt requirements-app.txt requirements-cluster.txt requirements-export.txt requirements-openvino.txt requirements-remote.txt requirements-video.txt requirements.txt
	$(call install,requirements-dev.txt)
	@touch $(VENV)/run.stamp
