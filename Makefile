# The commands to know:  make run   make keys   make test   make check   make clean; on AWS:  make preflight   make deploy
# Settings go on the command line or into the environment: make run PORT=9000 UVICORN_WORKERS=2

SHELL := /bin/sh
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
UV ?= uv
SERVICE := .venvs/service
SERVICE_PYTHON := $(SERVICE)/bin/python

# Tests in parallel; each worker has servers of its own, and the tests of a group share one.  Three workers for two
# cores: many tests wait for processes that they have started.
PYTEST_XDIST ?= -n 3 --dist loadgroup

# Compiled files make every start after the first several times faster; Python writes them as it imports, and pip would for all.
unexport PYTHONDONTWRITEBYTECODE
export PIP_NO_COMPILE := 1

.PHONY: help run keys test coverage test-all test-second-tier environments bench bench-cold-start bench-gpu simulate \
	localstack deploy-local preflight deploy worker-image deploy-worker test-deployed rollback teardown check check-types \
	check-python check-studio validate vendor screenshots clean lock

help:
	@sed -n 's/^## //p' Makefile

## make run               start everything on this machine; Ctrl-C stops it
run: $(SERVICE)/local.stamp $(if $(filter qwen,$(TTS_BACKEND)),$(SERVICE)/qwen.stamp)
	@$(SERVICE_PYTHON) localstack/supervisor.py

## make keys ARGS="make --owner alice"   API keys of what runs; ARGS=--help says more
keys: $(SERVICE)/local.stamp
	@$(SERVICE_PYTHON) localstack/keys.py $(ARGS)

## make test              unit and integration tests and one end-to-end run, in parallel: three minutes
test: $(SERVICE)/dev.stamp
	@PYTHONPATH=localstack $(SERVICE_PYTHON) -m environments ministack
	$(SERVICE_PYTHON) -m pytest -m "not slow" --ignore tests/qwen $(PYTEST_XDIST) $(PYTEST_ARGS)

## make coverage          the same, and the lines and branches of the code that it does not reach
coverage:
	@$(MAKE) test PYTEST_ARGS="--cov --cov-report=term-missing $(PYTEST_ARGS)"

## make test-all          and the second tier: every stack, kill -9, LocalStack, the templates, the model
test-all: test test-second-tier

test-second-tier: environments node_modules/.package-lock.json
	$(SERVICE_PYTHON) -m pytest -m "slow or qwen" $(PYTEST_XDIST) $(PYTEST_ARGS)

environments: $(SERVICE)/dev.stamp $(SERVICE)/qwen.stamp
	@PYTHONPATH=localstack $(SERVICE_PYTHON) -m environments ministack localstack cloud sam checkov

## make bench             what the pipeline adds to a preview, and how fast the model's engine is
bench: $(SERVICE)/dev.stamp $(SERVICE)/qwen.stamp
	@PYTHONPATH=localstack $(SERVICE_PYTHON) -m environments ministack
	PYTHONPATH=localstack $(SERVICE_PYTHON) -m tests.benchmarks.preview_overhead
	PYTHONPATH=localstack $(SERVICE_PYTHON) -m tests.benchmarks.streaming
	PYTHONPATH=localstack $(SERVICE_PYTHON) -m tests.benchmarks.fairness
	PYTHONPATH=localstack $(SERVICE_PYTHON) -m tests.benchmarks.worker_throughput
	OMP_NUM_THREADS=1 $(SERVICE_PYTHON) -m tests.benchmarks.qwen_engine

## make bench-gpu         how fast the model's engine is on this GPU, in stages; what has been measured is kept
BENCH_RESULTS ?= docs/benchmarks/qwen-engine.json
bench-gpu: $(SERVICE)/dev.stamp $(SERVICE)/qwen.stamp
	$(SERVICE_PYTHON) -m tests.benchmarks.qwen_engine --results $(BENCH_RESULTS) --checkpoint data/bench-checkpoint $(ARGS)

## make bench-cold-start  how long a function takes from nothing to its first answer
bench-cold-start: $(SERVICE)/dev.stamp
	PYTHONPATH=localstack $(SERVICE_PYTHON) -m tests.benchmarks.cold_start

