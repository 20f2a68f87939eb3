# Main commands: make run, make keys, make test, make check, make clean. On AWS: make preflight, make deploy.
# Settings are arguments or environment variables: make run PORT=9000 UVICORN_WORKERS=2

SHELL := /bin/sh
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
UV ?= uv
SERVICE := .venvs/service
SERVICE_PYTHON := $(SERVICE)/bin/python

# Parallel tests: each worker has its own servers, and the tests of a group share them. Three workers for two cores,
# because many tests wait for processes.
PYTEST_XDIST ?= -n 3 --dist loadgroup

# Compiled files make later starts several times faster. Python compiles imported modules, pip would compile all.
unexport PYTHONDONTWRITEBYTECODE
export PIP_NO_COMPILE := 1

.PHONY: help run keys audit test coverage test-all test-second-tier environments bench bench-cold-start bench-gpu gpu-check quality simulate simulate-crashes inject-faults fuzz \
	localstack deploy-local preflight deploy worker-image promote-image deploy-worker test-deployed rollback teardown check check-types \
	check-python check-studio validate vendor screenshots clean lock

help:
	@sed -n 's/^## //p' Makefile

## make run               start the service on this machine (Ctrl-C stops it)
run: $(SERVICE)/local.stamp $(if $(filter qwen,$(TTS_BACKEND)),$(SERVICE)/qwen.stamp)
	@$(SERVICE_PYTHON) localstack/supervisor.py $(MAKEOVERRIDES)

## make keys ARGS="make --owner alice"   manage the API keys of the running service (ARGS=--help)
keys: $(SERVICE)/local.stamp
	@$(SERVICE_PYTHON) localstack/keys.py $(ARGS)

## make audit ARGS=verify   verify the audit log of the running service
audit: $(SERVICE)/local.stamp
	@$(SERVICE_PYTHON) localstack/audit.py $(ARGS)

## make test              run unit tests, integration tests and one end-to-end run (three to eight minutes)
test: $(SERVICE)/dev.stamp
	@PYTHONPATH=localstack $(SERVICE_PYTHON) -m environments store
	$(SERVICE_PYTHON) -m pytest -m "not slow" --ignore tests/qwen $(PYTEST_XDIST) $(PYTEST_ARGS)

## make coverage          the same with a report of uncovered lines and branches
coverage:
	@$(MAKE) test PYTEST_ARGS="--cov --cov-report=term-missing $(PYTEST_ARGS)"

## make test-all          also run the second tier: LocalStack, emulated cloud, kill -9, model, browser
test-all: export FAULT_SECONDS ?= 300
test-all: test test-second-tier

test-second-tier: environments node_modules/.package-lock.json
	$(SERVICE_PYTHON) -m pytest -m "slow or qwen" $(PYTEST_XDIST) $(PYTEST_ARGS)

environments: $(SERVICE)/dev.stamp $(SERVICE)/qwen.stamp
	@PYTHONPATH=localstack $(SERVICE_PYTHON) -m environments store localstack cloud sam checkov

## make bench             measure the overhead of the pipeline and the speed of the engine
bench: $(SERVICE)/dev.stamp $(SERVICE)/qwen.stamp
	@PYTHONPATH=localstack $(SERVICE_PYTHON) -m environments store
	$(SERVICE_PYTHON) -m tests.benchmarks.preview_overhead
	$(SERVICE_PYTHON) -m tests.benchmarks.sequential_calls
	$(SERVICE_PYTHON) -m tests.benchmarks.marking
	$(SERVICE_PYTHON) -m tests.benchmarks.streaming
	$(SERVICE_PYTHON) -m tests.benchmarks.store_calls
	$(SERVICE_PYTHON) -m tests.benchmarks.fairness
	$(SERVICE_PYTHON) -m tests.benchmarks.worker_throughput
	OMP_NUM_THREADS=1 $(SERVICE_PYTHON) -m tests.benchmarks.qwen_engine

