// SPDX-License-Identifier: GPL-2.0
/*
 * ACPI tables of a machine without legacy hardware.
 *
 * Pure: builds into a buffer.  Sections cited are of the ACPI specification 6.3.
 * Hardware-reduced ACPI (4.1): no PM timer, no SCI, no fixed registers; sleep,
 * reset and nothing else are ports; of the I/O APIC's pins one is the serial port's, and
 * one announces that the machine is a clone.  One RSDP, an XSDT, FADT, MADT, MCFG and DSDT.
 */
#include <stddef.h>
#include <string.h>

#include "libvireo.h"
#include "util.h"

struct rsdp {			/* 5.2.5.3 */
	char signature[8];
	__u8 checksum;		/* of the first 20 bytes */
	char oem_id[6];
	__u8 revision;
	__u32 rsdt;
	__u32 length;
	__u64 xsdt;
	__u8 extended_checksum;	/* of all */
	__u8 reserved[3];
} __packed;

struct header {			/* 5.2.6 */
	char signature[4];
	__u32 length;
	__u8 revision;
	__u8 checksum;
	char oem_id[6];
	char oem_table_id[8];
	__u32 oem_revision;
	char creator_id[4];
	__u32 creator_revision;
} __packed;

struct gas {			/* 5.2.3.2 */
	__u8 space;
	__u8 bit_width;
	__u8 bit_offset;
	__u8 access;
	__u64 address;
} __packed;

struct fadt {			/* 5.2.9 */
	struct header h;
	__u32 firmware_ctrl;
	__u32 dsdt;
	__u8 reserved0;
	__u8 profile;
	__u8 unused0[62];	/* SCI, PM blocks, latencies: none in reduced hardware */
	__u8 century;
	__u16 boot_arch;
	__u8 reserved1;
	__u32 flags;
	struct gas reset_reg;
	__u8 reset_value;
	__u16 arm_boot_arch;
	__u8 minor;
	__u64 x_firmware_ctrl;
	__u64 x_dsdt;
	struct gas unused1[8];	/* PM and GPE blocks */
	struct gas sleep_control;
	struct gas sleep_status;
	char hypervisor[8];
} __packed;

static_assert_that(offsetof(struct fadt, boot_arch) == 109, "FADT: IAPC_BOOT_ARCH");
static_assert_that(offsetof(struct fadt, flags) == 112, "FADT: flags");
static_assert_that(offsetof(struct fadt, x_dsdt) == 140, "FADT: X_DSDT");
static_assert_that(offsetof(struct fadt, sleep_control) == 244, "FADT: SLEEP_CONTROL_REG");
static_assert_that(sizeof(struct fadt) == 276, "FADT revision 6");

#define FADT_WBINVD		BIT(0)
#define FADT_PROC_C1		BIT(2)
#define FADT_NO_PWR_BUTTON	BIT(4)
#define FADT_NO_SLP_BUTTON	BIT(5)
#define FADT_RESET_REG		BIT(10)
#define FADT_HEADLESS		BIT(12)
#define FADT_HW_REDUCED		BIT(20)

#define FADT_BOOT_NO_VGA	BIT(2)
#define FADT_BOOT_NO_ASPM	BIT(4)
#define FADT_BOOT_NO_RTC	BIT(5)

#define PROFILE_ENTERPRISE	4	/* server */
#define SPACE_IO		1
#define ACCESS_BYTE		1

struct madt {			/* 5.2.12 */
	struct header h;
	__u32 lapic_address;
	__u32 flags;
} __packed;

struct madt_x2apic {		/* 5.2.12.12 */
	__u8 type;
	__u8 length;
	__u16 reserved;
	__u32 apic_id;
	__u32 flags;
	__u32 uid;
} __packed;

struct madt_ioapic {		/* 5.2.12.3 */
	__u8 type;
	__u8 length;
	__u8 id;
	__u8 reserved;
	__u32 address;
	__u32 gsi_base;
} __packed;

struct mcfg {			/* PCI Firmware Specification 3.3, 4.1.2 */
	struct header h;
	__u8 reserved[8];
	__u64 base;
	__u16 segment;
	__u8 first_bus;
	__u8 last_bus;
	__u32 reserved1;
} __packed;

#define MADT_IOAPIC		1
#define MADT_X2APIC		9
#define MADT_ENABLED		1
#define LAPIC_ADDRESS		0xfee00000U

