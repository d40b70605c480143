# Trainyard's commands. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
JOBS ?= $(shell nproc)
PROGRAMS := trainyard-controller trainyard-worker trainyard-rank

.PHONY: help setup build test test-unit test-engine test-integration test-e2e demo down images chart bench sanitize tidy format format-check dockerfile fuzz matrix cuda clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what the build and the tests need, pinned, and only what is missing
	@.ci/setup

build: ## build the three programs into bin/
	@.ci/setup packages torch
	@cmake --preset full > build.log 2>&1 || { cat build.log; exit 1; }; rm -f build.log
	@cmake --build build/full -j $(JOBS) --target $(PROGRAMS)
	@mkdir -p bin && for program in $(PROGRAMS); do ln -sf ../build/full/bin/$$program bin/$$program; done

test: ## build and run every test: unit, simulation, engine, a real API server, the chart, the demo and a real cluster
	@.ci/test unit simulate engine integration chart e2e

test-unit: ## the fast tests alone: no LibTorch, no network
	@.ci/test unit simulate

test-engine: ## the engine's tests: LibTorch on CPU, with PyTorch as the oracle
	@.ci/test engine

test-integration: ## the built programs against a real etcd and kube-apiserver
	@.ci/test integration

test-e2e: ## install, train and break things in a real local cluster
	@.ci/test e2e

demo: ## from nothing to a trained model on a local Kubernetes cluster (TRAINYARD_CLUSTER=existing: on that of KUBECONFIG)
	@tests/e2e/demo.sh

down: ## take the local cluster away, with everything it made
	@tests/cluster/down.sh

images: build ## the container images of the local cluster, as OCI archives in build/images
	@.ci/images

chart: ## copy the CRDs into the chart, lint it and run its unit tests
	@cp crds/trainingjob.yaml crds/trainingqueue.yaml helm/files/
	@.ci/test chart

bench: ## the benchmarks; docs/performance.md tells how to read them
	@.ci/bench

sanitize: ## unit and simulation tests under AddressSanitizer and UndefinedBehaviorSanitizer, those of threads under ThreadSanitizer
	@.ci/test asan tsan

tidy: ## clang-tidy over the files that changed since origin/main (ALL=1: all files)
	@.ci/tidy

format: ## format all C++ files
	@git ls-files '*.h' '*.cc' '*.cu' '*.cuh' | xargs clang-format-14 -i

format-check: ## fail where a C++ file is not formatted
	@git ls-files '*.h' '*.cc' '*.cu' '*.cuh' | xargs clang-format-14 --dry-run -Werror

dockerfile: ## build both images of the Dockerfile with buildah, and start their programs (wants buildah and mmdebstrap)
	@.ci/test dockerfile

fuzz: ## libFuzzer over everything that reads bytes from outside (FUZZ_SECONDS=600: for ten minutes each)
	@.ci/fuzz

matrix: ## train in every layout of the equality matrix (the tests take a covering set); takes about an hour
	@.ci/matrix

cuda: ## compile and link the engine with NCCL and CUDA, and the tests that want a GPU; needs none
	@.ci/setup packages torch
	@mkdir -p build/cuda && cmake --preset cuda > build/cuda/configure.log 2>&1 || { cat build/cuda/configure.log; exit 1; }
	@cmake --build build/cuda -j $(JOBS) --target trainyard-rank gpu_offload_bench worker_mesh_test worker_model_test worker_optim_test gpu_test

clean: ## remove what was built here (the tools' cache stays)
	@rm -rf build bin
