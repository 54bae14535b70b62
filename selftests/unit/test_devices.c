// SPDX-License-Identifier: GPL-2.0
/* The tool's models: serial port, ACPI tables, bus. */
#include <errno.h>
#include <linux/serial_reg.h>
#include <string.h>

#include "harness.h"

#include "libvireo.h"

/* ---- Serial port -------------------------------------------------------------------- */

static struct {
	u8 bytes[64];
	unsigned int count;
	bool busy;
	unsigned int interrupts;
} line;

static bool line_ready(void *ctx)
{
	(void)ctx;
	return !line.busy;
}

static bool line_transmit(void *ctx, __u8 byte)
{
	if (!line_ready(ctx) || line.count == sizeof(line.bytes))
		return false;
	line.bytes[line.count++] = byte;
	return true;
}

static void line_interrupt(void *ctx)
{
	(void)ctx;
	line.interrupts++;
}

static struct vireo_uart *fresh(void)
{
	static struct vireo_uart uart;

	memset(&line, 0, sizeof(line));
	uart.transmit = line_transmit;
	uart.ready = line_ready;
	uart.interrupt = line_interrupt;
	vireo_uart_init(&uart);
	return &uart;
}

/* What autoconfig() of Linux's 8250 driver does to tell a 16550A */
TEST(uart_is_a_16550a)
{
	struct vireo_uart *u = fresh();

	vireo_uart_out(u, UART_IER, 0);
	EXPECT_EQ(vireo_uart_in(u, UART_IER) & 0x0f, 0);
	vireo_uart_out(u, UART_IER, 0x0f);
	EXPECT_EQ(vireo_uart_in(u, UART_IER), 0x0f);
	vireo_uart_out(u, UART_IER, 0xff);
	EXPECT_EQ(vireo_uart_in(u, UART_IER), 0x0f);
	vireo_uart_out(u, UART_IER, 0);

	vireo_uart_out(u, UART_MCR, UART_MCR_LOOP | 0x0a);
	EXPECT_EQ(vireo_uart_in(u, UART_MSR) & 0xf0, 0x90);
	vireo_uart_out(u, UART_MCR, 0);

	vireo_uart_out(u, UART_LCR, UART_LCR_CONF_MODE_B);
	vireo_uart_out(u, UART_EFR, 0);
	vireo_uart_out(u, UART_LCR, 0);
	vireo_uart_out(u, UART_FCR, UART_FCR_ENABLE_FIFO);
	EXPECT_EQ(vireo_uart_in(u, UART_IIR) >> 6, 3);
	vireo_uart_out(u, UART_SCR, 0x5a);
	EXPECT_EQ(vireo_uart_in(u, UART_SCR), 0x5a);
	EXPECT_EQ(line.count, 0);
}