## make simulate          a day of traffic against the templates' scaling: the figures of docs/scaling.md
simulate: $(SERVICE)/local.stamp
	@PYTHONPATH=localstack $(SERVICE_PYTHON) -m environments simulation
	.venvs/simulation/bin/python -m infra.simulation

## make localstack        LocalStack on port 4566, for make run AWS_ENDPOINT_URL=http://127.0.0.1:4566
localstack: $(SERVICE)/dev.stamp
	@$(SERVICE_PYTHON) localstack/localstack_host.py

## make deploy-local      build template.yaml and deploy it into an emulator on this machine; Ctrl-C stops it
deploy-local: $(SERVICE)/local.stamp
	@$(SERVICE_PYTHON) localstack/deploy_local.py

## make preflight         whether an AWS account can take a deployment, changing nothing
# ENV: a section of samconfig.toml.  YES=1: don't ask before the change.
ENV ?= default
OPERATE = $(SERVICE_PYTHON) -m infra.operations --env $(ENV)
SAM = --sam $(abspath .venvs/sam/bin/sam) $(if $(YES),--yes)
preflight: $(SERVICE)/dev.stamp
	@$(OPERATE) preflight

## make deploy            build and deploy functions and infrastructure to AWS: ENV=production YES=1
deploy: $(SERVICE)/dev.stamp
	@PYTHONPATH=localstack $(SERVICE_PYTHON) -m environments sam
	@$(OPERATE) deploy $(SAM)

## make worker-image TAG=v1   build the worker's image and push it into the stack's repository
worker-image: $(SERVICE)/dev.stamp
	@$(OPERATE) image --tag "$(TAG)"

## make deploy-worker TAG=v1  give the workers that image
deploy-worker: $(SERVICE)/dev.stamp
	@$(OPERATE) worker --tag "$(TAG)"

## make test-deployed     try a deployment as a client would: HTTP_URL=… WEBSOCKET_URL=… KEY=…
test-deployed: $(SERVICE)/dev.stamp
	$(SERVICE_PYTHON) -m pytest tests/e2e/test_deployed.py $(PYTEST_ARGS)

## make rollback          go back to the code and the image that were deployed before
rollback: $(SERVICE)/dev.stamp
	@PYTHONPATH=localstack $(SERVICE_PYTHON) -m environments sam
	@$(OPERATE) rollback $(SAM)

## make teardown STACK=its-name   delete a stack; voices and keys stay
teardown: $(SERVICE)/dev.stamp
	@$(OPERATE) teardown --stack "$(STACK)"

## make validate          what cfn-lint (the rules of `sam validate --lint`, and its remarks) and checkov say of the templates
validate: $(SERVICE)/local.stamp
	@PYTHONPATH=localstack $(SERVICE_PYTHON) -m environments sam checkov
	.venvs/sam/bin/cfn-lint --include-checks I -- template.yaml infra/[a-z]*.yaml
	.venvs/checkov/bin/checkov --config-file infra/.checkov.yaml --directory infra

## make check             format, lint, types, imports, templates, the studio
check: check-types check-python validate check-studio

check-types: $(SERVICE)/dev.stamp $(SERVICE)/qwen.stamp
	$(SERVICE_PYTHON) -m mypy

check-python: $(SERVICE)/dev.stamp
	$(SERVICE_PYTHON) -m ruff format --check
	$(SERVICE_PYTHON) -m ruff check
	$(SERVICE)/bin/lint-imports

# The studio's tools; the page itself needs none of them.
node_modules/.package-lock.json: package.json package-lock.json
	@command -v npm >/dev/null || { echo "There is no npm, which checks the studio; on Debian: apt install npm"; exit 1; }
	npm ci --no-audit --no-fund
	@touch $@

check-studio: node_modules/.package-lock.json
	node_modules/.bin/biome ci functions/studio biome.json package.json tsconfig.json
	node_modules/.bin/tsc

