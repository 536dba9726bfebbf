# What contributors type. Each target works on every Go module of the repository.

FUZZTIME ?= 10s
lint = go tool -modfile="$(CURDIR)/tools/go.mod" golangci-lint
in_each_module = set -e; for module in $$(scripts/modules); do (cd "$$module" && $(1)); done

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: check
check: tidy lint vet test ## everything that must pass before a change is proposed

.PHONY: test
test: ## run all tests with the race detector, on a PostgreSQL of their own
	@scripts/test -race

.PHONY: race
race: ## run all tests ten times, in random order, with the race detector
	@scripts/test -race -count=10 -shuffle=on -timeout=30m

.PHONY: bench
bench: ## run the benchmarks, on a PostgreSQL that keeps its promises
	@scripts/test --durable -run '^$$' -bench . -benchmem

.PHONY: fuzz
fuzz: ## run each fuzz test for FUZZTIME (10s)
	@scripts/fuzz $(FUZZTIME)

.PHONY: lint
lint: ## run the linters (the first run builds them, which takes minutes)
	@$(call in_each_module,$(lint) run --config "$(CURDIR)/.golangci.yml" ./...)
	@if command -v shellcheck >/dev/null; then shellcheck -x $$(find scripts .ci -type f ! -name "*.bash"); fi

.PHONY: vet
vet: ## run go vet
	@$(call in_each_module,go vet ./...)

.PHONY: fmt
fmt: ## format the code
	@$(call in_each_module,$(lint) fmt --config "$(CURDIR)/.golangci.yml" ./...)

.PHONY: tidy
tidy: ## check that every go.mod and go.sum lists what is needed and no more
	@set -e; for module in $$(scripts/modules --all); do (cd "$$module" && go mod tidy -diff); done
