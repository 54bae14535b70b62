/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR BSD-2-Clause */
/*
 * Vireo: the interface between /dev/vireo and user space.
 *
 * Three kinds of object, each an fd, each freed by its last close:
 *
 *	/dev/vireo --VIREO_CREATE_VM--> VM --VIREO_CREATE_VCPU--> vCPU
 *	                                 |---VIREO_GET_MEMORY---> memory
 *	                                 |---VIREO_FORK---> another VM
 *	                                 \---VIREO_CREATE_DISK, _NET---> disk, interface
 *	                                          \---VIREO_CREATE_QUEUE---> queue
 *
 * Every structure begins with its size, as in clone3(2): a longer structure
 * is taken if what this kernel does not know is zero (else E2BIG), a shorter
 * one if it reaches the end of its first version (else EINVAL).  Unknown flags
 * and non-zero reserved fields fail with EINVAL.  A call that fails has
 * changed nothing.
 */
#ifndef _UAPI_VIREO_H
#define _UAPI_VIREO_H

#include <linux/types.h>
#include <linux/ioctl.h>

#define VIREO_API_VERSION	1
#define VIREO_IOC		0xd7

#define VIREO_MAX_VCPUS		64		/* vCPUs of one VM */
#define VIREO_MAX_GPA		(1ULL << 47)	/* end of the guest physical space */
#define VIREO_RUN_SIZE		4096		/* bytes to mmap from a vCPU fd */

/* ---- /dev/vireo: 0x00 - 0x1f -------------------------------------------- */

/* vireo_info.features */
#define VIREO_FEAT_SVM		(1ULL << 0)	/* backend is AMD-V */
#define VIREO_FEAT_VMX		(1ULL << 1)	/* backend is VT-x */
#define VIREO_FEAT_NEXT_RIP	(1ULL << 2)	/* hardware saves the next RIP */
#define VIREO_FEAT_TSC_STABLE	(1ULL << 6)	/* host TSC is invariant */
#define VIREO_FEAT_APICV	(1ULL << 7)	/* hardware delivers interrupts, ends them */
#define VIREO_FEAT_POSTED	(1ULL << 8)	/* ... also those sent to a running vCPU */

/* vireo_info.cpuid[]: words of features, by leaf and register */
enum {
	VIREO_HOST_1_ECX, VIREO_HOST_1_EDX, VIREO_HOST_7_EBX, VIREO_HOST_7_ECX,
	VIREO_HOST_7_EDX, VIREO_HOST_D_1_EAX, VIREO_HOST_80000001_ECX,
	VIREO_HOST_80000001_EDX, VIREO_HOST_80000008_EBX, VIREO_HOST_WORDS
};

/**
 * struct vireo_info - what this host and module offer (VIREO_GET_INFO)
 * @size: bytes of this structure
 * @flags: 0
 * @api_version: VIREO_API_VERSION of the module
 * @max_vcpus: vCPUs a VM may have
 * @features: VIREO_FEAT_*
 * @max_gpa: first guest physical address beyond what memory may use
 * @tsc_khz: rate of the guest's time stamp counter, kHz
 * @max_cpuid: entries that VIREO_SET_CPUID takes at the most
 * @xsave_size: bytes of a vCPU's extended state (VIREO_GET_XSAVE)
 * @cpuid: VIREO_HOST_*: what of CPUID the host's kernel has not switched off
 * @xcr0: XCR0 bits a guest may set
 */
struct vireo_info {
	__u32 size;
	__u32 flags;
	__u32 api_version;
	__u32 max_vcpus;
	__u64 features;
	__u64 max_gpa;
	__u32 tsc_khz;
	__u32 max_cpuid;
	__u32 xsave_size;
	__u32 cpuid[VIREO_HOST_WORDS];
	__u64 xcr0;
};

/**
 * struct vireo_create_vm - (VIREO_CREATE_VM), returns the VM's fd
 * @size: bytes of this structure
 * @flags: 0
 * @max_vcpus: vCPUs that this VM may get, 1 to vireo_info.max_vcpus
 * @reserved: 0
 *
 * Errors: EBUSY another hypervisor uses the processor's extension.  (Where the
 * processor lacks it or firmware locked it, the module does not load.)
 */
struct vireo_create_vm {
	__u32 size;
	__u32 flags;
	__u32 max_vcpus;
	__u32 reserved;
};

/**
 * struct vireo_cpuid_entry - one CPUID leaf
 * @function: EAX on input
 * @index: ECX on input, where VIREO_CPUID_INDEXED is set
 * @flags: VIREO_CPUID_*
 * @eax: result
 * @ebx: result
 * @ecx: result
 * @edx: result
 * @reserved: 0
 */