/*
 * DefinitionBlock ("", "DSDT", 2, "VIREO", "VIREOVM", 1)
 * {
 *	Name (_S5, Package () { 5, 0, 0, 0 })
 *	Device (_SB.COM1)
 *	{
 *		Name (_HID, EisaId ("PNP0501"))
 *		Name (_UID, 1)
 *		Name (_CRS, ResourceTemplate ()
 *		{
 *			IO (Decode16, 0x3f8, 0x3f8, 1, 8)
 *			Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive)
 *				{ VIREO_PIN_COM1 }
 *		})
 *	}
 *	Device (_SB.PCI0)
 *	{
 *		Name (_HID, EisaId ("PNP0A08"))
 *		Name (_CID, EisaId ("PNP0A03"))
 *		Name (_UID, 0)
 *		Name (_CRS, ResourceTemplate ()
 *		{
 *			WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
 *				       0, 0, 31, 0, 32)
 *			IO (Decode16, 0xcf8, 0xcf8, 1, 8)
 *			DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
 *				     NonCacheable, ReadWrite,
 *				     0, 0xc0000000, 0xdfffffff, 0, 0x20000000)
 *		})
 *		Method (_OSC, 4, Serialized)
 *		{
 *			// native hotplug and capabilities are the system's
 *			CreateDWordField (Arg3, 8, CTRL)
 *			And (CTRL, 0x11, CTRL)
 *			Return (Arg3)
 *		}
 *	}
 *	// Virtual Machine Generation ID (Microsoft, 2018): 16 bytes at ADDR
 *	Device (_SB.VGEN)
 *	{
 *		Name (_HID, "VREO0001")
 *		Name (_CID, "VM_Gen_Counter")
 *		Name (_DDN, "VM_Gen_Counter")
 *		Name (ADDR, Package () { VIREO_GENERATION, 0 })
 *	}
 *	Device (_SB.GED)	// Generic Event Device (5.6.9)
 *	{
 *		Name (_HID, "ACPI0013")
 *		Name (_UID, 0)
 *		Name (_CRS, ResourceTemplate ()
 *		{
 *			Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive)
 *				{ VIREO_PIN_EVENT }
 *		})
 *		Method (_EVT, 1, Serialized) { Notify (\_SB.VGEN, 0x80) }
 *	}
 * }
 *
 * There is no _PRT: no device has an interrupt pin.
 */
#define WORD(v)		(v) & 0xff, (v) >> 8 & 0xff
#define DWORD(v)	WORD(v), (v) >> 16 & 0xff, (v) >> 24 & 0xff

