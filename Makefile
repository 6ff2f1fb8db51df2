# Tenure: shared storage leases. `make help` lists what can be made.
SHELL   := /bin/bash
GO      ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.version=$(VERSION)
LINKS   := sanlock wdmd lvmlockd lvmlockctl
PREFIX  ?= /usr/local
FUZZTIME ?= 30s
# Scenarios of vmtest at once, and which: each is two machines of 400 MB that wait most of the time. By default as many as
# fit into half of the memory, 12 at most.
VMPAIRS ?= $(shell awk '/^MemAvailable/ { n = int($$2 / 2000000); print (n < 1 ? 1 : (n > 12 ? 12 : n)) }' /proc/meminfo)
VMRUN   ?= .
VMFLAGS ?=
# The tests that run LVM's commands in the machines: a target of their own, since they are longer still. The commands need
# a processor, so of these no more than two pairs for each run at once. vmtest leaves out what VMSKIP names, and so plays
# each of them once, with our programs on one host at least, but for the losses of LVs.
VMLVM   := LVM|DLM
VMSKIP  := ^TestLVM$$/^(Debian|leases|locks|locks-on-the-other|Tenure)$$|^TestLVMLoss$$|^TestLVMReplaced$$/^over-Debian$$
VMSKIP  := $(VMSKIP)|^TestLVMTogether$$/^(Debian|Tenure)$$|^TestLVMOverDLM$$/^(Debian|Tenure-and-Debian)$$
VMSKIP  := $(VMSKIP)|^TestLVMSectors$$/^(4Kn-.*|512e-Debian.*)$$
VMSKIP  := $(VMSKIP)|^TestLVMStorage$$/^(Debian-.*|Tenure-by-hand|Tenure-not-at-all)$$
# What a run of vmtest leaves out besides: a pattern of go test -skip.
VMLESS  ?=
LVMPAIRS ?= $(shell n=$$(( $$(nproc) * 2 )); echo $$(( n < $(VMPAIRS) ? n : $(VMPAIRS) )))
# The race detector needs a C compiler; without one the tests run without it.
RACE    := $(shell command -v cc >/dev/null 2>&1 && echo -race)
TESTENV := $(if $(RACE),CGO_ENABLED=1,CGO_ENABLED=0)

.DEFAULT_GOAL := help
.PHONY: help build demo test short vmtest vmlvm lint fmt fuzz bench soak install clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## make bin/tenure (static) and the links that make it sanlock, wdmd, lvmlockd, lvmlockctl
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/tenure ./tools/tenure
	@for l in $(LINKS); do ln -sf tenure bin/$$l; done

demo: build ## two hosts, one lease, a crash, the wait, the hand-over (DEVICE=/dev/… for a real device)
	bin/tenure demo $(if $(DEVICE),--device $(DEVICE))

test: ## all tests; what needs root, loop devices or stock programs skips with its reason where they are missing
	$(TESTENV) $(GO) test $(RACE) -shuffle=on -timeout 40m ./...

short: ## the tests that take a few seconds
	$(TESTENV) $(GO) test $(RACE) -shuffle=on -short -timeout 10m ./...

vmtest: ## lose hosts in virtual machines with a watchdog (QEMU, no root; VMFLAGS=-short for half, VMRUN=… for some)
	TENURE_VMTEST=1 $(GO) test -count=1 -p 1 -timeout 60m -parallel $(VMPAIRS) $(VMFLAGS) -run "$(VMRUN)" \
	  -skip '$(VMSKIP)$(if $(VMLESS),|$(VMLESS))' -v ./tools/rig/... ./tools/vmtest

vmlvm: ## run unmodified LVM commands on lvmlockd, ours and Debian's, in virtual machines (VMRUN=TestLVM/Tenure for some)
	TENURE_VMTEST=1 $(GO) test -count=1 -timeout 180m -parallel $(LVMPAIRS) $(VMFLAGS) \
	  -run "$(if $(filter .,$(VMRUN)),$(VMLVM),$(VMRUN))" -v ./tools/vmtest

soak: ## the long runs: the mixed cluster for a minute per sector size, deep exploration
	TENURE_EXPLORE=deep TENURE_SOAK=1 $(GO) test -timeout 60m -v ./paxos ./tools/interop

lint: ## golangci-lint with the project's rules, and go vet
	$(GO) vet ./...
	$(GO) tool -modfile=tools/lint/go.mod golangci-lint run ./...

fmt: ## format all Go files
	$(GO) tool -modfile=tools/lint/go.mod golangci-lint fmt ./...

fuzz: ## each fuzz test for FUZZTIME
	@for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg 2>/dev/null | grep '^Fuzz'); do \
	    echo "== $$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; done

bench: build ## side by side with Debian's sanlock on one loop device: I/Os and bytes first, then times (needs root)
	$(GO) run ./tools/bench -tenure bin/tenure

install: build ## install into PREFIX (default /usr/local), honouring DESTDIR
	install -d $(DESTDIR)$(PREFIX)/sbin
	install -m 0755 bin/tenure $(DESTDIR)$(PREFIX)/sbin/tenure
	for l in $(LINKS); do ln -sf tenure $(DESTDIR)$(PREFIX)/sbin/$$l; done

clean: ## remove what was built
	rm -rf bin
