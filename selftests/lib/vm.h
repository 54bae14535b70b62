/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Virtual machines for tests: thin wrappers of the ioctls, and guests in any
 * processor mode.
 *
 * Test programs are linked statically at fixed addresses.  vm_boot() copies
 * the program itself into guest memory at those same addresses, under identity
 * page tables, so any function that makes no system call and uses no
 * thread-local storage can run as the guest at privilege level 0: see guest.h.
 *
 * Guest physical memory of such a VM:
 *
 *	0x001000 page tables, GDT, IDT, one TSS per vCPU (VM_PML4 and so on)
 *	0x010000 code for 16 and 32-bit guests (VM_CODE)
 *	0x020000 interrupt stacks, 8 KiB per vCPU
 *	0x100000 stacks, 32 KiB per vCPU
 *	0x300000 free for tests (VM_SCRATCH), 1 MiB
 *	0x400000 this program
 *	0x800000 end of RAM, unless asked for more
 */
#ifndef SELFTESTS_VM_H
#define SELFTESTS_VM_H

#include <pthread.h>

#include <libvireo.h>
#include <vireo.h>

#include "mmio.h"
#include "types.h"

#define VM_PML4		0x1000
#define VM_PDPT		0x2000
#define VM_PD		0x3000		/* four: 4 GiB in 2 MiB pages */
#define VM_PD32		0x7000		/* 4 GiB in 4 MiB pages */
#define VM_PAE		0x8000		/* PAE pointers to VM_PD */
#define VM_GDT		0x9000
#define VM_IDT		0xa000
#define VM_TSS		0xb000		/* 0x100 bytes per vCPU */
#define VM_IDT32	0xf000
#define VM_CODE		0x10000
#define VM_CODE_SIZE	0x10000
#define VM_IST		0x20000		/* 0x2000 bytes per vCPU */
#define VM_STACK	0x100000	/* 0x8000 bytes per vCPU */
#define VM_SCRATCH	0x300000
#define VM_SCRATCH_SIZE	0x100000
#define VM_RAM		0x800000
#define VM_MMIO		0x10000000	/* identity mapped, not RAM */

/* Ports of the guest run time, see guest.h */
#define PORT_DONE	0x500		/* the value ends vcpu_run_done() */
#define PORT_FAIL	0x501		/* guest_failure says what went wrong */
#define PORT_SYNC	0x502		/* ends vcpu_run_sync() */

/* Selectors in VM_GDT */
#define SEL_CODE64	0x08
#define SEL_DATA	0x10
#define SEL_CODE32	0x18
#define SEL_CODE16	0x20
#define SEL_USER32	0x28
#define SEL_USER_DATA	0x30
#define SEL_USER64	0x38
#define SEL_TSS		0x40

#define SEG_CODE64	0xa9b
#define SEG_CODE32	0xc9b
#define SEG_CODE16	0x09b
#define SEG_DATA	0xc93
#define SEG_DATA16	0x093
#define SEG_TSS64	0x08b
#define SEG_LDT		0x082

#define X86_CR0_PE	BIT_ULL(0)
#define X86_CR0_MP	BIT_ULL(1)
#define X86_CR0_EM	BIT_ULL(2)
#define X86_CR0_TS	BIT_ULL(3)
#define X86_CR0_ET	BIT_ULL(4)
#define X86_CR0_NE	BIT_ULL(5)
#define X86_CR0_WP	BIT_ULL(16)
#define X86_CR0_AM	BIT_ULL(18)
#define X86_CR0_NW	BIT_ULL(29)
#define X86_CR0_CD	BIT_ULL(30)
#define X86_CR0_PG	BIT_ULL(31)
#define X86_CR4_DE	BIT_ULL(3)
#define X86_CR4_PSE	BIT_ULL(4)
#define X86_CR4_PAE	BIT_ULL(5)
#define X86_CR4_PGE	BIT_ULL(7)
#define X86_CR4_OSFXSR	BIT_ULL(9)
#define X86_CR4_OSXMM	BIT_ULL(10)
#define X86_CR4_FSGSBASE BIT_ULL(16)
#define X86_CR4_OSXSAVE	BIT_ULL(18)
#define X86_CR4_PKE	BIT_ULL(22)
#define X86_EFER_SCE	BIT_ULL(0)
#define X86_EFER_LME	BIT_ULL(8)
#define X86_EFER_LMA	BIT_ULL(10)
#define X86_EFER_NXE	BIT_ULL(11)
#define X86_FLAGS_TF	BIT_ULL(8)
#define X86_FLAGS_IF	BIT_ULL(9)
#define X86_FLAGS_AC	BIT_ULL(18)

struct test_vm;

struct test_vcpu {
	int fd;
	u32 id;
	struct vireo_run *run;
	struct test_vm *vm;
	pthread_t thread;
	s64 result;		/* of the thread: what vcpu_run_done() gave */
	struct vireo_mmio mmio;	/* the access of vcpu_run_mmio() */
};

struct test_vm {
	int dev;
	int fd;
	int mem;
	struct vireo_info info;
	struct test_vcpu vcpu[VIREO_MAX_VCPUS];
};

#define VCPU_STATE_MSRS	32

/* All that a vCPU holds */
struct vcpu_state {
	struct vireo_regs regs;
	struct vireo_lapic lapic;
	struct vireo_xsave xsave;
	void *data;		/* of @xsave; the caller frees it */
	u32 msrs;
	struct vireo_msr msr[VCPU_STATE_MSRS];
};