static const __u8 dsdt_aml[] = {
	0x08, '_', 'S', '5', '_',		/* Name (_S5_, ... */
	0x12, 0x07, 0x04,			/* Package, 7 bytes, 4 elements */
	0x0a, VIREO_SLEEP_S5, 0x00, 0x00, 0x00,	/* 5, 0, 0, 0 */
	0x5b, 0x82, 0x37,			/* Device, 55 bytes */
	0x5c, 0x2e, '_', 'S', 'B', '_', 'C', 'O', 'M', '1',	/* \_SB_.COM1 */
	0x08, '_', 'H', 'I', 'D',
	0x0c, 0x41, 0xd0, 0x05, 0x01,		/* EisaId ("PNP0501") */
	0x08, '_', 'U', 'I', 'D', 0x01,
	0x08, '_', 'C', 'R', 'S',
	0x11, 0x16, 0x0a, 0x13,			/* Buffer, 22 bytes, of 19 */
	0x47, 0x01,				/* I/O port descriptor, 16-bit decode */
	WORD(VIREO_PORT_COM1),			/* minimum */
	WORD(VIREO_PORT_COM1),			/* maximum */
	0x01, 0x08,				/* alignment, length */
	0x89, WORD(6), 0x03, 0x01,		/* a consumer's, edge, high; one */
	DWORD(VIREO_PIN_COM1),
	0x79, 0x00,				/* end tag, checksum not used */
	0x5b, 0x82, 0x4e, 0x07,			/* Device, 126 bytes */
	0x2e, '_', 'S', 'B', '_', 'P', 'C', 'I', '0',	/* _SB_.PCI0 */
	0x08, '_', 'H', 'I', 'D',
	0x0c, 0x41, 0xd0, 0x0a, 0x08,		/* EisaId ("PNP0A08") */
	0x08, '_', 'C', 'I', 'D',
	0x0c, 0x41, 0xd0, 0x0a, 0x03,		/* EisaId ("PNP0A03") */
	0x08, '_', 'U', 'I', 'D', 0x00,
	0x08, '_', 'C', 'R', 'S',
	0x11, 0x37, 0x0a, 0x34,			/* Buffer, 55 bytes, of 52 */
	0x88, WORD(13), 0x02, 0x0c, 0x00,	/* bus numbers, 16 bits each */
	WORD(0), WORD(0), WORD(VIREO_PCI_BUSES - 1), WORD(0), WORD(VIREO_PCI_BUSES),
	0x47, 0x01,				/* I/O ports that it uses itself */
	WORD(VIREO_PORT_PCI), WORD(VIREO_PORT_PCI), 0x01, 0x08,
	0x87, WORD(23), 0x00, 0x0c, 0x01,	/* memory, 32 bits each */
	DWORD(0), DWORD(VIREO_PCI_WINDOW), DWORD(VIREO_PCI_WINDOW + VIREO_PCI_WINDOW_SIZE - 1),
	DWORD(0), DWORD(VIREO_PCI_WINDOW_SIZE),
	0x79, 0x00,
	0x14, 0x1b, '_', 'O', 'S', 'C', 0x0c,	/* Method, 27 bytes, serialized, 4 arguments */
	0x8a, 0x6b, 0x0a, 0x08, 'C', 'T', 'R', 'L',
	0x7b, 'C', 'T', 'R', 'L', 0x0a, 0x11, 'C', 'T', 'R', 'L',
	0xa4, 0x6b,
	0x5b, 0x82, 0x42, 0x05,			/* Device, 82 bytes */
	0x2e, '_', 'S', 'B', '_', 'V', 'G', 'E', 'N',
	0x08, '_', 'H', 'I', 'D',
	0x0d, 'V', 'R', 'E', 'O', '0', '0', '0', '1', 0x00,
	0x08, '_', 'C', 'I', 'D',
	0x0d, 'V', 'M', '_', 'G', 'e', 'n', '_', 'C', 'o', 'u', 'n', 't', 'e', 'r', 0x00,
	0x08, '_', 'D', 'D', 'N',
	0x0d, 'V', 'M', '_', 'G', 'e', 'n', '_', 'C', 'o', 'u', 'n', 't', 'e', 'r', 0x00,
	0x08, 'A', 'D', 'D', 'R',
	0x12, 0x08, 0x02,			/* Package, 8 bytes, 2 elements */
	0x0c, DWORD(VIREO_GENERATION), 0x00,
	0x5b, 0x82, 0x48, 0x04,			/* Device, 72 bytes */
	0x2e, '_', 'S', 'B', '_', 'G', 'E', 'D', '_',
	0x08, '_', 'H', 'I', 'D',
	0x0d, 'A', 'C', 'P', 'I', '0', '0', '1', '3', 0x00,
	0x08, '_', 'U', 'I', 'D', 0x00,
	0x08, '_', 'C', 'R', 'S',
	0x11, 0x0e, 0x0a, 0x0b,			/* Buffer, 14 bytes, of 11 */
	0x89, WORD(6), 0x03, 0x01,		/* a consumer's, edge, high; one */
	DWORD(VIREO_PIN_EVENT),
	0x79, 0x00,
	0x14, 0x13, '_', 'E', 'V', 'T', 0x09,	/* Method, 19 bytes, serialized, 1 argument */
	0x86, 0x5c, 0x2e, '_', 'S', 'B', '_', 'V', 'G', 'E', 'N', 0x0a, 0x80,
};

/**
 * struct builder - tables on their way
 * @buf: where they go; its first byte is at VIREO_ACPI_BASE
 * @room: its bytes
 * @used: bytes used so far
 * @full: there was no room for something
 */
struct builder {
	__u8 *buf;
	size_t room;
	size_t used;
	bool full;
};

static __u8 checksum(const void *data, size_t len)
{
	const __u8 *p = data;
	__u8 sum = 0;

	while (len--)
		sum += *p++;
	return (__u8)-sum;
}

/* Append; returns the gpa. */
static __u64 append(struct builder *b, const void *data, size_t len)
{
	size_t at = b->used;

	if (len > b->room - b->used) {
		b->full = true;
		return 0;
	}
	memcpy(b->buf + at, data, len);
	b->used += len;
	return VIREO_ACPI_BASE + at;
}

static void header_init(struct header *h, const char *signature, __u8 revision, size_t length)
{
	memcpy(h->signature, signature, 4);
	h->length = (__u32)length;
	h->revision = revision;
	memcpy(h->oem_id, "VIREO ", 6);
	memcpy(h->oem_table_id, "VIREOVM ", 8);
	h->oem_revision = 1;
	memcpy(h->creator_id, "VREO", 4);
	h->creator_revision = 1;
}

/* Start a table on a multiple of 16. */
static void align(struct builder *b)
{
	static const __u8 zero[16];

	append(b, zero, -b->used & 15);
}

/* The table that began at @gpa is complete. */
static void finish(struct builder *b, __u64 gpa)
{
	struct header *h;

	if (b->full)
		return;
	h = (struct header *)(b->buf + (gpa - VIREO_ACPI_BASE));
	h->length = (__u32)(VIREO_ACPI_BASE + b->used - gpa);
	h->checksum = 0;
	h->checksum = checksum(h, h->length);
}