struct vireo_cpuid_entry {
	__u32 function;
	__u32 index;
	__u32 flags;
	__u32 eax;
	__u32 ebx;
	__u32 ecx;
	__u32 edx;
	__u32 reserved;
};

#define VIREO_CPUID_INDEXED	(1U << 0)

/**
 * struct vireo_cpuid - what the guest's CPUID says (VIREO_SET_CPUID)
 * @size: bytes of this structure
 * @flags: 0
 * @count: entries at @entries
 * @reserved: 0
 * @entries: address of struct vireo_cpuid_entry[]
 *
 * Replaces the VM's table, which is empty at first, before there is a vCPU.  What a
 * guest is told changes nothing of what it can do.  The APIC id, OSXSAVE, OSPKE and
 * what XSAVE needs for the current XCR0 are filled in for each vCPU.
 * Errors: E2BIG more than vireo_info.max_cpuid; EINVAL functions out of range or not
 * in one place; EBUSY there is a vCPU.
 */
struct vireo_cpuid {
	__u32 size;
	__u32 flags;
	__u32 count;
	__u32 reserved;
	__aligned_u64 entries;
};

#define VIREO_GET_INFO		_IOR(VIREO_IOC, 0x00, struct vireo_info)
#define VIREO_CREATE_VM		_IOW(VIREO_IOC, 0x01, struct vireo_create_vm)

/* ---- VM: 0x20 - 0x5f ----------------------------------------------------- */

/**
 * struct vireo_create_vcpu - (VIREO_CREATE_VCPU), returns the vCPU's fd
 * @size: bytes of this structure
 * @flags: 0
 * @id: its number and x2APIC id, below max_vcpus; 0 is the boot processor
 * @reserved: 0
 *
 * Errors: EEXIST @id is taken; EINVAL @id is out of range.
 */
struct vireo_create_vcpu {
	__u32 size;
	__u32 flags;
	__u32 id;
	__u32 reserved;
};

/* vireo_memory.flags */
#define VIREO_MEMORY_FILE	(1U << 0)	/* begins as what VIREO_SET_FILE's file has there */

/**
 * struct vireo_memory - make a range of guest physical memory RAM
 * (VIREO_ADD_MEMORY)
 * @size: bytes of this structure
 * @flags: VIREO_MEMORY_FILE or 0
 * @gpa: first byte, a multiple of 4096
 * @bytes: length, a multiple of 4096, not 0
 *
 * Reads as zero, or as the file at the offset @gpa; pages come into being on first
 * touch, charged to the memory cgroup of whoever touches.  What is not RAM exits as
 * MMIO.  Errors: EINVAL misaligned, empty, wraps or reaches beyond max_gpa, no file
 * or beyond its end; EEXIST overlaps RAM; ENOMEM.
 */
struct vireo_memory {
	__u32 size;
	__u32 flags;
	__u64 gpa;
	__u64 bytes;
};

/**
 * struct vireo_get_memory - (VIREO_GET_MEMORY), returns a memory fd
 * @size: bytes of this structure
 * @flags: 0
 *
 * The fd is a sparse file whose offsets are guest physical addresses: pread,
 * pwrite, lseek; SEEK_END is the end of the highest RAM, SEEK_DATA and
 * SEEK_HOLE tell what is in being.  Reading what was never touched gives zeros and touches nothing;
 * writing to what is not RAM fails with ENXIO.
 */
struct vireo_get_memory {
	__u32 size;
	__u32 flags;
};

/**
 * struct vireo_set_file - what memory of the VM may begin as (VIREO_SET_FILE)
 * @size: bytes of this structure
 * @flags: 0
 * @fd: a regular file, open for reading, that the caller may write to
 * @reserved: 0
 *
 * VMs share the file's pages in the page cache until they write to them.  As long as
 * this VM or a fork of it lives nobody can write to the file: opening it so, or
 * truncating it, fails with ETXTBSY.
 * Errors: EBADF; EACCES; EBUSY there is a file; ETXTBSY somebody has it open for
 * writing; EINVAL not a regular file, or one of a file system without a page cache.
 */
struct vireo_set_file {
	__u32 size;
	__u32 flags;
	__s32 fd;
	__u32 reserved;
};

/**
 * struct vireo_diff - where two VMs differ, of which one is a fork of the other or
 * both of a third (VIREO_DIFF)
 * @size: bytes of this structure
 * @flags: 0
 * @fd: a memory fd of the other VM
 * @reserved: 0
 * @start: where to look from, a multiple of 4096; returns where they differ
 * @end: returns where they do so no longer, as far as was looked: go on from here
 *
 * Differs what either has written or touched since, whatever it holds.  @start equal
 * to @end says that they do not differ before it; beyond all RAM of both nothing is
 * found.  Errors: EBADF; EINVAL no other VM's memory, or it has another file.
 */
