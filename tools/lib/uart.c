// SPDX-License-Identifier: GPL-2.0
/*
 * A 16550A, with an edge-triggered interrupt line.
 *
 * Sending takes no time, so the transmitter is empty whenever whoever takes the
 * bytes can take one more.  Received bytes wait in a backlog that is larger
 * than the chip's FIFO, so that nothing typed is lost.  Register names and
 * bits: linux/serial_reg.h; behaviour: National's PC16550D data sheet.
 */
#include <linux/serial_reg.h>
#include <string.h>

#include "libvireo.h"

#define MASK	(VIREO_UART_BACKLOG - 1)

/**
 * vireo_uart_init - state after power-on
 * @uart: whose transmit, ready, interrupt and ctx are set
 */
void vireo_uart_init(struct vireo_uart *uart)
{
	struct vireo_uart fresh = {
		.transmit = uart->transmit,
		.ready = uart->ready,
		.interrupt = uart->interrupt,
		.ctx = uart->ctx,
		.mcr = UART_MCR_OUT2,
		.divisor = { 1, 0 },	/* 115,200 baud, not that it matters */
		.thr_event = true,
	};

	*uart = fresh;
}

static unsigned int waiting(const struct vireo_uart *uart)
{
	return uart->head - uart->tail;
}

static bool transmitter_empty(const struct vireo_uart *uart)
{
	return (uart->mcr & UART_MCR_LOOP) || !uart->ready || uart->ready(uart->ctx);
}

/* The most urgent reason for an interrupt */
static __u8 reason(const struct vireo_uart *uart)
{
	if ((uart->ier & UART_IER_RLSI) && uart->lsr_error)
		return UART_IIR_RLSI;
	if ((uart->ier & UART_IER_RDI) && waiting(uart))
		return UART_IIR_RDI;
	if ((uart->ier & UART_IER_THRI) && uart->thr_event && transmitter_empty(uart))
		return UART_IIR_THRI;
	return UART_IIR_NO_INT;
}

/* OUT2 connects the line, in a PC; in a loop it is not. */
static bool line_is_high(const struct vireo_uart *uart)
{
	return (uart->mcr & (UART_MCR_OUT2 | UART_MCR_LOOP)) == UART_MCR_OUT2 &&
	       reason(uart) != UART_IIR_NO_INT;
}

/* What was just done has raised the line, perhaps: it was @high before. */
static void line_update(struct vireo_uart *uart, bool high)
{
	if (!high && uart->interrupt && line_is_high(uart))
		uart->interrupt(uart->ctx);
}

/** vireo_uart_drained - transmit would take bytes again */
void vireo_uart_drained(struct vireo_uart *uart)
{
	line_update(uart, false);
}

/** vireo_uart_room - bytes that vireo_uart_receive() would take now */
size_t vireo_uart_room(const struct vireo_uart *uart)
{
	return VIREO_UART_BACKLOG - waiting(uart);
}

/**
 * vireo_uart_receive - input for the guest
 * @uart: the chip
 * @data: bytes
 * @len: how many
 *
 * Return: how many were taken; the rest may be offered again.
 */
size_t vireo_uart_receive(struct vireo_uart *uart, const void *data, size_t len)
{
	bool high = line_is_high(uart);
	const __u8 *p = data;
	size_t n;

	for (n = 0; n < len && waiting(uart) < VIREO_UART_BACKLOG; n++)
		uart->backlog[uart->head++ & MASK] = p[n];
	line_update(uart, high);
	return n;
}

/** vireo_uart_break - let the guest see a BREAK (Linux: magic SysRq) */
void vireo_uart_break(struct vireo_uart *uart)
{
	bool high = line_is_high(uart);

	if (waiting(uart) == VIREO_UART_BACKLOG)
		return;
	uart->lsr_error |= UART_LSR_BI;
	uart->backlog[uart->head++ & MASK] = 0;
	line_update(uart, high);
}

static void transmit(struct vireo_uart *uart, __u8 byte)
{
	if (uart->mcr & UART_MCR_LOOP)
		vireo_uart_receive(uart, &byte, 1);
	else if (uart->transmit)
		uart->transmit(uart->ctx, byte);
	uart->thr_event = true;
}

