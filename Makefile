# What contributors type. Each target works on every Go module of the repository.

FUZZTIME ?= 10s
D ?= 2m
lint = go tool -modfile="$(CURDIR)/tools/go.mod" golangci-lint
in_each_module = set -e; for module in $$(scripts/modules); do (cd "$$module" && $(1)); done

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: check
check: ## check the packages that were changed since REV (main), in a minute
	@scripts/check $(REV)

.PHONY: check-all
check-all: tidy lint vet standalone test ## check everything, as the gate does

.PHONY: test
test: ## run all tests with the race detector, on a PostgreSQL of their own
	@scripts/test -race

.PHONY: race
race: ## run all tests ten times, in random order, with the race detector
	@scripts/test -race -count=10 -shuffle=on -timeout=30m

.PHONY: flakes
flakes: ## run all tests N (20) times beside processes that burn CPU, in hours
	@scripts/flakes $(N)

.PHONY: bench
bench: ## compare ezq with its alternatives, in minutes (ARGS="-list" shows what, -help how)
	@scripts/pgmq run env -C bench go run . $(ARGS)

.PHONY: bench-full
bench-full: ## the same in full, and write the tables and plots of the documentation
	@scripts/pgmq run env -C bench go run . -full -docs .. $(ARGS)

.PHONY: bench-go
bench-go: ## run the Go benchmarks, on a PostgreSQL that keeps its promises
	@scripts/test --durable -run '^$$' -bench . -benchmem

.PHONY: bench-compare
bench-compare: ## compare the Go benchmarks that need no PostgreSQL with those at REV (main)
	@scripts/bench-compare $(or $(REV),main)

.PHONY: fuzz
fuzz: ## run each fuzz test for FUZZTIME (10s)
	@scripts/fuzz $(FUZZTIME)

.PHONY: soak
soak: ## run a queue under load for D (2m) while everything fails that can
	@scripts/soak $(D)

.PHONY: soak-router
soak-router: ## run a router in processes that come and go, for N (100000) events
	@scripts/soak-router $(or $(N),100000)

.PHONY: simulate
simulate: ## run the simulations with SEEDS (5000) seeds each
	@scripts/simulate $(SEEDS)

.PHONY: mutate
mutate: ## list the changes to the code that no test notices, in minutes (ARGS=./package)
	@scripts/mutate $(ARGS)

.PHONY: conformance
conformance: ## hold all backends, those of others too, to their promises, in minutes
	@scripts/pgmq run --fast scripts/brokers run env -C conformance/brokers go test -count=1 -timeout 60m . -foreign

.PHONY: kill-table
kill-table: ## write the tables of docs/conformance.md: the cases, and the broken backends that they notice
	@go test -count=1 ./conformance -run TestTables -update

.PHONY: screenshots
screenshots: ## write the pictures of the console into docs/images, in a minute
	@EZQ_CHROMIUM=$$(scripts/chromium) go test -C console/browser -count=1 -run TestScreenshots . -screenshots "$(CURDIR)/docs/images"

.PHONY: report
report: ## examine all backends with the conformance suite, in minutes, and write their tables
	@scripts/pgmq run --fast scripts/brokers run env -C conformance/brokers go run ./report

.PHONY: report-check
report-check: ## check that the tables of the backends are those of the suite
	@cd conformance/brokers && go run ./report -check

.PHONY: versions
versions: ## run the tests of the PGMQ backend on PostgreSQL 14 to 18, or on V, in minutes each
	@scripts/versions $(V)

.PHONY: standalone
standalone: ## build each module without the others, and release them to an empty folder
	@scripts/standalone

.PHONY: lint
lint: ## run the linters, and govulncheck where it can be (the first run builds them, which takes minutes)
	@$(call in_each_module,$(lint) run --config "$(CURDIR)/.golangci.yml" ./...)
	@if command -v shellcheck >/dev/null; then shellcheck -x $$(find scripts .ci -type f ! -name "*.bash" ! -name slow-tests); fi
	@go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
	@scripts/vulnerabilities --reachable

.PHONY: vulnerabilities
vulnerabilities: ## look for known vulnerabilities in what is called, in two minutes
	@scripts/vulnerabilities

.PHONY: vet
vet: ## run go vet
	@$(call in_each_module,go vet ./...)

.PHONY: fmt
fmt: ## format the code
	@$(call in_each_module,$(lint) fmt --config "$(CURDIR)/.golangci.yml" ./...)

.PHONY: tidy
tidy: ## check that every go.mod and go.sum lists what is needed and no more
	@set -e; for module in $$(scripts/modules --all); do (cd "$$module" && go mod tidy -diff); done