struct vireo_diff {
	__u32 size;
	__u32 flags;
	__s32 fd;
	__u32 reserved;
	__u64 start;
	__u64 end;
};

/**
 * struct vireo_clock - what the guest's clocks are made of (VIREO_SET_CLOCK)
 * @size: bytes of this structure
 * @flags: 0
 * @tsc_base: the host's TSC when the guest's, and its clock, were 0
 * @boot_sec: the time of day then, seconds since 1970
 * @boot_nsec: and nanoseconds
 * @tsc_mul: nanoseconds are ((ticks << @tsc_shift) * @tsc_mul) >> 32
 * @tsc_shift: -128 to 127; to the right if it is negative
 * @reserved: 0
 *
 * All is 0 at first: the guest's TSC is the host's, its clock stands still.
 * Errors: EBUSY there is a vCPU.
 */
struct vireo_clock {
	__u32 size;
	__u32 flags;
	__u64 tsc_base;
	__u64 boot_sec;
	__u32 boot_nsec;
	__u32 tsc_mul;
	__s32 tsc_shift;
	__u32 reserved;
};

/**
 * struct vireo_msi - a message-signalled interrupt (VIREO_INJECT_MSI)
 * @size: bytes of this structure
 * @flags: 0
 * @address: as in the device's MSI capability (Intel SDM vol. 3, 11.11.1);
 *	bits 11:5 of the address extend the destination id to 15 bits
 * @data: likewise (11.11.2); fixed, lowest-priority and NMI delivery
 * @reserved: 0
 *
 * Returns how many vCPUs took it (0: none matches).  Errors: EINVAL not an
 * MSI address, or a delivery mode not listed.
 */
struct vireo_msi {
	__u32 size;
	__u32 flags;
	__u64 address;
	__u32 data;
	__u32 reserved;
};

/* vireo_stat.counters[]: exits by reason, then other events */
enum {
	VIREO_STAT_EXIT_SLOW,		/* of all exits, those not resolved with interrupts off */
	VIREO_STAT_EXIT_USER,		/* returns to user space with an exit */
	VIREO_STAT_EXIT_INTR,		/* host interrupt or NMI */
	VIREO_STAT_EXIT_CPUID,
	VIREO_STAT_EXIT_HYPERCALL,
	VIREO_STAT_EXIT_IO,
	VIREO_STAT_EXIT_PAGE_FAULT,	/* nested page fault */
	VIREO_STAT_EXIT_MSR_READ,
	VIREO_STAT_EXIT_MSR_WRITE,
	VIREO_STAT_EXIT_HLT,
	VIREO_STAT_EXIT_WINDOW,		/* interrupt or NMI window */
	VIREO_STAT_EXIT_EXCEPTION,	/* intercepted exception */
	VIREO_STAT_EXIT_DR,		/* debug register */
	VIREO_STAT_EXIT_OTHER,		/* INTR to OTHER: each exit is one of them */
	VIREO_STAT_EXIT_MMIO,		/* of page faults, those on what is not RAM */
	VIREO_STAT_EXIT_ICR,		/* of writes of MSRs, interprocessor interrupts */
	VIREO_STAT_EXIT_EOI,		/* ... EOI */
	VIREO_STAT_EXIT_TIMER,		/* ... timer programming */
	VIREO_STAT_BLOCKED,		/* HLT that gave up the processor */
	VIREO_STAT_POLLED,		/* HLT woken while polling */
	VIREO_STAT_KICKED,		/* IPIs sent to make a vCPU exit */
	VIREO_STAT_INJECTED,		/* interrupts given to the guest */
	VIREO_STAT_TLB_FLUSH,		/* flushes of a vCPU's translations */
	VIREO_STAT_POSTED,		/* IPIs sent to give a vCPU interrupts without an exit */
	VIREO_STAT_COUNT,
	VIREO_STAT_MAX = 44
};

/**
 * struct vireo_stat - counters (VIREO_GET_STAT on a VM or on a vCPU)
 * @size: bytes of this structure
 * @flags: 0
 * @memory_bytes: RAM of the VM, bytes
 * @resident_bytes: of these, in being, bytes
 * @huge_bytes: of these, in 2 MiB pages
 * @table_bytes: nested page tables, bytes
 * @private_bytes: of @resident_bytes, what no other VM has
 * @shared_bytes: ... what others have too, or had when they split a 2 MiB page
 * @file_bytes: ... what is the page cache's
 * @reserved: 0
 * @counters: VIREO_STAT_*; a VM's are the sums over its vCPUs
 */