enum vm_mode {
	MODE_REAL,
	MODE_PROT16,		/* protected, 16-bit code, no paging */
	MODE_PROT32,		/* protected, no paging */
	MODE_PAGING32,		/* 4 MiB pages */
	MODE_PAE32,
	MODE_LONG,
	MODE_COMPAT32,		/* 32-bit code in long mode */
	MODE_COUNT
};

const char *vm_mode_name(enum vm_mode mode);

/* The results of these are those of the system call, or -errno */
int do_ioctl(int fd, unsigned long request, const void *arg);
s64 do_pread(int fd, void *buf, size_t len, u64 offset);
s64 do_pwrite(int fd, const void *buf, size_t len, u64 offset);
s64 do_lseek(int fd, s64 offset, int whence);

int dev_open(void);			/* skips the test if there is no /dev/vireo */
int dev_create_vm(int dev, u32 max_vcpus);
int vm_default_cpuid(int dev, int vm, u32 max_vcpus);
int vm_add_memory(int vm, u64 gpa, u64 bytes);
int vm_get_memory(int vm);
int vm_fd_fork(int vm);
int vm_create_vcpu(int vm, u32 id);
int vm_inject_msi(int vm, u64 address, u32 data);
int fd_get_stat(int fd, struct vireo_stat *stat);
int vcpu_fd_get_regs(int fd, struct vireo_regs *regs);
int vcpu_fd_set_regs(int fd, struct vireo_regs *regs);
int vcpu_fd_get_msr(int fd, u32 index, u64 *value);
int vcpu_fd_set_msr(int fd, u32 index, u64 value);

/* The rest ends the test if something does not work */
void vm_open(struct test_vm *vm, u32 max_vcpus);	/* a VM, nothing in it */
void vm_close(struct test_vm *vm);
void vm_fork(struct test_vm *vm, struct test_vm *child);	/* memory, no vCPUs */
struct test_vcpu *vm_vcpu(struct test_vm *vm, u32 id);	/* create one */
struct test_vcpu *vm_vcpu_empty(struct test_vm *vm, u32 id);	/* its state is yet to be set */
void vm_write(struct test_vm *vm, u64 gpa, const void *buf, size_t len);
void vm_read(struct test_vm *vm, u64 gpa, void *buf, size_t len);
void vm_load_tables(struct test_vm *vm);
void vm_load_program(struct test_vm *vm);

/* RAM, tables, this program and @vcpus vCPUs */
void vm_boot(struct test_vm *vm, u32 vcpus, u64 ram);

/* A variable of this program as the guest sees it, and as it sees it */
#define VM_GET(vm, var) ({						\
	__typeof__(var) value_;						\
	vm_read(vm, (uintptr_t)&(var), &value_, sizeof(value_));	\
	value_;								\
})
#define VM_SET(vm, var, val) do {					\
	__typeof__(var) value_ = (val);					\
	vm_write(vm, (uintptr_t)&(var), &value_, sizeof(value_));	\
} while (0)

/* The state of a vCPU, whose exit that waits for RUN is completed, and of another */
void vcpu_save(struct test_vcpu *from, struct vcpu_state *state);
void vcpu_restore(struct test_vcpu *to, struct vcpu_state *state);

/* A vCPU like that one in @vm, its VM's child; an exit that waits for RUN is completed */
struct test_vcpu *vcpu_clone(struct test_vcpu *from, struct test_vm *vm);

void vcpu_get_regs(struct test_vcpu *vcpu, struct vireo_regs *regs);
void vcpu_set_regs(struct test_vcpu *vcpu, struct vireo_regs *regs);
u64 vcpu_stat(struct test_vcpu *vcpu, unsigned int counter);

/* Registers to begin at @rip in @mode; the caller may change them further */
void vcpu_mode_regs(struct test_vcpu *vcpu, enum vm_mode mode, u64 rip,
		    struct vireo_regs *regs);

/* Begin in C, in long mode, with one argument; return ends the guest */
void vcpu_set_entry(struct test_vcpu *vcpu, void (*fn)(u64), u64 arg);

/* Begin @len bytes of machine code in @mode at VM_CODE */
void vcpu_set_code(struct test_vcpu *vcpu, enum vm_mode mode, const void *code,
		   size_t len);

/* One VIREO_RUN: 0 or -errno; INIT and SIPI are taken */
int vcpu_run(struct test_vcpu *vcpu);

/* Run up to an exit of this reason, else the test ends */
void vcpu_run_exit(struct test_vcpu *vcpu, u32 reason);

/* Run up to an access to what is not RAM; what it reads, which ends it */
const struct vireo_mmio *vcpu_run_mmio(struct test_vcpu *vcpu);
void vcpu_mmio_reply(struct test_vcpu *vcpu, u64 data);

/* Run up to the guest's end or, the latter, to its next guest_sync() */
u32 vcpu_run_done(struct test_vcpu *vcpu);
u32 vcpu_run_sync(struct test_vcpu *vcpu);

/* vcpu_run_done() in a thread of its own */
void vcpu_start(struct test_vcpu *vcpu);
u32 vcpu_join(struct test_vcpu *vcpu);

/* Interrupt the thread's VIREO_RUN by a signal without effect of its own */
void vcpu_signal(struct test_vcpu *vcpu);
void signal_install(void);

/* Print the last exit and the registers as TAP comments */
void vcpu_dump(struct test_vcpu *vcpu);

#endif /* SELFTESTS_VM_H */
