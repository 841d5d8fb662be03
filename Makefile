# SPDX-License-Identifier: Apache-2.0
SHELL := /bin/bash
# A recipe begins as a script does: it finds Go, and names the command that ended it.
.SHELLFLAGS := -euo pipefail -c '. build/prelude.sh; eval "$$1"' recipe
.DEFAULT_GOAL := help

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GOBUILD = CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-X main.version=$(VERSION)"
BENCH ?= ../shared/bench

.PHONY: help build deps deps-generate deps-bench generate generate-check lint test soak test-race demo bench clean

help: ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 16

build: ## bin/tacitd and bin/tacit
	@mkdir -p bin
	$(GOBUILD) -o bin/ ./cmd/tacitd ./cmd/tacit

deps: ## install what tests and demo need, where it is missing
	@build/deps.sh run

deps-generate: ## install clang and the headers that `generate` needs
	@build/deps.sh generate

deps-bench: ## install what `bench` needs
	@build/deps.sh run bench

generate: deps-generate ## compile the eBPF programs anew
	go generate ./...

generate-check: deps-generate ## are the committed objects what the sources give?
	build/generate-check.sh

lint: ## formatter, vet, staticcheck
	build/lint.sh

test: deps build ## every test, as root
	@$(GOBUILD) -o bin/ ./internal/testhost/probe
	build/test.sh

soak: deps build ## the full counts: connections, crashes, flushed tables
	@$(GOBUILD) -o bin/ ./internal/testhost/probe
	build/soak.sh

test-race: deps ## tests and daemons under the race detector, as root
	@mkdir -p bin/race
	CGO_ENABLED=1 go build -race -tags netgo,osusergo -buildvcs=false -o bin/race/ ./cmd/tacitd ./cmd/tacit
	@$(GOBUILD) -o bin/race/ ./internal/testhost/probe
	build/test-race.sh

demo: deps build ## three hosts, one connection from name to proof
	demo/run.sh bin

bench: deps-bench build ## what the hooks cost; beside haproxy, by the harness in BENCH
	bench/hooks.sh
	@if [ -x $(BENCH)/bench ]; then \
		TACIT_BIN=$(CURDIR)/bin BENCH_SYSTEMS=$(CURDIR)/bench $(BENCH)/bench quick tacit haproxy; \
	else \
		echo "no benchmark harness at $(BENCH): make bench BENCH=folder, where folder holds the program bench" >&2; exit 1; \
	fi

clean: ## remove what the build made
	rm -rf bin