struct vireo_stat {
	__u32 size;
	__u32 flags;
	__u64 memory_bytes;
	__u64 resident_bytes;
	__u64 huge_bytes;
	__u64 table_bytes;
	__u64 private_bytes;
	__u64 shared_bytes;
	__u64 file_bytes;
	__u64 reserved;
	__u64 counters[VIREO_STAT_MAX];
};

/**
 * struct vireo_fork - (VIREO_FORK), returns the fd of a new VM
 * @size: bytes of this structure
 * @flags: 0
 *
 * The new VM has this one's memory, as it is when the call returns, and its
 * max_vcpus, CPUID table and clock; vCPUs and devices it has none.  From then on
 * neither sees what the other writes.  Takes the same time whatever the size.
 * vCPUs may run meanwhile, but what their registers hold is of another moment.
 * Errors: EBUSY a queue of the VM holds some of its memory; ENOMEM; and as
 * VIREO_CREATE_VM.
 */
struct vireo_fork {
	__u32 size;
	__u32 flags;
};

#define VIREO_CREATE_VCPU	_IOW(VIREO_IOC, 0x20, struct vireo_create_vcpu)
#define VIREO_ADD_MEMORY	_IOW(VIREO_IOC, 0x21, struct vireo_memory)
#define VIREO_GET_MEMORY	_IOW(VIREO_IOC, 0x22, struct vireo_get_memory)
#define VIREO_SET_CPUID		_IOW(VIREO_IOC, 0x23, struct vireo_cpuid)
#define VIREO_FORK		_IOW(VIREO_IOC, 0x24, struct vireo_fork)
#define VIREO_SET_FILE		_IOW(VIREO_IOC, 0x25, struct vireo_set_file)
#define VIREO_DIFF		_IOWR(VIREO_IOC, 0x26, struct vireo_diff)
#define VIREO_SET_CLOCK		_IOW(VIREO_IOC, 0x28, struct vireo_clock)
#define VIREO_INJECT_MSI	_IOW(VIREO_IOC, 0x30, struct vireo_msi)
#define VIREO_GET_STAT		_IOR(VIREO_IOC, 0x40, struct vireo_stat)

/* ---- vCPU: 0x60 - 0x9f --------------------------------------------------- */

/* Segment attributes, as in a descriptor's bytes 5 and 6 without the limit */
struct vireo_segment {
	__u16 selector;
	__u16 attr;		/* type 3:0, S 4, DPL 6:5, P 7, AVL 8, L 9, D/B 10, G 11 */
	__u32 limit;
	__u64 base;
};

/* vireo_regs.mp_state */
enum {
	VIREO_MP_RUNNABLE,
	VIREO_MP_HALTED,	/* in HLT, until an interrupt */
	VIREO_MP_INIT,		/* after INIT, until SIPI: RUN waits for one of them */
};

/* vireo_regs.gpr[]: in the order of their encoding */
enum {
	VIREO_RAX, VIREO_RCX, VIREO_RDX, VIREO_RBX, VIREO_RSP, VIREO_RBP,
	VIREO_RSI, VIREO_RDI, VIREO_R8, VIREO_R9, VIREO_R10, VIREO_R11,
	VIREO_R12, VIREO_R13, VIREO_R14, VIREO_R15
};

/*
 * vireo_regs.seg[]: in the order of their encoding, then the system segments, then
 * the tables, which have no selector and no attributes (both 0)
 */
enum {
	VIREO_ES, VIREO_CS, VIREO_SS, VIREO_DS, VIREO_FS, VIREO_GS,
	VIREO_LDTR, VIREO_TR, VIREO_GDTR, VIREO_IDTR, VIREO_SEGS
};

/* vireo_regs.events */
#define VIREO_EVENT_NMI		(1U << 2)	/* an NMI is pending */
#define VIREO_EVENT_NMI_MASKED	(1U << 3)	/* within an NMI handler */
#define VIREO_EVENT_SHADOW	(1U << 4)	/* interrupt shadow of STI or MOV SS */
#define VIREO_EVENTS		0x1cU

/* vireo_regs.inject: 0, or one of the first two with a vector in bits 7:0 */
#define VIREO_INJECT_EXCEPTION	0x80000300U	/* awaits injection */
#define VIREO_INJECT_INTERRUPT	0x80000000U	/* its delivery was cut short */
#define VIREO_INJECT_ERROR_CODE	0x00000800U	/* with @error_code */

