# SPDX-License-Identifier: Apache-2.0
SHELL := /bin/bash
# A recipe starts like a script: it finds Go, and reports the command that failed.
.SHELLFLAGS := -euo pipefail -c '. build/prelude.sh; eval "$$1"' recipe
.DEFAULT_GOAL := help

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GOBUILD = CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-X main.version=$(VERSION)"

.PHONY: help build deps deps-real deps-generate deps-bench generate generate-check lint test soak test-race fuzz demo bench clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 16

build: ## build bin/tacitd and bin/tacit
	@mkdir -p bin
	$(GOBUILD) -o bin/ ./cmd/tacitd ./cmd/tacit

deps: ## install missing packages for the demo and most tests
	@build/deps.sh run

deps-real: ## install missing packages for the tests with real software; nothing is started
	@build/deps.sh run real

deps-generate: ## install clang and headers for generate
	@build/deps.sh generate

deps-bench: ## install packages for bench
	@build/deps.sh run bench

generate: deps-generate ## compile the eBPF programs again
	go generate ./...

generate-check: deps-generate ## check that the committed eBPF objects match their sources
	build/generate-check.sh

lint: ## run gofmt, vet and staticcheck
	build/lint.sh

test: deps-real build ## run all tests, as root
	@$(GOBUILD) -o bin/ ./internal/testhost/probe
	build/test.sh

soak: deps-real build ## run the soak in full: connections, crashes, flushed tables
	@$(GOBUILD) -o bin/ ./internal/testhost/probe
	build/soak.sh

RACE ?= .
test-race: deps ## run tests and daemons under the race detector, as root (RACE=pattern of end-to-end tests)
	@mkdir -p bin/race
	CGO_ENABLED=1 go build -race -tags netgo,osusergo -buildvcs=false -o bin/race/ ./cmd/tacitd ./cmd/tacit
	@$(GOBUILD) -o bin/race/ ./internal/testhost/probe
	build/test-race.sh '$(RACE)'

FUZZ ?= 30s
fuzz: ## run every fuzz target for a while (FUZZ=30s)
	build/fuzz.sh $(FUZZ)

demo: deps build ## run the demo: three hosts on this machine, one mesh
	demo/run.sh bin

bench: deps-bench build ## compare with haproxy, nginx and no proxy, draw the chart, and measure the hooks and same-node calls (QUICK=1)
	bench/peers.sh $(if $(QUICK),quick)
	bench/hooks.sh
	bench/samenode.sh

clean: ## remove bin/
	rm -rf bin
