# Build and test Placid. `make help` lists the targets.
# The tests of the datapath and of the cluster need root and a Linux kernel.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
TOOL    := go tool -modfile=tools/go.mod
LAB     := test/lab/lab
C_FILES  = $(wildcard bpf/*.c bpf/lib/*.h)

# Packages whose tests make interfaces, namespaces and maps.
ROOT_PACKAGES := ./internal/datapath/... ./internal/agent/... ./test/torture/...
UNIT_PACKAGES  = $(shell go list ./... | grep -vE '/internal/(datapath|agent)(/|$$)|/test/(e2e|torture)(/|$$)')

.NOTPARALLEL:
.PHONY: help build generate check-generate format lint test test-unit test-datapath test-cluster demo demo-plan lab lab-build lab-down conformance bench torture clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the four programs into bin/
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/ ./cmd/...

generate: ## compile the BPF programs, and generate Go code and CRDs
	@tools/deps.sh clang llvm
	go generate ./...
	$(TOOL) controller-gen object paths=./api/... crd output:crd:dir=deploy/crd

check-generate: ## check that what is generated and committed matches its source
	tools/check-generate.sh

format: ## format Go and C
	@tools/deps.sh clang-format
	$(TOOL) golangci-lint fmt ./...
	clang-format -i $(C_FILES)

lint: ## run all linters on Go, C and shell, and test the alerts
	@tools/deps.sh clang-format shellcheck
	go mod tidy -diff
	$(TOOL) golangci-lint run ./...
	clang-format --dry-run -Werror $(C_FILES)
	tools/shell-scripts.sh | xargs shellcheck --external-sources --source-path=SCRIPTDIR
	tools/promtool.sh check rules deploy/alerts/placid.rules.yaml
	tools/promtool.sh test rules deploy/alerts/placid.test.yaml

# Here no test is skipped, also none of test-unit's.
test: export REQUIRE_ALL := 1
test: lint check-generate lab-build test-unit test-datapath test-cluster ## run everything, as CI does

test-unit: ## test the packages that need no root
	@tools/deps.sh gcc libc6-dev chromium
	tools/test.sh unit -race $(UNIT_PACKAGES)

test-datapath: ## test packets, namespaces, loader and agent on this kernel; root
	@tools/deps.sh gcc libc6-dev iproute2 iputils-ping iperf3 clang llvm
	REQUIRE_ALL=1 tools/test.sh datapath -race -p 1 -timeout 15m $(ROOT_PACKAGES)

test-cluster: ## test in a real Kubernetes on this machine; root
	REQUIRE_ALL=1 tools/test.sh cluster -v -timeout 40m ./test/e2e/...

demo: ## show Placid at work in a two-node Kubernetes, then take it away; root
	test/lab/demo

demo-plan: ## plan for a sample cluster, ask what a change would do, check its policies; needs no root and no cluster
	tools/demo-plan.sh

lab-build: ## build what the lab runs, unless it is in the cache
	$(LAB) build specs

lab: ## start a two-node Kubernetes with Placid, and leave it up; root
	$(LAB) up --version $(VERSION)

lab-down: ## end the lab
	$(LAB) down

conformance: ## run upstream's suites of services and policy, native and tunnel, for hours; root
	test/conformance/run

bench: build ## measure, and print the tables of docs/benchmarks.md; root
	bench/run

torture: ## resize tables and change their layout under load, and kill the agent, for a quarter of an hour, and write docs/resize.md; root
	test/torture/other-layout bin/test/torture/other
	go run ./test/torture -other bin/test/torture/other -write docs/resize.md
	go run ./test/torture -other bin/test/torture/other -write docs/resize.md -section torture-light -rounds 4 -rate 500 -queries 1000 -connections 2000

clean: ## remove what was built
	rm -rf bin