/**
 * struct vireo_regs - a vCPU's registers (VIREO_GET_REGS, VIREO_SET_REGS)
 * @size: bytes of this structure
 * @flags: 0
 * @gpr: general registers, VIREO_RAX to VIREO_R15
 * @rip: instruction pointer
 * @rflags: flags; bit 1 is always set
 * @seg: VIREO_ES to VIREO_IDTR
 * @cr0: control registers; cr8 is the task priority, 0 to 15
 * @cr2: likewise
 * @cr3: likewise
 * @cr4: likewise
 * @cr8: likewise
 * @efer: IA32_EFER without SVME
 * @xcr0: XCR0
 * @dr: DR0-DR3, then DR6 and DR7
 * @mp_state: VIREO_MP_*
 * @events: VIREO_EVENT_*
 * @inject: VIREO_INJECT_*
 * @error_code: of an exception
 * @reserved: 0
 *
 * SET checks what VMRUN would check (AMD APM vol. 2, 15.5.1) and more, and
 * fails with EINVAL, nothing changed.  VT-x wants more of segments: those that
 * are present have been accessed, the TSS is busy, G agrees with the limit
 * (Intel SDM vol. 3, 27.3.1.2); else RUN ends with VIREO_EXIT_FAIL_ENTRY.
 */
struct vireo_regs {
	__u32 size;
	__u32 flags;
	__u64 gpr[16];
	__u64 rip;
	__u64 rflags;
	struct vireo_segment seg[VIREO_SEGS];
	__u64 cr0;
	__u64 cr2;
	__u64 cr3;
	__u64 cr4;
	__u64 cr8;
	__u64 efer;
	__u64 xcr0;
	__u64 dr[6];
	__u32 mp_state;
	__u32 events;
	__u32 inject;
	__u32 error_code;
	__u64 reserved[8];
};

/* vireo_run.exit_reason */
enum {
	VIREO_EXIT_NONE,		/* not run yet */
	VIREO_EXIT_INTR,		/* signal or immediate_exit; ioctl fails with EINTR */
	VIREO_EXIT_IO,			/* port I/O */
	VIREO_EXIT_MMIO,		/* access to what is not RAM */
	VIREO_EXIT_SYSTEM,		/* the guest asked for reset, power-off or crash */
	VIREO_EXIT_SHUTDOWN,		/* triple fault or other end of this guest */
	VIREO_EXIT_FAIL_ENTRY,		/* the processor refuses the guest state */
	VIREO_EXIT_INIT,		/* INIT has come: user space resets the vCPU */
	VIREO_EXIT_SIPI,		/* the SIPI has come that it waited for */
};

/* vireo_run.end.what of VIREO_EXIT_SYSTEM, from the hypercall VIREO_HC_SYSTEM */
enum {
	VIREO_SYSTEM_POWEROFF,
	VIREO_SYSTEM_RESET,
	VIREO_SYSTEM_CRASH,
};

#define VIREO_NO_REG	16U	/* vireo_run.reg */

/* ... of VIREO_EXIT_SHUTDOWN */
enum {
	VIREO_SHUTDOWN_TRIPLE_FAULT,	/* Intel SDM vol. 3, 6.15: shutdown state */
	VIREO_SHUTDOWN_FETCH,		/* the instruction cannot be read at RIP */
	VIREO_SHUTDOWN_EXIT,		/* an exit this module does not know */
};

/* vireo_run.end.info of VIREO_EXIT_FAIL_ENTRY on VT-x (Intel SDM vol. 3, table 28-7) */
#define VIREO_CHECK_PDPTE	2	/* PAE paging: an entry that CR3 points to */
#define VIREO_CHECK_NMI		3	/* an NMI to deliver, in the shadow of an instruction */