static __u8 receive(struct vireo_uart *uart)
{
	return waiting(uart) ? uart->backlog[uart->tail++ & MASK] : 0;
}

static __u8 line_status(struct vireo_uart *uart)
{
	__u8 lsr = uart->lsr_error;

	uart->lsr_error = 0;
	if (waiting(uart))
		lsr |= UART_LSR_DR;
	if (transmitter_empty(uart))
		lsr |= UART_LSR_THRE | UART_LSR_TEMT;
	return lsr;
}

static __u8 modem_status(const struct vireo_uart *uart)
{
	__u8 msr = 0;

	if (!(uart->mcr & UART_MCR_LOOP))
		return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
	if (uart->mcr & UART_MCR_RTS)
		msr |= UART_MSR_CTS;
	if (uart->mcr & UART_MCR_DTR)
		msr |= UART_MSR_DSR;
	if (uart->mcr & UART_MCR_OUT1)
		msr |= UART_MSR_RI;
	if (uart->mcr & UART_MCR_OUT2)
		msr |= UART_MSR_DCD;
	return msr;
}

/* Reading reports an empty transmitter once. */
static __u8 interrupt_id(struct vireo_uart *uart)
{
	__u8 fifo = uart->fcr & UART_FCR_ENABLE_FIFO ? 0xc0 : 0, id = reason(uart);

	if (id == UART_IIR_THRI)
		uart->thr_event = false;
	return fifo | id;
}

/**
 * vireo_uart_in - the guest reads a register
 * @uart: the chip
 * @reg: 0 to 7
 *
 * Return: its value.
 */
__u8 vireo_uart_in(struct vireo_uart *uart, unsigned int reg)
{
	bool dlab = uart->lcr & UART_LCR_DLAB;

	switch (reg) {
	case UART_RX:
		return dlab ? uart->divisor[0] : receive(uart);
	case UART_IER:
		return dlab ? uart->divisor[1] : uart->ier;
	case UART_IIR:
		return interrupt_id(uart);
	case UART_LCR:
		return uart->lcr;
	case UART_MCR:
		return uart->mcr;
	case UART_LSR:
		return line_status(uart);
	case UART_MSR:
		return modem_status(uart);
	case UART_SCR:
		return uart->scratch;
	default:
		return 0xff;
	}
}

static void set_ier(struct vireo_uart *uart, __u8 value)
{
	value &= UART_IER_MSI | UART_IER_RLSI | UART_IER_THRI | UART_IER_RDI;
	if (value & ~uart->ier & UART_IER_THRI)
		uart->thr_event = true;
	uart->ier = value;
}

/*
 * Clearing the receiver's FIFO drops what a guest's kernel leaves behind in
 * its self-tests; it must not drop what the user typed before the guest was
 * ready, or a script's input from a pipe.  So only looped-back bytes go.
 */
static void set_fcr(struct vireo_uart *uart, __u8 value)
{
	if ((value & UART_FCR_CLEAR_RCVR) && (uart->mcr & UART_MCR_LOOP))
		uart->tail = uart->head;
	uart->fcr = value & (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK);
}

/**
 * vireo_uart_out - the guest writes a register
 * @uart: the chip
 * @reg: 0 to 7
 * @value: what
 */
void vireo_uart_out(struct vireo_uart *uart, unsigned int reg, __u8 value)
{
	bool dlab = uart->lcr & UART_LCR_DLAB, high = line_is_high(uart);

	switch (reg) {
	case UART_TX:
		if (dlab)
			uart->divisor[0] = value;
		else
			transmit(uart, value);
		break;
	case UART_IER:
		if (dlab)
			uart->divisor[1] = value;
		else
			set_ier(uart, value);
		break;
	case UART_FCR:
		set_fcr(uart, value);
		break;
	case UART_LCR:
		uart->lcr = value;
		break;
	case UART_MCR:
		uart->mcr = value & 0x1f;
		break;
	case UART_SCR:
		uart->scratch = value;
		break;
	default:
		break;	/* line and modem status are read-only */
	}
	line_update(uart, high);
}
