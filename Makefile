# The two commands that a newcomer needs are "make demo" and "make test".
GO      ?= go
NEXT    := $(shell sed -n 's/^var version = "\(.*\)"$$/\1/p' cmd/procmem/globals.go)
VERSION := $(shell git describe --tags --dirty 2>/dev/null || echo $(NEXT)-$$(git describe --always --dirty 2>/dev/null || echo unknown))
TOOLS   := $(GO) tool -modfile=tools/go.mod

# Programs that the tests use: debuggers, compilers, servers to dump.
TEST_PACKAGES := binutils clang dwz elfutils fish g++ gcc gcc-multilib gdb groff-base libcap2-bin lldb llvm musl-tools nodejs openjdk-17-jdk-headless \
	postgresql python3 redis-server redis-tools strace tmux util-linux xz-utils zsh zstd

# Where make install puts things. DESTDIR goes before, for packagers.
PREFIX  ?= /usr/local
BINARY  ?= procmem
BINDIR   = $(DESTDIR)$(PREFIX)/bin
MANDIR   = $(DESTDIR)$(PREFIX)/share/man/man1
BASHCOMP = $(DESTDIR)$(PREFIX)/share/bash-completion/completions/procmem
ZSHCOMP  = $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_procmem
FISHCOMP = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/procmem.fish

.PHONY: build install uninstall demo test race test-deps test-dist torture check bench kernels kernels-quick engines fuzz man dist clean

build: ## the static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BINARY) ./cmd/procmem

# As in "make && sudo make install": root builds nothing that is there.
procmem:
	$(MAKE) build

install: procmem ## binary, man pages, completion; GCORE=1 adds a link with the name gcore
	install -Dm755 procmem $(BINDIR)/procmem
	pages=$$(mktemp -d) && ./procmem man $$pages && install -Dm644 -t $(MANDIR) $$pages/*.1 && rm -r $$pages
	./procmem completion bash | install -Dm644 /dev/stdin $(BASHCOMP)
	./procmem completion zsh | install -Dm644 /dev/stdin $(ZSHCOMP)
	./procmem completion fish | install -Dm644 /dev/stdin $(FISHCOMP)
	$(if $(GCORE),ln -sf procmem $(BINDIR)/gcore)

uninstall: ## what install has installed
	rm -f $(BINDIR)/procmem $(MANDIR)/procmem.1 $(MANDIR)/procmem-*.1 $(BASHCOMP) $(ZSHCOMP) $(FISHCOMP)
	[ "$$(readlink $(BINDIR)/gcore)" != procmem ] || rm $(BINDIR)/gcore

dist: ## what a release consists of, into dist/; the same commit gives the same bytes
	rm -rf dist
	$(GO) -C tools/dist run . -source $(CURDIR) -out $(CURDIR)/dist -version $(VERSION)

demo: build ## a sample process, read and dumped, and its core in gdb
	@./demo/run ./procmem

# What runs procmem as a program, or one goroutine, has nothing for the race
# detector. Compressing under it takes capture minutes; the packages below it do
# the concurrent work, and have the detector. snapshot and the command have it for
# a part of each table, and whole in "make race". What takes longest comes first.
UNRACED := ./harm ./fidelity ./snapshot ./cmd/procmem ./capture ./access ./internal/dfa ./symbols ./internal/testproc ./internal/zenc ./internal/lines
PACKAGES = $(patsubst $(shell $(GO) list -m)%,.%,$(shell $(GO) list ./...))
RACED    = $(filter-out $(UNRACED),$(PACKAGES))
TEST     = PROCMEM_TEST_ALL=1 $(GO) test -count=1 -timeout 25m

test: test-deps ## every test
	$(TEST) $(UNRACED)
	CGO_ENABLED=1 $(TEST) -race -short ./snapshot $(RACED)

race: test-deps ## every test with the race detector, as far as it has something to look at
	CGO_ENABLED=1 $(TEST) -race ./snapshot ./cmd/procmem $(RACED)

test-deps:
	@./scripts/install $(TEST_PACKAGES)

test-dist: ## what make dist makes is installed, run and removed
	@./scripts/install fish rpm skopeo zsh
	PROCMEM_TEST_ALL=1 $(GO) -C tools/dist test -count=1 .

torture: test-deps ## procmem and its helper are killed, and all that they ask of the kernel fails; takes hours
	$(GO) test ./harm -v -run '^Test(Torture|Witness|Faults|FileFaults|NoFileForDescriptor|HelperKilled|TargetForks|OwnTables|NothingIsSeen)$$' \
		-count=1 -timeout 8h -args -trials 1000 -dumps 200 -points 1000 -kills 300
	$(GO) test ./snapshot -v -run '^Test(FrozenMeanwhile|KilledToolWhileItCopies)$$' -count=1 -timeout 2h -args -freezes 100 -kills 100

# Errors are looked at in what is shipped: tests compare them as they come, and
# what they leave open ends with them, as do the programs that they run.
LINTED = $(filter-out ./internal/testproc ./internal/testproc/%,$(PACKAGES))

check: ## what CI checks beside the tests; quick
	test -z "$$(gofmt -l .)"
	$(GO) vet ./...
	GOARCH=arm64 $(GO) vet ./...
	$(GO) -C tools/engines vet .
	$(GO) -C tools/dist vet .
	$(TOOLS) staticcheck ./...
	$(TOOLS) go-errorlint -test=false $(LINTED)
	$(TOOLS) errcheck -ignoretests -exclude tools/errcheck.txt $(LINTED)
	$(TOOLS) misspell -error $$(git ls-files | grep -v -e /testdata/ -e '\.s$$' -e 'go\.sum$$')
	./scripts/layers

FUZZTIME ?= 1m
fuzz: ## each parser against made-up input
	@./scripts/fuzz $(FUZZTIME)

bench: build ## procmem against gcore on the same processes; writes docs/performance.md
	@./scripts/install binutils gcc gdb postgresql redis-server redis-tools scanmem yara zstd
	$(GO) test ./bench -v -count=1 -timeout 75m -args -run-bench -procmem "$(CURDIR)/procmem" -write "$(CURDIR)/docs/performance.md"

# What boots Debian's kernels, and compiles for arm64.
KERNEL_PACKAGES := clang cpio debian-archive-keyring dpkg gcc lld qemu-system-arm qemu-system-x86

kernels: ## procmem on Debian's kernels, in emulated machines; writes docs/kernels.md; takes hours
	@./scripts/install $(KERNEL_PACKAGES)
	$(GO) test ./kernels -v -count=1 -timeout 8h -args -run-kernels -write "$(CURDIR)/docs/kernels.md"

kernels-quick: ## the two that differ most from the usual machine, and a part of the tests
	@./scripts/install $(KERNEL_PACKAGES)
	$(GO) test ./kernels -count=1 -timeout 15m -run '^TestKernel/^(6.1-amd64|newest-arm64-16k)$$' -args -run-kernels -quick -dumps 2 -kills 2 -limit 5m

engines: ## the regexp engine beside others: the table of docs/decisions.md
	$(GO) -C tools/engines run .

man: build ## the man pages, into man/
	./procmem man man

clean:
	rm -rf procmem man dist