## make bench-gpu         measure the engine on this GPU, in stages (finished stages are kept)
BENCH_RESULTS ?= docs/benchmarks/qwen-engine.json
bench-gpu: $(SERVICE)/dev.stamp $(SERVICE)/qwen.stamp
	$(SERVICE_PYTHON) -m tests.benchmarks.qwen_engine --results $(BENCH_RESULTS) --checkpoint data/bench-checkpoint $(ARGS)

## make gpu-check         check the engine on a new GPU host, and recommend settings (DEVICE=cpu works too)
GPU_CHECK_REPORT ?= data/gpu-check.json
gpu-check: $(SERVICE)/dev.stamp $(SERVICE)/qwen.stamp
	@mkdir -p $(dir $(GPU_CHECK_REPORT))
	$(SERVICE_PYTHON) -m gpu_runner gpu-check --report $(GPU_CHECK_REPORT)
	$(SERVICE_PYTHON) -m tests.benchmarks.qwen_engine --levels 1,8 $(if $(DEVICE),--device $(DEVICE)) $(ARGS)

## make quality           measure the speech of an engine (TTS_BACKEND=qwen, ARGS=--help)
QUALITY_BACKEND = $(or $(TTS_BACKEND),hibari)
quality: $(SERVICE)/dev.stamp $(if $(filter qwen,$(TTS_BACKEND)),$(SERVICE)/qwen.stamp)
	@PYTHONPATH=localstack $(SERVICE_PYTHON) -m environments store
	$(SERVICE_PYTHON) -m tests.quality --results docs/benchmarks/quality-$(QUALITY_BACKEND) $(ARGS)

## make bench-cold-start  measure the cold start of the Lambda functions
bench-cold-start: $(SERVICE)/dev.stamp
	$(SERVICE_PYTHON) -m tests.benchmarks.cold_start

## make simulate          simulate traffic and scaling, and write the figures of docs/scaling.md
simulate: $(SERVICE)/local.stamp
	@PYTHONPATH=localstack $(SERVICE_PYTHON) -m environments simulation
	.venvs/simulation/bin/python -m infra.simulation

