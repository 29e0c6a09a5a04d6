# Every target is a sentence: "make test" runs every test that needs only Go. The tools of lint come from tools/go.mod.

VERSION  ?= $(shell git describe --tags --dirty 2>/dev/null)
ARGS     ?=
FUZZTIME ?= 20s
BENCH    ?= short

# The race detector needs a C compiler on this platform. Without one the tests run all the same, and say so.
RACE := $(if $(shell command -v $${CC:-cc} 2>/dev/null),-race)

# The detector clears what it knows of a large allocation in place. Its own way, to map it anew, has a page fault and an
# interrupt of the other processors for each page touched after that: in a virtual machine half of the time of all tests.
export GORACE := clear_shadow_mmap_threshold=1073741824 $(GORACE)

.PHONY: run build test check e2e lint fuzz bench clean

# Start a mirror with the built-in defaults; ARGS="--set server.listen=:5000" changes them.
run: build
	exec bin/mirror serve $(ARGS)

# Build one static binary, bin/mirror.
build:
	CGO_ENABLED=0 go build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/mirror ./cmd/mirror

# Run every test that needs only Go.
test: check
	$(if $(RACE),,@echo "no C compiler: running without the race detector")
	go test $(RACE) -timeout 15m ./...
	$(if $(RACE),go test -run Allocate ./internal/server) # which the detector's own allocations hide

# Find what the compiler does not: suspicious code, and files that gofmt would change.
check:
	@changed=$$(gofmt -l bench cmd internal); test -z "$$changed" || { echo "run gofmt on:"; echo "$$changed"; exit 1; }
	go vet ./...
	go vet -tags e2e ./internal/e2e/...

# Run the program against Docker, containerd, podman and skopeo, and kill the store 2000 times. Needs root and Debian's
# packages, which it installs.
e2e:
	internal/e2e/install
	go test $(RACE) -p 1 -count 1 -timeout 25m -tags e2e ./internal/e2e/...
	MIRROR_CACHE_CRASH_KILLS=2000 go test $(RACE) -count 1 -timeout 15m -run '^TestCrash$$' ./internal/cache

# Run the linters of .golangci.yml.
lint:
	go tool -modfile=tools/go.mod golangci-lint run ./...

# Give each fuzz target FUZZTIME.
fuzz:
	@set -e; for file in $$(grep -rl '^func Fuzz' --include '*_test.go' cmd internal); do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$file); do \
			echo "$$file $$target"; \
			go test ./$$(dirname $$file) -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME); \
		done; \
	done

# Compare the mirror with nginx, varnish and docker-registry, side by side; BENCH=full takes an hour or more. Needs root and
# Debian's packages, which it installs. The results are in bench/results.
bench:
	bench/install
	go run ./bench/compare -profile $(BENCH)

# Remove what the other targets built.
clean:
	rm -rf bin