/**
 * struct vireo_run - the page shared with a vCPU's thread (mmap at offset 0)
 * @immediate_exit: user space sets 1 to make VIREO_RUN return EINTR before it
 *	enters the guest again; a signal makes it look
 * @exit_reason: VIREO_EXIT_*
 * @reg: reply to IN and MMIO: the register that changes, VIREO_RAX to VIREO_R15, or
 *	VIREO_NO_REG
 * @rip: guest RIP of the exit, for information
 * @value: reply: all of its new value.  An exit for IN or OUT has that of RAX here,
 *	VIREO_EXIT_SIPI the vector
 * @next_rip: reply: where the guest goes on; if that is the instruction's own address
 *	the guest runs it again
 * @io: VIREO_EXIT_IO: @io.port, @io.width 1, 2 or 4 bytes or 0, by a string
 *	instruction, @io.write 1 for OUT.  An IN has @reg and @next_rip set, and waits
 *	for @value
 * @mmio: VIREO_EXIT_MMIO: an instruction, which user space has to decode, accesses
 *	@mmio.gpa, or the delivery of @mmio.regs.inject does; @mmio.write 1: to write;
 *	@mmio.insn its first @mmio.insn_len bytes if the hardware gave them, else 0
 *	(they are in guest memory);
 *	@mmio.regs as VIREO_GET_REGS.  @reg is VIREO_NO_REG and @next_rip the
 *	instruction's own until user space sets them
 * @end: VIREO_EXIT_SYSTEM: @end.what VIREO_SYSTEM_*, @end.code the guest's;
 *	VIREO_EXIT_SHUTDOWN: @end.what VIREO_SHUTDOWN_*, @end.code the hardware's exit
 *	code, @end.info the address where there is one;
 *	VIREO_EXIT_FAIL_ENTRY: @end.code the hardware's code; VT-x: the VM-instruction
 *	error, a fault of the module, or the exit reason, bit 31 set, with what the
 *	processor refused, VIREO_CHECK_* among others, in @end.info
 *
 * The kernel reads the reply of an IO or MMIO exit exactly once, at the next
 * VIREO_RUN, which completes the instruction.  That fails with EINVAL, nothing done,
 * if @reg is no register or @next_rip not within 16 bytes of the first.
 */
struct vireo_run {
	__u32 immediate_exit;
	__u32 reserved0[15];
	__u32 exit_reason;
	__u32 reg;
	__u64 rip;
	__u64 value;
	__u64 next_rip;
	union {
		struct {
			__u16 port;
			__u8 width;
			__u8 write;
		} io;
		struct {
			__u64 gpa;
			__u8 write;
			__u8 insn_len;
			__u8 reserved[6];
			__u8 insn[16];
			struct vireo_regs regs;
		} mmio;
		struct {
			__u32 what;
			__u32 reserved;
			__u64 code;
			__u64 info;
		} end;
		__u8 pad[928];
	};
};

struct vireo_msr {
	__u32 index;
	__u32 reserved;
	__u64 value;
};

/**
 * struct vireo_msrs - model specific registers (VIREO_GET_MSRS, VIREO_SET_MSRS)
 * @size: bytes of this structure
 * @flags: 0
 * @count: entries at @entries, at most VIREO_MAX_MSRS
 * @reserved: 0
 * @entries: address of struct vireo_msr[]
 *
 * Returns how many entries were done: an entry that the vCPU does not have,
 * or whose value it refuses, ends the list (as with KVM).
 */
struct vireo_msrs {
	__u32 size;
	__u32 flags;
	__u32 count;
	__u32 reserved;
	__aligned_u64 entries;
};

#define VIREO_MAX_MSRS		256

/*
 * For these calls alone: the guest's TSC less the host's; and of the APIC errors since
 * ESR was written, VIREO_LAPIC_*, and ns until the timer fires, all ones if it is off.
 *
 * SET of one of the APIC's registers, IRR and ISR among them, puts back what GET gave,
 * and does nothing else.  The timer goes on as VIREO_MSR_APIC_TIMER says, in deadline
 * mode as IA32_TSC_DEADLINE does, which are written after the others and read before.
 */
#define VIREO_MSR_TSC_OFFSET	0x56490000U
#define VIREO_MSR_APIC_ERRORS	0x829U
#define VIREO_MSR_APIC_REQUESTS	0x82aU
#define VIREO_MSR_APIC_TIMER	0x82bU

/* VIREO_MSR_APIC_REQUESTS: what has come and was not acted upon; an NMI is in vireo_regs */
#define VIREO_LAPIC_INIT	(1U << 0)
#define VIREO_LAPIC_SIPI	(1U << 1)
#define VIREO_LAPIC_UNHALT	(1U << 3)	/* KVM_HC_KICK_CPU: end one HLT */
#define VIREO_LAPIC_VECTOR	8		/* shift: of the last SIPI, 8 bits */
#define VIREO_LAPIC_REQUESTS	0xff0bU

/**
 * struct vireo_xsave - extended state (VIREO_GET_XSAVE, VIREO_SET_XSAVE)
 * @size: bytes of this structure
 * @flags: 0
 * @data: address of vireo_info.xsave_size bytes in the standard, not
 *	compacted format (Intel SDM vol. 1, 13.4)
 * @bytes: vireo_info.xsave_size
 */
struct vireo_xsave {
	__u32 size;
	__u32 flags;
	__aligned_u64 data;
	__u64 bytes;
};

/*
 * RUN takes no argument and returns 0 with vireo_run.exit_reason set.  Errors:
 * EINTR (a signal, immediate_exit, or work that the kernel has for the
 * thread), EBUSY (another thread is in RUN or another call on this vCPU),
 * ENOMEM (guest memory: nothing lost, RUN may be tried again), EIO (the host
 * is going down), EINVAL (an argument, or a reply).
 *
 * GET_STAT may be called at any time; every other vCPU call fails with EBUSY
 * while a thread is in RUN.
 */
