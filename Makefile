# SPDX-License-Identifier: GPL-2.0
#
# Vireo. `make help` says what there is to make; everything made is in build/.

KVER	?= $(shell uname -r)
KDIR	?= /lib/modules/$(KVER)/build
PREFIX	?= /usr/local
O	:= $(CURDIR)/build
QEMU	:= $(CURDIR)/selftests/qemu

# Kbuild leaves its objects beside the sources. So that they stay clean, and
# that modules for several kernels are there at once, it is shown a tree of
# links to the sources for each kernel release.
RELEASE	= $(shell sed -n 's/.*UTS_RELEASE "\(.*\)"/\1/p' $(KDIR)/include/generated/utsrelease.h)
MODDIR	= $(O)/modules/$(RELEASE)

# Type information for BPF is made by pahole from vmlinux, where both are there.
NOBTF	= $(if $(and $(wildcard $(KDIR)/vmlinux),$(shell command -v pahole)),,CONFIG_DEBUG_INFO_BTF_MODULES=)

.PHONY: all modules tools selftests run test test-svm test-vmx test-debug bench bench-io bench-clones \
	check kernels clean install dkms-install help

all: modules tools selftests

modules:
	@test -e $(KDIR)/Makefile || { echo "vireo: no kernel headers in $(KDIR):" \
		"install linux-headers-$(KVER), or say make KDIR=<kernel build directory>" >&2; exit 1; }
	@$(QEMU)/link-sources $(MODDIR)
	@flock $(MODDIR).lock $(MAKE) -C $(KDIR) M=$(MODDIR) $(NOBTF) $(KFLAGS) modules

tools:
	@$(MAKE) --no-print-directory -C tools O=$(O)/tools

selftests:
	@$(MAKE) --no-print-directory -C selftests O=$(O)/selftests

# Everything below brings what it needs onto the machine: see deps and fetch.

run:
	@$(QEMU)/deps run $(if $(filter intel,$(CPU)),bench)
	@CPU=$(CPU) $(QEMU)/run

test:
	@$(QEMU)/deps test bench
	@$(QEMU)/test

test-svm:
	@$(QEMU)/deps test
	@$(QEMU)/test --svm

test-vmx:
	@$(QEMU)/deps test bench
	@$(QEMU)/test --vmx

test-debug:
	@$(QEMU)/deps test debug
	@$(QEMU)/test --debug

bench:
	@$(QEMU)/deps test bench
	@$(QEMU)/bench

bench-io:
	@$(QEMU)/deps test bench
	@$(QEMU)/bench io

bench-clones:
	@$(QEMU)/deps test bench
	@$(QEMU)/bench clones

check:
	@$(QEMU)/deps check
	@$(QEMU)/check

install: modules tools
	$(MAKE) -C $(KDIR) M=$(MODDIR) INSTALL_MOD_DIR=updates $(if $(DESTDIR),INSTALL_MOD_PATH=$(DESTDIR)) modules_install
	$(MAKE) -C tools O=$(O)/tools DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) install
	install -D -m 644 tools/packaging/60-vireo.rules $(DESTDIR)/usr/lib/udev/rules.d/60-vireo.rules
	install -D -m 644 tools/packaging/vireo.sysusers $(DESTDIR)/usr/lib/sysusers.d/vireo.conf
	$(if $(DESTDIR),,systemd-sysusers vireo.conf && udevadm control --reload)

VERSION	= $(shell sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' tools/packaging/dkms.conf)
DKMSDIR	= $(DESTDIR)/usr/src/vireo-$(VERSION)

dkms-install:
	rm -rf $(DKMSDIR)
	install -d $(DKMSDIR)
	cp -r Kbuild LICENSE host-module uapi $(wildcard guest-drivers) $(DKMSDIR)
	install -m 644 tools/packaging/dkms.conf $(DKMSDIR)
	$(if $(DESTDIR),,dkms install --force vireo/$(VERSION))

clean:
	rm -rf $(O)

help:
	@echo 'make [all]         modules, tools and selftests, for the running kernel or KDIR='
	@echo 'make run           boot a guest under Vireo, in an emulated AMD-V machine'
	@echo 'make run CPU=intel the same on an emulated Intel machine'
	@echo 'make test          every test, on two host kernels, in emulated machines'
	@echo 'make test-svm      the part of it that runs on AMD-V; make test-vmx: on VT-x'
	@echo 'make test-debug    the same on a kernel with KASAN, lockdep, kmemleak, UBSAN'
	@echo 'make bench         Vireo and KVM side by side, in exact instruction counts'
	@echo 'make bench-io      disks and interfaces, Vireo and KVM with QEMU side by side'
	@echo 'make bench-clones  a thousand clones of a VM at once, in a host with 4 GiB'
	@echo 'make check         style, static analysis, warnings, headers, licences, size'
	@echo 'make install       module, tool, man pages, udev rule (DESTDIR=, PREFIX=)'
	@echo 'make dkms-install  the modules through DKMS: rebuilt for every new kernel'
	@echo 'make modules | tools | selftests | clean'