TEST(uart_sends)
{
	struct vireo_uart *u = fresh();

	EXPECT_EQ(vireo_uart_in(u, UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	vireo_uart_out(u, UART_TX, 'a');
	vireo_uart_out(u, UART_TX, 'b');
	ASSERT_EQ(line.count, 2);
	EXPECT_EQ(memcmp(line.bytes, "ab", 2), 0);
	line.busy = true;
	EXPECT_EQ(vireo_uart_in(u, UART_LSR), 0);
	vireo_uart_out(u, UART_IER, UART_IER_THRI);
	EXPECT_EQ(vireo_uart_in(u, UART_IIR), UART_IIR_NO_INT);
	line.busy = false;
	EXPECT_EQ(vireo_uart_in(u, UART_IIR), UART_IIR_THRI);
}

/* An edge for each reason that there was none of before, and none where nobody asked. */
TEST(uart_interrupts)
{
	struct vireo_uart *u = fresh();

	vireo_uart_receive(u, "a", 1);
	vireo_uart_out(u, UART_TX, 'b');
	vireo_uart_break(u);
	EXPECT_EQ(line.interrupts, 0);
	vireo_uart_out(u, UART_IER, UART_IER_RDI);
	EXPECT_EQ(line.interrupts, 1);
	vireo_uart_receive(u, "c", 1);
	EXPECT_EQ(line.interrupts, 1);		/* high already */
	while (vireo_uart_in(u, UART_LSR) & UART_LSR_DR)
		vireo_uart_in(u, UART_RX);
	vireo_uart_receive(u, "d", 1);
	EXPECT_EQ(line.interrupts, 2);
	vireo_uart_in(u, UART_RX);

	/* One when it is asked for, and one for what is sent after that was seen */
	vireo_uart_out(u, UART_IER, UART_IER_THRI);
	EXPECT_EQ(line.interrupts, 3);
	EXPECT_EQ(vireo_uart_in(u, UART_IIR), UART_IIR_THRI);
	EXPECT_EQ(vireo_uart_in(u, UART_IIR), UART_IIR_NO_INT);
	vireo_uart_out(u, UART_TX, 'e');
	vireo_uart_out(u, UART_TX, 'f');
	EXPECT_EQ(line.interrupts, 4);
	EXPECT_EQ(vireo_uart_in(u, UART_IIR), UART_IIR_THRI);

	/* The other side does not read: not before it does */
	line.busy = true;
	vireo_uart_out(u, UART_TX, 'g');
	vireo_uart_drained(u);
	EXPECT_EQ(line.interrupts, 4);
	line.busy = false;
	vireo_uart_drained(u);
	EXPECT_EQ(line.interrupts, 5);

	/* Nor in a loop, nor without OUT2 */
	EXPECT_EQ(vireo_uart_in(u, UART_IIR), UART_IIR_THRI);
	vireo_uart_out(u, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2);
	vireo_uart_out(u, UART_TX, 'h');
	vireo_uart_out(u, UART_MCR, 0);
	vireo_uart_out(u, UART_TX, 'i');
	EXPECT_EQ(line.interrupts, 5);
	vireo_uart_out(u, UART_MCR, UART_MCR_OUT2);
	EXPECT_EQ(line.interrupts, 6);
}

/* The divisor latch hides the data register. */
TEST(uart_divisor)
{
	struct vireo_uart *u = fresh();

	vireo_uart_out(u, UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
	vireo_uart_out(u, UART_DLL, 12);
	vireo_uart_out(u, UART_DLM, 3);
	EXPECT_EQ(vireo_uart_in(u, UART_DLL), 12);
	EXPECT_EQ(vireo_uart_in(u, UART_DLM), 3);
	vireo_uart_out(u, UART_LCR, UART_LCR_WLEN8);
	EXPECT_EQ(vireo_uart_in(u, UART_IER), 0);
	EXPECT_EQ(vireo_uart_in(u, UART_LCR), UART_LCR_WLEN8);
	EXPECT_EQ(line.count, 0);
}

TEST(uart_receives)
{
	struct vireo_uart *u = fresh();
	static u8 many[2 * VIREO_UART_BACKLOG];
	unsigned int i;

	EXPECT_EQ(vireo_uart_in(u, UART_RX), 0);
	EXPECT_EQ(vireo_uart_receive(u, "xy", 2), 2);
	vireo_uart_out(u, UART_IER, UART_IER_RDI);
	EXPECT_EQ(vireo_uart_in(u, UART_IIR), UART_IIR_RDI);
	EXPECT_TRUE(vireo_uart_in(u, UART_LSR) & UART_LSR_DR);
	EXPECT_EQ(vireo_uart_in(u, UART_RX), 'x');
	EXPECT_EQ(vireo_uart_in(u, UART_RX), 'y');
	EXPECT_TRUE(!(vireo_uart_in(u, UART_LSR) & UART_LSR_DR));
	EXPECT_EQ(vireo_uart_in(u, UART_IIR), UART_IIR_NO_INT);

	for (i = 0; i < sizeof(many); i++)
		many[i] = (u8)(i / 7);
	EXPECT_EQ(vireo_uart_receive(u, many, sizeof(many)), VIREO_UART_BACKLOG);
	EXPECT_EQ(vireo_uart_room(u), 0);
	for (i = 0; i < VIREO_UART_BACKLOG; i++)
		ASSERT_EQ(vireo_uart_in(u, UART_RX), many[i]);
	EXPECT_EQ(vireo_uart_room(u), VIREO_UART_BACKLOG);
}

/* What was typed before the guest's driver starts is not lost. */
TEST(uart_keeps_early_input)
{
	struct vireo_uart *u = fresh();

	vireo_uart_receive(u, "early", 5);
	vireo_uart_out(u, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	EXPECT_EQ(vireo_uart_in(u, UART_RX), 'e');
}

TEST(uart_loopback)
{
	struct vireo_uart *u = fresh();

	vireo_uart_out(u, UART_MCR, UART_MCR_LOOP);
	vireo_uart_out(u, UART_TX, 0xae);
	EXPECT_EQ(line.count, 0);
	EXPECT_EQ(vireo_uart_in(u, UART_RX), 0xae);
}

TEST(uart_break)
{
	struct vireo_uart *u = fresh();

	vireo_uart_break(u);
	EXPECT_EQ(vireo_uart_in(u, UART_LSR) & (UART_LSR_BI | UART_LSR_DR),
		  UART_LSR_BI | UART_LSR_DR);
	EXPECT_EQ(vireo_uart_in(u, UART_RX), 0);
	EXPECT_EQ(vireo_uart_in(u, UART_LSR) & (UART_LSR_BI | UART_LSR_DR), 0);
}

TEST(uart_any_access)
{
	struct vireo_uart *u = fresh();
	u64 seed = 1;
	unsigned int i;

	for (i = 0; i < 1000000; i++) {
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		line.busy = seed >> 60 & 1;
		if (seed >> 61 & 1)
			vireo_uart_out(u, seed >> 40 & 15, (u8)(seed >> 48));
		else
			vireo_uart_in(u, seed >> 40 & 15);
		ASSERT_TRUE(vireo_uart_room(u) <= VIREO_UART_BACKLOG);
	}
}

/* ---- ACPI --------------------------------------------------------------------------- */

static u8 sum(const u8 *p, size_t len)
{
	u8 s = 0;

	while (len--)
		s += *p++;
	return s;
}

static u32 le32(const u8 *p)
{
	u32 v;

	memcpy(&v, p, 4);
	return v;
}

static u64 le64(const u8 *p)
{
	u64 v;

	memcpy(&v, p, 8);
	return v;
}

/* The table at @gpa, checked */
static const u8 *table(const u8 *buf, size_t len, u64 gpa, const char *signature)
{
	const u8 *t = buf + (gpa - VIREO_ACPI_BASE);

	ASSERT_TRUE(gpa >= VIREO_ACPI_BASE && gpa + 36 <= VIREO_ACPI_BASE + len);
	ASSERT_TRUE(gpa - VIREO_ACPI_BASE + le32(t + 4) <= len);
	EXPECT_EQ(gpa % 16, 0);
	EXPECT_THAT(!memcmp(t, signature, 4), "%.4s, not %s", t, signature);
	EXPECT_THAT(!sum(t, le32(t + 4)), "checksum of %s", signature);
	return t;
}

TEST(acpi_tables)
{
	static u8 buf[8192] __aligned(16);
	const u8 *xsdt, *fadt, *madt, *mcfg;
	u32 vcpus, i;
	size_t len;

	for (vcpus = 1; vcpus <= VIREO_MAX_VCPUS; vcpus++) {
		struct vireo_acpi_config config = { .vcpus = vcpus, .buses = 1 + vcpus % 32 };

		len = vireo_acpi_build(&config, buf, sizeof(buf));
		ASSERT_NE(len, 0);
		EXPECT_EQ(memcmp(buf, "RSD PTR ", 8), 0);
		EXPECT_EQ(sum(buf, 20), 0);
		EXPECT_EQ(sum(buf, 36), 0);
		xsdt = table(buf, len, le64(buf + 24), "XSDT");
		ASSERT_EQ(le32(xsdt + 4), 36 + 3 * 8);
		fadt = table(buf, len, le64(xsdt + 36), "FACP");
		EXPECT_TRUE(le32(fadt + 112) & (1 << 20));	/* HW_REDUCED_ACPI */
		table(buf, len, le64(fadt + 140), "DSDT");
		madt = table(buf, len, le64(xsdt + 44), "APIC");
		mcfg = table(buf, len, le64(xsdt + 52), "MCFG");
		ASSERT_EQ(le32(mcfg + 4), 60);
		EXPECT_EQ(le64(mcfg + 44), VIREO_PCI_ECAM);
		EXPECT_EQ(mcfg[55], config.buses - 1);
		ASSERT_EQ(le32(madt + 4), 44 + 16 * vcpus + 12);
		EXPECT_EQ(madt[44 + 16 * vcpus], 1);
		EXPECT_EQ(le32(madt + 44 + 16 * vcpus + 4), VIREO_IOAPIC_BASE);
		for (i = 0; i < vcpus; i++) {
			EXPECT_EQ(madt[44 + 16 * i], 9);
			EXPECT_EQ(le32(madt + 44 + 16 * i + 4), i);
			EXPECT_EQ(le32(madt + 44 + 16 * i + 8), 1);
		}
	}
}

/* ---- I/O APIC ---------------------------------------------------------------- */

static void io_write(struct vireo_bus *bus, u32 reg, u32 value)
{
	vireo_bus_write(bus, NULL, VIREO_IOAPIC_BASE, 4, reg);
	vireo_bus_write(bus, NULL, VIREO_IOAPIC_BASE + 0x10, 4, value);
}

static u32 io_read(struct vireo_bus *bus, u32 reg)
{
	vireo_bus_write(bus, NULL, VIREO_IOAPIC_BASE, 4, reg);
	return vireo_bus_read(bus, NULL, VIREO_IOAPIC_BASE + 0x10, 4);
}

TEST(ioapic)
{
	static struct vireo_bus bus;
	struct vireo_ioapic io;
	struct vireo_msi msi;
	u32 i;

	ASSERT_EQ(vireo_ioapic_init(&io, &bus), 0);
	EXPECT_EQ(io_read(&bus, 1), 0xf0011);
	for (i = 0; i < VIREO_IOAPIC_PINS; i++) {
		EXPECT_EQ(io_read(&bus, 0x10 + 2 * i), 0x10000);
		EXPECT_FALSE(vireo_ioapic_raise(&io, i, &msi));
	}
	/* What can be written, and what cannot */
	for (i = 0; i < 0x100; i++)
		io_write(&bus, i, ~0U);
	EXPECT_EQ(io_read(&bus, 0), 0x0f000000);
	EXPECT_EQ(io_read(&bus, 1), 0xf0011);
	EXPECT_EQ(io_read(&bus, 2), 0);
	EXPECT_EQ(io_read(&bus, 0x10), 0x1afff);
	EXPECT_EQ(io_read(&bus, 0x2f), 0xff000000);
	EXPECT_EQ(io_read(&bus, 0x30), 0);
	vireo_bus_write(&bus, NULL, VIREO_IOAPIC_BASE, 4, 0x10);
	vireo_bus_write(&bus, NULL, VIREO_IOAPIC_BASE + 0x10, 1, 0);
	vireo_bus_write(&bus, NULL, VIREO_IOAPIC_BASE + 0x14, 4, 0);
	vireo_bus_write(&bus, NULL, VIREO_IOAPIC_BASE + 0x10, 8, 0);
	EXPECT_EQ(io_read(&bus, 0x10), 0x1afff);
	/* To the processor of APIC id 3, lowest priority, vector 0x41, by an edge */
	io_write(&bus, 0x12, 0x8141);
	io_write(&bus, 0x13, 0x03000000);
	EXPECT_TRUE(vireo_ioapic_raise(&io, 1, &msi));
	EXPECT_EQ(msi.address, 0xfee03000);
	EXPECT_EQ(msi.data, 0x141);
	io_write(&bus, 0x12, 0x0842);
	EXPECT_TRUE(vireo_ioapic_raise(&io, 1, &msi));
	EXPECT_EQ(msi.address, 0xfee03004);
	EXPECT_EQ(msi.data, 0x42);
	io_write(&bus, 0x12, 0x10842);
	EXPECT_FALSE(vireo_ioapic_raise(&io, 1, &msi));
}

TEST(acpi_no_room)
{
	struct vireo_acpi_config config = { .vcpus = 4, .buses = 1 };
	static u8 buf[8192] __aligned(16);
	size_t need = vireo_acpi_build(&config, buf, sizeof(buf)), room;

	for (room = 0; room < need; room++) {
		u8 *exact = malloc(room ? room : 1);

		EXPECT_EQ(vireo_acpi_build(&config, exact, room), 0);
		free(exact);
	}
	EXPECT_EQ(vireo_acpi_build(&config, buf, need), need);
}

/* ---- Bus ---------------------------------------------------------------------------- */

static u64 last_offset, last_value;

static u64 bus_read(void *ctx, struct vireo_vcpu *vcpu, u64 offset, unsigned int width)
{
	(void)ctx;
	(void)vcpu;
	(void)width;
	return offset + 0x10;
}

static void bus_write(void *ctx, struct vireo_vcpu *vcpu, u64 offset, unsigned int width, u64 value)
{
	(void)ctx;
	(void)vcpu;
	(void)width;
	last_offset = offset;
	last_value = value;
}

TEST(bus)
{
	static struct vireo_bus b;
	struct vireo_device d = { .base = 0x600, .len = 3, .read = bus_read, .write = bus_write };

	EXPECT_EQ(vireo_bus_add(&b, &d), 0);
	EXPECT_EQ(vireo_bus_add(&b, &d), -EEXIST);
	d.base = 0x602;
	EXPECT_EQ(vireo_bus_add(&b, &d), -EEXIST);
	d.base = 0x603;
	EXPECT_EQ(vireo_bus_add(&b, &d), 0);
	d.len = 0;
	EXPECT_EQ(vireo_bus_add(&b, &d), -EINVAL);
	d.base = ~0ULL;
	d.len = 2;
	EXPECT_EQ(vireo_bus_add(&b, &d), -EINVAL);

	EXPECT_EQ(vireo_bus_read(&b, NULL, 0x602, 1), 0x12);
	EXPECT_EQ(vireo_bus_read(&b, NULL, 0x5ff, 1), 0xff);
	EXPECT_EQ(vireo_bus_read(&b, NULL, 0x606, 2), 0xffff);
	EXPECT_EQ(vireo_bus_read(&b, NULL, 0x606, 4), 0xffffffff);
	EXPECT_EQ(vireo_bus_read(&b, NULL, ~0ULL, 8), -1);
	vireo_bus_write(&b, NULL, 0x604, 1, 42);
	EXPECT_EQ(last_offset, 1);
	EXPECT_EQ(last_value, 42);
	vireo_bus_write(&b, NULL, 0x606, 1, 43);
	EXPECT_EQ(last_value, 42);
}

TEST_MAIN()