#define VIREO_RUN		_IO(VIREO_IOC, 0x60)
#define VIREO_GET_REGS		_IOR(VIREO_IOC, 0x61, struct vireo_regs)
#define VIREO_SET_REGS		_IOW(VIREO_IOC, 0x62, struct vireo_regs)
#define VIREO_GET_MSRS		_IOW(VIREO_IOC, 0x63, struct vireo_msrs)
#define VIREO_SET_MSRS		_IOW(VIREO_IOC, 0x64, struct vireo_msrs)
#define VIREO_GET_XSAVE		_IOW(VIREO_IOC, 0x65, struct vireo_xsave)
#define VIREO_SET_XSAVE		_IOW(VIREO_IOC, 0x66, struct vireo_xsave)

/* ---- Disks, network interfaces and queues: 0xa0 - 0xdf ------------------------ */

/* vireo_create_disk.flags */
#define VIREO_DISK_READONLY	(1U << 0)	/* refuse what writes */
#define VIREO_DISK_OVERLAY	(1U << 1)	/* what is written stays in memory */

/**
 * struct vireo_create_disk - let a VM's queues reach a file or block device
 * (VIREO_CREATE_DISK on a VM), returns the disk's fd
 * @size: bytes of this structure
 * @flags: VIREO_DISK_*
 * @fd: open for reading, and for writing unless READONLY; O_DIRECT where the file
 *	system has it.  Keeping other writers out is the caller's part.
 * @overlay: with OVERLAY, which excludes READONLY, a memory fd; else 0
 * @overlay_max: likewise: bytes of that memory that may come into being
 * @block: bytes that requests are multiples of: a power of two, 512 to 4096, and no
 *	less than what the device has, or direct I/O on the file needs
 * @reserved: 0
 *
 * With OVERLAY @fd need not be open for writing.  What is written comes into being
 * in the memory of @overlay instead, in units of 4096 bytes, at the gpa that is the
 * offset on the disk: RAM is needed there, and nobody else should write to it.  FORK
 * of that VM, while no queue of the disk is served, copies what was written.  Such
 * a disk has nothing to flush, and neither DISCARD nor WRITE_ZEROES; a full one
 * completes writes with VIREO_COMP_NOSPC.
 * Errors: EBADF; EACCES not open for what is needed; EINVAL neither a regular file
 * nor a block device, open for appending, @block, @overlay is no memory fd, or a flag.
 */
struct vireo_create_disk {
	__u32 size;
	__u32 flags;
	__s32 fd;
	__s32 overlay;
	__u64 overlay_max;
	__u32 block;
	__u32 reserved;
};

/**
 * struct vireo_disk - a disk's size and limits (VIREO_SET_DISK)
 * @size: bytes of this structure
 * @flags: 0
 * @sectors: units of 512 bytes that requests may reach from now on, no more than the
 *	file or device has; 0: as many.  So it is at first
 * @bytes_per_second: limit on reads and writes together, 0: none
 * @requests_per_second: likewise, of all requests; with both a request counts for the
 *	limit that it uses up more of
 */
struct vireo_disk {
	__u32 size;
	__u32 flags;
	__u64 sectors;
	__u64 bytes_per_second;
	__u64 requests_per_second;
};

/**
 * struct vireo_create_net - make a network interface of the host whose other end
 * is a VM's (VIREO_CREATE_NET on a VM), returns its fd; the interface goes with it
 * @size: bytes of this structure
 * @flags: VIREO_NET_FILTER or 0
 * @name: of the interface, in the network namespace of the caller; may hold one
 *	%d, as "vireo%d"
 * @mac: the guest's address
 * @pairs: pairs of queues, 1 to 16
 * @mtu: 68 to 65521
 *
 * The interface's own address is random.  @name is not written; VIREO_GET_NET
 * tells it.  Errors: EPERM the caller has not CAP_NET_ADMIN in its network
 * namespace; EEXIST @name is taken; EINVAL not a name, not a unicast address...
 */
struct vireo_create_net {
	__u32 size;
	__u32 flags;
	char name[16];
	__u8 mac[6];
	__u16 pairs;
	__u32 mtu;
};

#define VIREO_NET_FILTER	(1U << 0)	/* the guest gets what is for it, sends as itself */