## make vendor            copy the studio's libraries out of what npm has installed from the lock file
STUDIO_VENDOR := functions/studio/vendor
vendor: node_modules/.package-lock.json
	cp node_modules/wavesurfer.js/dist/wavesurfer.esm.js $(STUDIO_VENDOR)/wavesurfer.esm.js
	cp node_modules/wavesurfer.js/LICENSE $(STUDIO_VENDOR)/wavesurfer.LICENSE.txt
	cp node_modules/@fontsource-variable/instrument-sans/files/instrument-sans-latin-wght-normal.woff2 \
		$(STUDIO_VENDOR)/instrument-sans.woff2
	cp node_modules/@fontsource-variable/instrument-sans/LICENSE $(STUDIO_VENDOR)/instrument-sans.LICENSE.txt

## make screenshots       take the pictures in docs/studio again
screenshots: $(SERVICE)/dev.stamp node_modules/.package-lock.json
	@PYTHONPATH=localstack $(SERVICE_PYTHON) -m environments ministack
	STUDIO_SCREENSHOTS=docs/studio $(SERVICE_PYTHON) -m pytest tests/studio

## make clean             remove environments, caches and what tests left; never DATA_DIR
clean:
	rm -rf .venvs .import_linter_cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .schemathesis dist .aws-sam
	find $(wildcard pipeline functions gpu_runner localstack infra tests) -name __pycache__ -type d -prune -exec rm -rf {} +

## make lock              resolve the lock files anew (needs uv)
COMPILE = $(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --quiet
# What comes with the CUDA build of torch alone; it is in torch-cuda.lock.
CUDA_ONLY = triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc \
	nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse \
	nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx
lock:
	$(COMPILE) pyproject.toml --extra local --extra tracing --output-file requirements/local.lock
	$(COMPILE) pyproject.toml --extra tracing --constraint requirements/local.lock \
		--output-file requirements/functions.lock
	$(COMPILE) pyproject.toml --extra local --extra tracing --extra dev --constraint requirements/local.lock \
		--output-file requirements/dev.lock
	$(COMPILE) requirements/qwen.in --constraint requirements/torch.in --constraint requirements/dev.lock \
		$(foreach name,torch $(CUDA_ONLY),--no-emit-package $(name)) --output-file requirements/qwen.lock
	$(COMPILE) requirements/torch.in --constraint requirements/qwen.lock \
		--output-file requirements/torch-cuda.lock
	$(COMPILE) requirements/uv.in --output-file requirements/uv.lock
	$(COMPILE) requirements/qwen-tts.in --no-deps --output-file requirements/qwen-tts.lock
	for name in ministack cloud sam checkov lambda localstack-4.13.1 faster-qwen3-tts; do \
		$(COMPILE) localstack/environments/$$name.in --output-file localstack/environments/$$name.lock || exit; done
	$(subst 3.11,3.12,$(COMPILE)) localstack/environments/wyoming-openai.in \
		--output-file localstack/environments/wyoming-openai.lock
	$(COMPILE) infra/simulation.in --constraint requirements/dev.lock --output-file infra/simulation.lock

# The engine with a real model; `make QWEN_VARIANT=cuda` where `auto` guesses wrong.
QWEN_VARIANT ?= auto
$(SERVICE)/qwen.stamp: requirements/qwen.lock requirements/torch.in requirements/torch-cuda.lock requirements/qwen-tts.lock \
		| $(SERVICE)/local.stamp
	@$(SERVICE_PYTHON) requirements/qwen.py --variant $(QWEN_VARIANT)
	@touch $@

# Only where the index has it; everything can be installed without.
.venvs/uv.stamp: requirements/uv.lock
	@$(PYTHON) -m venv .venvs/uv && \
		.venvs/uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $< || \
		echo "uv can't be had here; pip installs everything, which takes longer"
	@touch $@

$(SERVICE)/%.stamp: requirements/%.lock requirements/install.py .venvs/uv.stamp
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "This needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "This Python can't make virtual environments; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Setting up $(SERVICE) from $<, once"
	@test -x $(SERVICE_PYTHON) || $(PYTHON) -m venv $(SERVICE)
	@$(SERVICE_PYTHON) requirements/install.py $<
	@touch $@