static __u64 build_dsdt(struct builder *b)
{
	struct header h = { .length = 0 };
	__u64 gpa;

	header_init(&h, "DSDT", 2, sizeof(h) + sizeof(dsdt_aml));
	align(b);
	gpa = append(b, &h, sizeof(h));
	append(b, dsdt_aml, sizeof(dsdt_aml));
	finish(b, gpa);
	return gpa;
}

static struct gas port_gas(__u16 port)
{
	return (struct gas){
		.space = SPACE_IO, .bit_width = 8, .access = ACCESS_BYTE, .address = port,
	};
}

static __u64 build_fadt(struct builder *b, __u64 dsdt)
{
	struct fadt fadt = {
		.dsdt = (__u32)dsdt,
		.profile = PROFILE_ENTERPRISE,
		.boot_arch = FADT_BOOT_NO_VGA | FADT_BOOT_NO_ASPM | FADT_BOOT_NO_RTC,
		.flags = FADT_WBINVD | FADT_PROC_C1 | FADT_NO_PWR_BUTTON | FADT_NO_SLP_BUTTON |
			 FADT_RESET_REG | FADT_HEADLESS | FADT_HW_REDUCED,
		.reset_reg = port_gas(VIREO_PORT_RESET),
		.reset_value = VIREO_RESET_VALUE,
		.minor = 3,
		.x_dsdt = dsdt,
		.sleep_control = port_gas(VIREO_PORT_SLEEP_CTL),
		.sleep_status = port_gas(VIREO_PORT_SLEEP_STS),
		.hypervisor = "VIREO",
	};
	__u64 gpa;

	header_init(&fadt.h, "FACP", 6, sizeof(fadt));
	align(b);
	gpa = append(b, &fadt, sizeof(fadt));
	finish(b, gpa);
	return gpa;
}

static __u64 build_madt(struct builder *b, __u32 vcpus)
{
	struct madt madt = { .lapic_address = LAPIC_ADDRESS };
	struct madt_x2apic cpu = {
		.type = MADT_X2APIC, .length = sizeof(cpu), .flags = MADT_ENABLED,
	};
	struct madt_ioapic ioapic = {
		.type = MADT_IOAPIC, .length = sizeof(ioapic), .address = VIREO_IOAPIC_BASE,
	};
	__u64 gpa;
	__u32 i;

	header_init(&madt.h, "APIC", 5, sizeof(madt));
	align(b);
	gpa = append(b, &madt, sizeof(madt));
	for (i = 0; i < vcpus; i++) {
		cpu.apic_id = i;
		cpu.uid = i;
		append(b, &cpu, sizeof(cpu));
	}
	append(b, &ioapic, sizeof(ioapic));
	finish(b, gpa);
	return gpa;
}

static __u64 build_mcfg(struct builder *b, __u32 buses)
{
	struct mcfg mcfg = { .base = VIREO_PCI_ECAM, .last_bus = (__u8)(buses - 1) };
	__u64 gpa;

	header_init(&mcfg.h, "MCFG", 1, sizeof(mcfg));
	align(b);
	gpa = append(b, &mcfg, sizeof(mcfg));
	finish(b, gpa);
	return gpa;
}

static __u64 build_xsdt(struct builder *b, const __u64 *tables, size_t count)
{
	struct header h = { .length = 0 };
	__u64 gpa;

	header_init(&h, "XSDT", 1, sizeof(h) + count * sizeof(*tables));
	align(b);
	gpa = append(b, &h, sizeof(h));
	append(b, tables, count * sizeof(*tables));
	finish(b, gpa);
	return gpa;
}

/**
 * vireo_acpi_build - all tables of a machine
 * @config: the machine
 * @buf: what will be copied to VIREO_ACPI_BASE
 * @room: its bytes
 *
 * Return: bytes used; 0 if they do not fit.
 */
size_t vireo_acpi_build(const struct vireo_acpi_config *config, void *buf, size_t room)
{
	struct builder b = { .buf = buf, .room = room };
	struct rsdp rsdp = {
		.signature = { 'R', 'S', 'D', ' ', 'P', 'T', 'R', ' ' },
		.oem_id = { 'V', 'I', 'R', 'E', 'O', ' ' },
		.revision = 2,
		.length = sizeof(rsdp),
	};
	__u64 tables[3];

	append(&b, &rsdp, sizeof(rsdp));
	tables[0] = build_fadt(&b, build_dsdt(&b));
	tables[1] = build_madt(&b, config->vcpus);
	tables[2] = build_mcfg(&b, config->buses);
	rsdp.xsdt = build_xsdt(&b, tables, ARRAY_SIZE(tables));
	if (b.full)
		return 0;
	rsdp.checksum = checksum(&rsdp, 20);
	rsdp.extended_checksum = checksum(&rsdp, sizeof(rsdp));
	memcpy(b.buf, &rsdp, sizeof(rsdp));
	return b.used;
}