/**
 * struct vireo_net - an interface (VIREO_GET_NET, VIREO_SET_NET)
 * @size: bytes of this structure
 * @flags: 0
 * @name: as it is called now; ignored by SET
 * @ifindex: number of the interface; ignored by SET
 * @pairs: of queues that the guest's driver uses, from the first on, which the host
 *	spreads over what it sends; with 0 it has no carrier.  SET changes it
 * @peer_up: GET: 1: the host's end is up, what the guest sees as its link
 * @mtu: GET: of the interface, which the host may have changed
 * @accepted: VIREO_NET_F_* (vireo_net.h) that the guest's driver has accepted
 */
struct vireo_net {
	__u32 size;
	__u32 flags;
	char name[16];
	__u32 ifindex;
	__u32 pairs;
	__u32 peer_up;
	__u32 mtu;
	__u64 accepted;
};

/**
 * struct vireo_create_queue - serve a ring (VIREO_CREATE_QUEUE on a disk or an
 * interface), returns the queue's fd; its last close ends the queue and returns
 * when nothing of it is in flight
 * @size: bytes of this structure
 * @flags: VIREO_QUEUE_RESUME or 0
 * @doorbell: number that rings it, unique in the VM, 0 to VIREO_MAX_QUEUES - 1
 * @index: of an interface: as the guest counts its queues (vireo_net.h); else 0
 * @ring: gpa of the ring (vireo_ring.h), a multiple of 4096
 * @entries: of the ring, a power of two, VIREO_RING_MIN to VIREO_RING_MAX
 * @start: with VIREO_QUEUE_RESUME the device's indices, else 0
 *
 * The ring's indices must be 0, unless with VIREO_QUEUE_RESUME an earlier queue
 * has left them; it completed all that it took, so they are one number.  What
 * waits in the ring is then taken without a doorbell.  Interrupts are masked until VIREO_SET_MSI.
 * Errors: EINVAL out of range, misaligned; ENXIO the ring is not all in RAM;
 * EBUSY the doorbell or the index is taken; ENOMEM.
 */
struct vireo_create_queue {
	__u32 size;
	__u32 flags;
	__u32 doorbell;
	__u32 index;
	__u64 ring;
	__u32 entries;
	__u32 start;
};

#define VIREO_QUEUE_RESUME	(1U << 0)

#define VIREO_MAX_QUEUES	256

/**
 * struct vireo_queue_msi - where a queue's interrupts go (VIREO_SET_MSI)
 * @size: bytes of this structure
 * @flags: VIREO_MSI_MASKED or 0
 * @address: as struct vireo_msi
 * @data: likewise
 * @reserved: 0
 *
 * What comes due while masked is sent when it is unmasked.  Returns 1 if
 * something is waiting (the pending bit), else 0.
 */
struct vireo_queue_msi {
	__u32 size;
	__u32 flags;
	__u64 address;
	__u32 data;
	__u32 reserved;
};

#define VIREO_MSI_MASKED	(1U << 0)

/**
 * struct vireo_queue_stat - counters (VIREO_GET_QUEUE_STAT on a queue)
 * @size: bytes of this structure
 * @flags: 0
 * @error: VIREO_RING_ERROR_*: why the queue is dead, 0: it is not
 * @in_flight: entries taken and not completed
 * @entries: taken
 * @bytes: of data in them
 * @errors: completed with a status that is not VIREO_COMP_OK
 * @doorbells: rung
 * @interrupts: sent
 * @throttled: times that a rate limit made it wait
 * @reserved: 0
 */
struct vireo_queue_stat {
	__u32 size;
	__u32 flags;
	__u32 error;
	__u32 in_flight;
	__u64 entries;
	__u64 bytes;
	__u64 errors;
	__u64 doorbells;
	__u64 interrupts;
	__u64 throttled;
	__u64 reserved[2];
};

#define VIREO_CREATE_DISK	_IOW(VIREO_IOC, 0xa0, struct vireo_create_disk)
#define VIREO_SET_DISK		_IOW(VIREO_IOC, 0xa2, struct vireo_disk)
#define VIREO_CREATE_NET	_IOW(VIREO_IOC, 0xb0, struct vireo_create_net)
#define VIREO_GET_NET		_IOR(VIREO_IOC, 0xb1, struct vireo_net)
#define VIREO_SET_NET		_IOW(VIREO_IOC, 0xb2, struct vireo_net)
#define VIREO_CREATE_QUEUE	_IOW(VIREO_IOC, 0xc0, struct vireo_create_queue)
#define VIREO_SET_MSI		_IOW(VIREO_IOC, 0xc1, struct vireo_queue_msi)
#define VIREO_GET_QUEUE_STAT	_IOR(VIREO_IOC, 0xc2, struct vireo_queue_stat)

#endif /* _UAPI_VIREO_H */