## make simulate-crashes  search for lost jobs and voices in simulated crashes and faults (SCHEDULES=1000000 SECONDS=3600)
SCHEDULES ?= 10000
simulate-crashes: $(SERVICE)/dev.stamp
	$(SERVICE_PYTHON) -m tests.simulation --schedules $(SCHEDULES) $(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

## make inject-faults     run the service under faults of processes, network, disk and clock (SECONDS=300)
inject-faults: $(SERVICE)/dev.stamp
	@PYTHONPATH=localstack $(SERVICE_PYTHON) -m environments store
	FAULT_SECONDS=$(or $(SECONDS),300) $(SERVICE_PYTHON) -m pytest tests/faults -o faulthandler_timeout=0 $(PYTEST_ARGS)

## make fuzz              send damaged input to all parsers (EXAMPLES=10000, per kind of input)
EXAMPLES ?= 10000
fuzz: $(SERVICE)/dev.stamp
	FUZZ_EXAMPLES=$(EXAMPLES) $(SERVICE_PYTHON) -m pytest tests/fuzz -o faulthandler_timeout=0 $(PYTEST_XDIST) $(PYTEST_ARGS)

## make localstack        start LocalStack on port 4566, for make run AWS_ENDPOINT_URL=http://127.0.0.1:4566
localstack: $(SERVICE)/dev.stamp
	@$(SERVICE_PYTHON) localstack/localstack_host.py

## make deploy-local      deploy template.yaml to an emulator on this machine (Ctrl-C stops it)
deploy-local: $(SERVICE)/local.stamp
	@$(SERVICE_PYTHON) localstack/deploy_local.py

## make preflight         check an AWS account for a deployment, without changes
# ENV: a section of samconfig.toml. YES=1: do not ask for confirmation.
ENV ?= default
OPERATE = $(SERVICE_PYTHON) -m infra.operations --env $(ENV)
SAM = --sam $(abspath .venvs/sam/bin/sam) $(if $(YES),--yes)
preflight: $(SERVICE)/dev.stamp
	@$(OPERATE) preflight

## make deploy            build and deploy functions and infrastructure to AWS (ENV=production YES=1)
deploy: $(SERVICE)/dev.stamp
	@PYTHONPATH=localstack $(SERVICE_PYTHON) -m environments sam
	@$(OPERATE) deploy $(SAM)

## make worker-image TAG=v1   build the worker image and push it to the stack's repository
worker-image: $(SERVICE)/dev.stamp
	@$(OPERATE) image --tag "$(TAG)"

## make promote-image TAG=v1 FROM=staging   copy that image from another environment's repository
promote-image: $(SERVICE)/dev.stamp
	@$(OPERATE) promote --tag "$(TAG)" --source "$(FROM)"

## make deploy-worker TAG=v1  deploy that image to the workers
deploy-worker: $(SERVICE)/dev.stamp
	@$(OPERATE) worker --tag "$(TAG)"

## make test-deployed     run end-to-end tests against a deployment (HTTP_URL=… WEBSOCKET_URL=… KEY=…)
test-deployed: $(SERVICE)/dev.stamp
	$(SERVICE_PYTHON) -m pytest tests/e2e/test_deployed.py $(PYTEST_ARGS)

## make rollback          deploy the previous code and image again
rollback: $(SERVICE)/dev.stamp
	@PYTHONPATH=localstack $(SERVICE_PYTHON) -m environments sam
	@$(OPERATE) rollback $(SAM)

## make teardown STACK=NAME   delete a stack, except for voices and keys
teardown: $(SERVICE)/dev.stamp
	@$(OPERATE) teardown --stack "$(STACK)"

## make validate          check the templates with cfn-lint (the rules of `sam validate --lint`) and checkov
validate: $(SERVICE)/local.stamp
	@PYTHONPATH=localstack $(SERVICE_PYTHON) -m environments sam checkov
	.venvs/sam/bin/cfn-lint --include-checks I -- template.yaml infra/[a-z]*.yaml
	.venvs/checkov/bin/checkov --config-file infra/.checkov.yaml --directory infra

## make check             check format, lint, types, imports, templates and the studio
check: check-types check-python validate check-studio

check-types: $(SERVICE)/dev.stamp $(SERVICE)/qwen.stamp
	$(SERVICE_PYTHON) -m mypy

check-python: $(SERVICE)/dev.stamp
	$(SERVICE_PYTHON) -m ruff format --check
	$(SERVICE_PYTHON) -m ruff check
	$(SERVICE)/bin/lint-imports

# Development tools of the studio. The page itself does not need them.
node_modules/.package-lock.json: package.json package-lock.json
	@command -v npm >/dev/null || { echo "npm is missing. It is required to check the studio. On Debian: apt install npm"; exit 1; }
	npm ci --no-audit --no-fund
	@touch $@

check-studio: node_modules/.package-lock.json
	node_modules/.bin/biome ci functions/studio biome.json package.json tsconfig.json
	node_modules/.bin/tsc

## make vendor            copy the studio's libraries from node_modules
STUDIO_VENDOR := functions/studio/vendor
vendor: node_modules/.package-lock.json
	cp node_modules/wavesurfer.js/dist/wavesurfer.esm.js $(STUDIO_VENDOR)/wavesurfer.esm.js
	cp node_modules/wavesurfer.js/LICENSE $(STUDIO_VENDOR)/wavesurfer.LICENSE.txt
	cp node_modules/client-zip/index.js $(STUDIO_VENDOR)/client-zip.esm.js
	cp node_modules/client-zip/LICENSE.txt $(STUDIO_VENDOR)/client-zip.LICENSE.txt
	cp node_modules/@fontsource-variable/instrument-sans/files/instrument-sans-latin-wght-normal.woff2 \
		$(STUDIO_VENDOR)/instrument-sans.woff2
	cp node_modules/@fontsource-variable/instrument-sans/LICENSE $(STUDIO_VENDOR)/instrument-sans.LICENSE.txt

## make screenshots       take the screenshots in docs/studio
screenshots: $(SERVICE)/dev.stamp node_modules/.package-lock.json
	@PYTHONPATH=localstack $(SERVICE_PYTHON) -m environments store
	STUDIO_SCREENSHOTS=docs/studio $(SERVICE_PYTHON) -m pytest tests/studio

## make clean             remove environments, caches and test output, but not DATA_DIR
clean:
	rm -rf .venvs .import_linter_cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .schemathesis dist .aws-sam
	find $(wildcard pipeline functions gpu_runner localstack infra tests) -name __pycache__ -type d -prune -exec rm -rf {} +

## make lock              resolve all lock files again (requires uv)
COMPILE = $(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --quiet
# Dependencies of the CUDA build of torch. They are in torch-cuda.lock.
CUDA_ONLY = triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc \
	nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse \
	nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx
lock:
	$(COMPILE) pyproject.toml --extra local --extra marking --extra tracing --output-file requirements/local.lock
	$(COMPILE) pyproject.toml --extra marking --extra tracing --constraint requirements/local.lock \
		--output-file requirements/functions.lock
	$(COMPILE) pyproject.toml --extra local --extra marking --extra tracing --extra dev --constraint requirements/local.lock \
		--output-file requirements/dev.lock
	$(COMPILE) requirements/qwen.in --constraint requirements/torch.in --constraint requirements/dev.lock \
		$(foreach name,torch $(CUDA_ONLY),--no-emit-package $(name)) --output-file requirements/qwen.lock
	$(COMPILE) requirements/torch.in --constraint requirements/qwen.lock \
		--output-file requirements/torch-cuda.lock
	$(COMPILE) requirements/models.in --no-deps --output-file requirements/models.lock
	$(COMPILE) requirements/uv.in --output-file requirements/uv.lock
	$(COMPILE) requirements/qwen-tts.in --no-deps --output-file requirements/qwen-tts.lock
	for name in store cloud sam checkov lambda localstack-4.13.1 faster-qwen3-tts openapi-python-client; do \
		$(COMPILE) localstack/environments/$$name.in --output-file localstack/environments/$$name.lock || exit; done
	$(subst 3.11,3.12,$(COMPILE)) localstack/environments/wyoming-openai.in \
		--output-file localstack/environments/wyoming-openai.lock
	$(COMPILE) localstack/environments/quality.in $(foreach name,torch webrtcvad typing $(CUDA_ONLY),--no-emit-package $(name)) \
		--output-file localstack/environments/quality.lock
	$(COMPILE) infra/simulation.in --constraint requirements/dev.lock --output-file infra/simulation.lock

# The Qwen engine. `make QWEN_VARIANT=cuda` overrides the automatic choice.
QWEN_VARIANT ?= auto
$(SERVICE)/qwen.stamp: requirements/qwen.lock requirements/torch.in requirements/torch-cuda.lock requirements/qwen-tts.lock \
		| $(SERVICE)/local.stamp
	@$(SERVICE_PYTHON) requirements/qwen.py --variant $(QWEN_VARIANT)
	@touch $@

# Optional: pip is used if the package index does not offer uv. This is the first step of the set-up.
.venvs/uv.stamp: requirements/uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is required: make PYTHON=/path/to/python3.11 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "This Python cannot create virtual environments. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Setting up for the first time, which takes one to three minutes"
	@$(PYTHON) -m venv .venvs/uv && \
		.venvs/uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $< || \
		echo "uv is not available, so pip is used, which takes longer"
	@touch $@

$(SERVICE)/%.stamp: requirements/%.lock requirements/models.lock requirements/install.py .venvs/uv.stamp
	@echo "Installing $< in $(SERVICE)"
	@test -x $(SERVICE_PYTHON) || $(PYTHON) -m venv $(SERVICE)
	@$(SERVICE_PYTHON) requirements/install.py $<
	@$(SERVICE_PYTHON) requirements/install.py requirements/models.lock
	@touch $@
