# SPDX-License-Identifier: GPL-2.0
#
# The pure file of the module, as the unit tests link it.

unit-objs-test_tree		:= $(O)/unit/host/tree.o
unit-objs-test_tree_threads	:= $(O)/unit/host/tree.o

-include $(wildcard $(O)/unit/host/*.d)

$(O)/unit/host/%.o: $(top)/host-module/%.c
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(unit-cflags) -c -o $@ $<

# Those of the tool; decode, mmio and walk are with the common ones (unit-lib).

tool-objs	= $(patsubst %,$(O)/unit/tool/%.o,$(1))
unit-objs-test_loader		:= $(call tool-objs,loader payload error)
unit-objs-test_devices		:= $(call tool-objs,acpi bus ioapic uart)
unit-objs-test_pci		:= $(call tool-objs,bus device error pci port ring)
unit-objs-test_sring		:= $(call tool-objs,error ring)
unit-objs-test_store		:= $(call tool-objs,clock error snapshot store)

$(O)/unit/test_loader: LDFLAGS += -Wl,--no-as-needed -lz -llzma -lzstd -llz4
$(O)/unit/test_store: LDFLAGS += -Wl,--no-as-needed -lz -Wl,--wrap=vireo_cpuid_default

-include $(wildcard $(O)/unit/tool/*.d)

$(O)/unit/tool/%.o: $(top)/tools/lib/%.c
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(unit-cflags) -c -o $@ $<

# Those of the guest drivers

$(O)/unit/test_ring.o $(O)/unit/test_sring.o: CPPFLAGS += -I$(top)/guest-drivers
