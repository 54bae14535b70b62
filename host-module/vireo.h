/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Vireo: objects, the backend's contract, and prototypes grouped by file.
 *
 * What protects a field is the letter in front of its comment:
 *	(i) set before the object can be reached, then constant
 *	(v) the vCPU's mutex: its thread in VIREO_RUN, or another call on its fd
 *	(l) vm->lock
 *	(m) mem->lock
 *	(a) atomic, or one word written by one side; ordering said there
 *	(t) of a queue, whoever takes entries: kick_lock, or the backend's own rule
 *	(c) comp_lock
 */
#ifndef VIREO_H
#define VIREO_H

#include <linux/anon_inodes.h>
#include <linux/atomic.h>
#include <linux/bvec.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/kref.h>
#include <linux/kvm_para.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/nospec.h>
#include <linux/percpu.h>
#include <linux/rcuwait.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/static_call.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>
#include <asm/cpufeature.h>
#include <asm/fpu/types.h>
#include <asm/trapnr.h>
#include <asm/tsc.h>

#include "../uapi/vireo.h"
#include "../uapi/vireo_hypercall.h"
#include "../uapi/vireo_ring.h"
#include "tree.h"

struct iov_iter;
struct vireo_queue;
struct vireo_vm;
struct vireo_vcpu;

/* An ioctl, see vireo_call().  Of an _IOR() the function gets a cleared structure. */
struct vireo_call {
	unsigned int cmd;
	long (*fn)(void *object, unsigned int cmd, void *arg);
	u32 flags;		/* those it knows */
};

/* The file operations of an fd: @end gets what it stands for when it is closed. */
#define DEFINE_VIREO_FILE(name, end, ...)						\
static int name##_release(struct inode *inode, struct file *file)			\
{											\
	end(file->private_data);							\
	return 0;									\
}											\
											\
static const struct file_operations name##_fops = {					\
	.owner = THIS_MODULE, .release = name##_release, __VA_ARGS__			\
}

/* Of one with ioctls: @name_calls are made with @object, of @file. */
#define DEFINE_VIREO_FD(name, object, end)						\
static long name##_ioctl(struct file *file, unsigned int cmd, unsigned long arg)	\
{											\
	return vireo_call(name##_calls, object, cmd, (void __user *)arg);		\
}											\
											\
DEFINE_VIREO_FILE(name, end, .unlocked_ioctl = name##_ioctl, .compat_ioctl = compat_ptr_ioctl)

/* ---- Why the guest stopped: what a backend makes of a hardware exit ------- */

enum vireo_exit {		/* to VEXIT_RESUME each with its counter */
	VEXIT_INTR = VIREO_STAT_EXIT_INTR,	/* exit.handler, or waits in the APIC; or NMI */
	VEXIT_CPUID = VIREO_STAT_EXIT_CPUID,
	VEXIT_HYPERCALL = VIREO_STAT_EXIT_HYPERCALL,
	VEXIT_IO = VIREO_STAT_EXIT_IO,	/* exit.port, .width (0: a string's), .write */
	/* exit.gpa, .write, .fetch, .insn if the hardware has it; maybe it is MMIO */
	VEXIT_FAULT = VIREO_STAT_EXIT_PAGE_FAULT,
	VEXIT_RDMSR = VIREO_STAT_EXIT_MSR_READ,
	VEXIT_WRMSR = VIREO_STAT_EXIT_MSR_WRITE,
	VEXIT_HLT = VIREO_STAT_EXIT_HLT,
	VEXIT_WINDOW = VIREO_STAT_EXIT_WINDOW,	/* the guest takes interrupts or NMIs again */
	VEXIT_EXCEPTION = VIREO_STAT_EXIT_EXCEPTION,	/* reflect v->exit.event */
	VEXIT_DR = VIREO_STAT_EXIT_DR,	/* debug registers were given to the guest; go on */
	VEXIT_RESUME = VIREO_STAT_EXIT_OTHER,	/* the backend has dealt with it */
	VEXIT_XSETBV,
	VEXIT_MC,		/* a machine check, which is the host's */
	VEXIT_SKIP,		/* an instruction without effect: step over it */
	VEXIT_UD,		/* an instruction this guest does not have */
	VEXIT_GP,		/* an instruction that is refused: #GP(0) */
	VEXIT_SHUTDOWN,		/* triple fault */
	VEXIT_FAIL,		/* the guest state was refused */
	VEXIT_UNKNOWN
};

/*
 * An event to deliver at the next entry, or one whose delivery was cut short, as
 * both vendors' hardware has it (AMD APM vol. 2, 15.20; Intel SDM vol. 3, 25.8.3).
 */
enum { VEVENT_INTERRUPT, VEVENT_NMI = 2, VEVENT_EXCEPTION };
#define VEVENT_BITS	0x80000fffU	/* of @info, those below */

struct vireo_event {
	union {
		u32 info;	/* 0: none */
		struct {
			u32 vector : 8;
			u32 type : 3;
			u32 has_error : 1;
			u32 unused : 19;
			u32 valid : 1;
		};
	};
	u32 error;
};

/* Details of the last exit, as far as its kind has them */
struct vireo_exit_info {
	u64 code;		/* the hardware's own */
	u64 gpa;		/* of a failed entry: what the hardware says of it */
	struct vireo_event event;
	union {
		struct {
			u16 port;
			u8 width;
			bool write;
		};
		u32 io;		/* the three as vireo_run has them */
	};
	u8 cpl;			/* of a hypercall */
	bool wide;		/* likewise: made in 64-bit mode */
	bool fetch;		/* the fault was an instruction fetch or a page walk */
	u8 insn_len;
	u8 insn[16];
	unsigned long handler;	/* the host's, of an interrupt that the exit has taken; or 0 */
};

/* ---- The contract of a backend --------------------------------------------- */

/*
 * One for each vendor; every member is mandatory.  A backend owns the hardware
 * state of a vCPU (v->arch); v->gpr, rip, rflags, blocked, inject and the task
 * priority (vireo_lapic_tpr()) are the common code's between two calls of @run.
 */
struct vireo_ops {
	const char *name;
	u64 leaf;			/* vireo_tree.leaf */

	/* Module: process context. */
	const char *(*init)(u64 *features);	/* NULL, or why not */
	/* On each processor, interrupts off. */
	int (*cpu_enable)(void);	/* 0, -EBUSY (somebody else's) or -EIO */
	void (*cpu_disable)(void);

	/* vCPU: process context, the vCPU's mutex held. */
	int (*vcpu_create)(struct vireo_vcpu *v);
	void (*vcpu_free)(struct vireo_vcpu *v);	/* also after a create that failed */
	void (*get_regs)(struct vireo_vcpu *v, struct vireo_regs *r);
	void (*set_regs)(struct vireo_vcpu *v, const struct vireo_regs *r);
	/* An MSR that the hardware switches: 0, or -ENOENT if not this backend's. */
	int (*msr)(struct vireo_vcpu *v, u32 index, u64 *value, bool write);

	/* The vCPU will run here and not where it was; preemption off, interrupts on. */
	void (*migrate)(struct vireo_vcpu *v);

	/* Inner loop: interrupts off, between load and put on one processor. */
	void (*load)(struct vireo_vcpu *v);
	void (*put)(struct vireo_vcpu *v);
	enum vireo_exit (*run)(struct vireo_vcpu *v);
	/*
	 * The task priority, or vireo_lapic_status(), may have changed.  VEXIT_WINDOW once
	 * the interrupt @vector, if that is not 0, or an NMI can go in.
	 */
	void (*apic_changed)(struct vireo_vcpu *v, u16 status, u8 vector, bool nmi);
	void (*set_bs)(struct vireo_vcpu *v);		/* DR6.BS: single step */
};

extern const struct vireo_ops svm_ops, vmx_ops;
extern const struct vireo_ops *vireo_ops;

/* entry.S */
void svm_enter(u64 *gpr, u64 guest_vmcb, u64 host_vmcb, u32 guest_spec, u32 host_spec);
u32 vmx_enter(u64 *gpr, u64 *host_rsp, u32 guest_spec, u32 host_spec, bool launched);
void vmx_exit_point(void);
void host_interrupt(unsigned long handler);

/* ---- Memory (mem.c) ---------------------------------------------------------- */

struct vireo_mem {
	struct mutex lock;	/* the tree and the counts */
	struct vireo_tree tree;	/* (m) */
	struct file *file;	/* (a) set once; what VT_FILE stands for */
	u64 end;		/* (m) end of the highest RAM */
	u64 filled;		/* (m) bytes that vireo_mem_fill() has put in */
	unsigned int small;	/* 4 KiB pages asked for; approximate */
};

#define MEM_LEAVES	16

/* A writable leaf of its tree, from an address on; see vireo_mem_pin() */
struct vireo_leaf {
	u64 gpa, bytes;
	void *at;
};

/* ---- CPUID (cpuid.c) ----------------------------------------------------------- */

#define VIREO_MAX_CPUID		80

struct vireo_cpuid_table {
	unsigned int count;
	u8 first[3][128];	/* index of a leaf's first entry + 1, by slot */
	bool varies[VIREO_MAX_CPUID];	/* with the vCPU, its state or an index */
	struct vireo_cpuid_entry e[VIREO_MAX_CPUID];
};

/* ---- Local APIC (lapic.c) -------------------------------------------------------- */

struct vireo_lapic_state {
	struct hrtimer timer;
	void *page;		/* (i) the registers, each at its number * 16 (v); others */
				/* read SVR, and the hrtimer what it needs */
	bool delivers;		/* (i) the processor itself delivers what is in the IRR */
	u8 notify;		/* (i) ... and, by this vector of the host's, in @pir; or 0 */
	/* (a) asked for by anybody, taken by the vCPU; as VT-x has it (SDM vol. 3, 30.6) */
	unsigned long pir[8] __aligned(64);
	unsigned long smi_init;	/* (a) VAPIC_* requests from other processors */
	u64 tsc_deadline;	/* (a) written by the vCPU, and 0 by the hrtimer */
};

/* The registers that can be read, by number: 2 to 3fh */
#define VIREO_APIC_READABLE	0x43fd01ffffffa50cULL

#define VAPIC_INIT	0	/* bit numbers in smi_init; see VIREO_LAPIC_REQUESTS */
#define VAPIC_SIPI	1
#define VAPIC_NMI	2
#define VAPIC_UNHALT	3	/* KVM_HC_KICK_CPU: end one HLT */
#define VAPIC_VECTOR	8	/* to 15: of the last SIPI */

/* ---- Paravirtual clock and steal time (clock.c) ------------------------------------- */

struct vireo_pv {
	u64 clock_msr;		/* (v) */
	u64 wall_msr;		/* (v) */
	u64 steal_msr;		/* (v) */
	u64 eoi_msr;		/* (v) */
	/* Where the module writes to the guest's memory, or NULL: in effect TLB entries */
	struct kvm_steal_time *steal; /* (v) */
	u32 *eoi;		/* (v) */
	u64 last_run_delay;	/* (v) ns, of @task */
	struct task_struct *task; /* (v) compared, never followed */
	bool preempted;		/* (v) the guest was told so */
	bool eoi_pending;	/* (v) the guest may end the interrupt in memory */
};

/* ---- VM ---------------------------------------------------------------------------------- */

struct vireo_vm {
	struct kref ref;
	struct mutex lock;	/* all that is (l) */
	struct vireo_mem mem;
	struct vireo_cpuid_table cpuid;	/* (l) until the first vCPU, then constant */
	unsigned int max_vcpus;		/* (i) */
	unsigned int nr_vcpus;		/* (l) */
	struct vireo_vcpu *vcpus[VIREO_MAX_VCPUS]; /* (a) set once, release/acquire */
	struct vireo_queue __rcu *queues[VIREO_MAX_QUEUES]; /* (l) to write; by doorbell */
	DECLARE_BITMAP(busy_queues, VIREO_MAX_QUEUES); /* (a) not always rung for */
	atomic_t nr_queues;		/* (l) to raise; they hold pages */
	struct vireo_clock clock;	/* (l), as cpuid */
};

/* ---- vCPU ---------------------------------------------------------------------------------- */

/* vcpu->mode: whether a kick needs an IPI, and a flush has to wait */
enum {
	VCPU_OUTSIDE,		/* will look at requests before it enters */
	VCPU_INSIDE,		/* in the inner loop */
};

/* vcpu->requests: bit numbers */
enum {
	VREQ_EVENT,		/* look at the APIC and NMI */
	VREQ_FLUSH,		/* forget translations, vireo_pv's included */
	VREQ_MP,		/* INIT or SIPI has come */
};

/* vcpu->blocked: events, as VT-x has it (Intel SDM vol. 3, 25.4.2) */
#define VIREO_BLOCKED_SHADOW	3U	/* behind STI or MOV SS: interrupts and NMIs */
#define VIREO_BLOCKED_NMI	8U	/* in an NMI's handler: another one */

struct vireo_vcpu {
	u64 gpr[16];		/* (v) first: entry.S */
	u64 rip;		/* (v) */
	u64 next_rip;		/* (v) behind the intercepted instruction */
	u64 rflags;		/* (v) */
	u32 blocked;		/* (v) VIREO_BLOCKED_* */
	bool flush;		/* (v) forget translations before the next entry */
	unsigned long requests;	/* (a) VREQ_* */
	int mode;		/* (a) VCPU_* */
	struct vireo_event inject;	/* (v) goes in at the next entry */
	struct vireo_exit_info exit;	/* (v) */

	struct vireo_vm *vm;	/* (i) holds no reference: the fd does */
	unsigned int id;	/* (i) */
	u64 serial;		/* (i) no other vCPU has or had it */
	unsigned long mutex;	/* bit 0: all that is (v); tried, never waited for */
	struct vireo_run *run;	/* (i) the shared page: hostile */
	struct task_struct __rcu *task;	/* (a) the thread in VIREO_RUN */
	struct rcuwait wait;
	u64 stat[VIREO_STAT_COUNT];	/* (v) read racily */

	void *arch;		/* (i) the backend's */
	int cpu;		/* (v) holds its hardware state; -1: none does */
	struct xregs_state *fpu; /* (v) the guest's, standard format, while it is out */
	u64 xcr0;		/* (v) */
	u32 mp_state;		/* (v) VIREO_MP_* */
	u32 poll_ns;		/* (v) adaptive halt polling */

	u64 tsc_offset;		/* (v) guest TSC - host TSC */
	u64 tsc_adjust;		/* (v) IA32_TSC_ADJUST */
	u64 tsc_lost;		/* (v) share of vireo_tsc_lost that is in tsc_offset */
	u64 tsc_aux;		/* (v) IA32_TSC_AUX */
	u64 spec_ctrl;		/* (v) where the hardware does not switch it */
	bool dr_loaded;		/* (v) DR0-3 are the guest's */
	unsigned long dr[4];	/* (v) while they are not */
	struct vireo_lapic_state apic;
	struct vireo_pv pv;

	bool pending;		/* (v) VIREO_RUN must complete an instruction first */
};

/* ---- Queues: what a backend (blk.c, net.c) sees of a ring; see queue.c ------------------- */

#define QUEUE_BATCH	64	/* entries that a look takes, no more */
#define QUEUE_PAGES	DIV_ROUND_UP(VIREO_RING_BYTES(VIREO_RING_MAX), PAGE_SIZE)

/* All in process context; not two of them at a time for one queue. */
struct vireo_queue_ops {
	int (*start)(struct vireo_queue *q);	/* claim q->index; 0 or -errno */
	/*
	 * There may be entries: look.  Returns how many may be put from now on without
	 * a doorbell; QUEUE_ADAPT: some, by a driver that rings often.  Where more than
	 * so many are there already, this is called again.
	 */
	u32 (*kick)(struct vireo_queue *q);
#define QUEUE_ADAPT	U32_MAX
	/*
	 * Take nothing more, and complete what may wait for ever; what is on its
	 * way may complete later.  After that nothing else is called.  NULL: done
	 */
	void (*stop)(struct vireo_queue *q);
};

/* What an object begins with whose fd makes queues */
struct vireo_device {
	struct vireo_vm *vm;		/* (i) held */
	const struct vireo_queue_ops *ops;	/* (i) */
	u32 queues;			/* (i) queues are numbered below that */
};

struct vireo_queue {
	struct kref ref;
	struct rcu_head rcu;
	const struct vireo_queue_ops *ops;	/* (i) */
	struct vireo_vm *vm;		/* (i) */
	struct file *owner;		/* (i) held, and so is its VM */
	void *dev;			/* (i) what @owner stands for: a vireo_device */
	struct mem_cgroup *memcg;	/* (i) held: whose all memory is */
	void *room;			/* the backend's; kvfree()d when nothing is in flight */
	u32 doorbell;			/* (i) */
	u32 index;			/* (i) */
	u32 entries;			/* (i) */
	void *ring[QUEUE_PAGES];	/* (i) its pages, held */
	struct vireo_leaf leaf[MEM_LEAVES];	/* (t) that data was in */

	struct mutex kick_lock;		/* serialises the operations */
	bool kicked;			/* (a) look (again) */
	struct delayed_work again;	/* kicks; pending: holds a reference */
	bool stopped;			/* kick_lock */
	u32 sub_head;			/* (t) entries taken, ever */
	u32 sub_tail;			/* (t) up to where they were put, at the last look */
	u32 busy;			/* (t) how often in a row entries came quickly */
	u32 rest_head;			/* (t) sub_head when the driver was last asked to ring */
	u64 rest_ns;			/* (t) and when that was */
	struct hrtimer overdue;		/* kicks if nobody does, while it is busy */

	spinlock_t comp_lock;		/* all that is (c) */
	u32 comp_tail;			/* (c) completions put, ever */
	bool pending;			/* (c) an interrupt waits for the mask */
	u32 msi_data;			/* (c) */
	u64 msi_address;		/* (c) 0: masked */
	wait_queue_head_t idle;		/* nothing is in flight */
	/* error, to write, errors and interrupts: (c); entries, bytes and throttled: (t) */
	struct vireo_queue_stat stat;
	atomic64_t doorbells;
};

/* main.c */
DECLARE_PER_CPU(bool, vireo_cpu_enabled);
extern u64 vireo_tsc_lost;
extern bool vireo_down;
int vireo_hw_get(void);
void vireo_hw_put(void);
long vireo_call(const struct vireo_call *calls, void *object, unsigned int cmd, void __user *arg);

/* vm.c */
long vireo_vm_create(void *parent, unsigned int cmd, void *arg);
void vireo_vm_put(struct vireo_vm *vm);
void vireo_vm_flush(struct vireo_vm *vm);
void vireo_vcpu_request(struct vireo_vcpu *v, unsigned int req, u8 notify);

/* mem.c */
int vireo_mem_init(struct vireo_mem *mem, struct vireo_mem *parent);
void vireo_mem_destroy(struct vireo_mem *mem);
long vireo_mem_add(void *vm, unsigned int cmd, void *arg);
long vireo_mem_set_file(void *vm, unsigned int cmd, void *arg);
long vireo_mem_diff(void *vm, unsigned int cmd, void *arg);
int vireo_mem_fault(struct vireo_mem *mem, u64 gpa, bool write);
int vireo_mem_rw(struct vireo_mem *mem, u64 gpa, void *buf, u64 len, bool write);
int vireo_mem_pin(struct vireo_mem *mem, u64 gpa, u32 len, bool write, struct bio_vec *bv,
		  struct vireo_leaf *seen);
ssize_t vireo_mem_copy(struct vireo_mem *mem, u64 gpa, struct iov_iter *iter);
bool vireo_mem_headroom(struct vireo_mem *mem);
int vireo_mem_fill(struct vireo_mem *mem, u64 gpa, struct page *page, u64 max);
u64 vireo_mem_seek(struct vireo_mem *mem, u64 gpa, u64 end, bool data);
struct vireo_mem *vireo_mem_of(const struct file *file);
long vireo_mem_open(void *vm, unsigned int cmd, void *arg);
void vireo_mem_stat(struct vireo_mem *mem, struct vireo_stat *stat);

/* queue.c */
extern struct workqueue_struct *vireo_wq;
long vireo_queue_create(void *owner, unsigned int cmd, void *arg);
int vireo_queue_ring(struct vireo_vm *vm, u64 doorbell, bool rung);
void vireo_queue_defer(struct vireo_queue *q, unsigned long delay);
bool vireo_queue_take(struct vireo_queue *q, void *entry);
void vireo_queue_complete(struct vireo_queue *q, const struct vireo_comp *comp, unsigned int n);
int vireo_queue_segs(struct vireo_queue *q, const void *entry, struct vireo_seg *segs,
		     u32 align, u32 max);

/* blk.c */
long vireo_disk_create(void *vm, unsigned int cmd, void *arg);

/* run.c */
DECLARE_STATIC_CALL(vireo_load, *((struct vireo_ops *)NULL)->load);
DECLARE_STATIC_CALL(vireo_put, *((struct vireo_ops *)NULL)->put);
DECLARE_STATIC_CALL(vireo_run, *((struct vireo_ops *)NULL)->run);
int vireo_vcpu_run(struct vireo_vcpu *v);
#define DR6_BD		BIT(13)
#define DR7_GD		BIT(13)
#define DR7_OFF		0x400UL
extern void *vireo_bitmap;	/* all ones, 32 KiB: what exits, for the backend to clear */
extern void __percpu *vireo_cpu_pages;	/* the backend's first two on each processor */
extern u64 vireo_xcr0;		/* constant after init: what a guest may set */
extern u32 vireo_xsave_size;	/* likewise: bytes for that, standard format */
int vireo_switch_init(void);
void vireo_switch_exit(void);
long vireo_vcpu_xsave(void *v, unsigned int cmd, void *arg);
void vireo_switch_dr(struct vireo_vcpu *v, bool guest);

/* regs.c */
void vireo_regs_get(struct vireo_vcpu *v, struct vireo_regs *r);
long vireo_vcpu_regs(void *v, unsigned int cmd, void *arg);
long vireo_vcpu_msrs(void *v, unsigned int cmd, void *arg);
#define VIREO_PAT_RESET	0x0007040600070406ULL
int vireo_msr_get(struct vireo_vcpu *v, u32 index, u64 *value, bool host);
int vireo_msr_set(struct vireo_vcpu *v, u32 index, u64 value, bool host);
bool vireo_xcr0_ok(u64 xcr0);

/* cpuid.c */
long vireo_cpuid_set(void *vm, unsigned int cmd, void *arg);
void vireo_cpuid_exec(struct vireo_vcpu *v);

/* lapic.c */
void vireo_lapic_create(struct vireo_vcpu *v);
int vireo_lapic_read(struct vireo_vcpu *v, u32 msr, u64 *value, bool host);
int vireo_lapic_write(struct vireo_vcpu *v, u32 msr, u64 value, bool host);
u16 vireo_lapic_status(struct vireo_vcpu *v);
void vireo_lapic_accept(struct vireo_vcpu *v, u8 vector);
void vireo_lapic_eoi_sync(struct vireo_vcpu *v);
bool vireo_lapic_wakeup(struct vireo_vcpu *v);
int vireo_lapic_msi(struct vireo_vm *vm, u64 address, u32 data);

/* clock.c */
int vireo_pv_set_msr(struct vireo_vcpu *v, u32 index, u64 value);
bool vireo_steal_enter(struct vireo_vcpu *v);
void vireo_steal_leave(struct vireo_vcpu *v);
int vireo_pv_refresh(struct vireo_vcpu *v);

/* net.c */
extern struct rtnl_link_ops vireo_net_link_ops;
long vireo_net_create(void *object, unsigned int cmd, void *arg);

/*
 * CR4 and EFER bits that a guest of this host may have: of the newer ones, what it has on.
 * A kernel that is built without UMIP still says that the processor has it.
 */
static inline u64 vireo_regs_cr4(void)
{
	return X86_CR4_VME | X86_CR4_PVI | X86_CR4_TSD | X86_CR4_DE | X86_CR4_PSE | X86_CR4_PAE |
	       X86_CR4_MCE | X86_CR4_PGE | X86_CR4_PCE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT |
	       (boot_cpu_has(X86_FEATURE_UMIP) ? X86_CR4_UMIP : 0) |
	       (__read_cr4() & (X86_CR4_LA57 | X86_CR4_FSGSBASE | X86_CR4_PCIDE | X86_CR4_OSXSAVE |
				X86_CR4_SMEP | X86_CR4_SMAP | X86_CR4_PKE));
}

static inline u64 vireo_regs_efer(void)
{
	return EFER_SCE | EFER_LME | EFER_LMA | EFER_NX |
	       (boot_cpu_has(X86_FEATURE_FXSR_OPT) ? EFER_FFXSR : 0);
}

/* NULL if there is none yet; a vCPU that is seen once stays as long as the VM. */
static inline struct vireo_vcpu *vireo_vcpu_by_id(struct vireo_vm *vm, u64 id)
{
	if (id >= vm->max_vcpus)
		return NULL;
	id = array_index_nospec(id, vm->max_vcpus);
	/* pairs with the release in vm_create_vcpu() */
	return smp_load_acquire(&vm->vcpus[id]);
}

/* What RDTSC gives in the guest now. */
static inline u64 vireo_guest_tsc(struct vireo_vcpu *v)
{
	return rdtsc() + v->tsc_offset;
}

/* Where the task priority is: bits 7:4 are CR8.  Register 8; (v). */
static inline u8 *vireo_lapic_tpr(struct vireo_vcpu *v)
{
	return v->apic.page + 0x80;
}

static inline struct vireo_event vireo_event(unsigned int type, u8 vector)
{
	return (struct vireo_event) { .valid = 1, .type = type, .vector = vector };
}

/*
 * An event whose delivery an exit cut short goes in again (AMD APM vol. 2, 15.7.2; Intel
 * SDM vol. 3, 28.2.4).  Not so software interrupts and the exceptions of INT3, INTO and
 * INT1: RIP is still at the instruction, the guest runs it again.
 */
static inline void vireo_event_again(struct vireo_vcpu *v, u32 info, u32 error)
{
	struct vireo_event *e = &v->inject;

	e->info = info & VEVENT_BITS;
	e->error = error;
	if (e->type > VEVENT_EXCEPTION || (e->type == VEVENT_EXCEPTION &&
					   (e->vector == X86_TRAP_BP || e->vector == X86_TRAP_OF)))
		e->info = 0;
	if (e->type == VEVENT_NMI)	/* not in its handler yet */
		v->blocked &= ~VIREO_BLOCKED_NMI;
}

/* Entries that are taken and not completed; exact when nothing is taken meanwhile. */
static inline u32 vireo_queue_in_flight(const struct vireo_queue *q)
{
	return READ_ONCE(q->sub_head) - READ_ONCE(q->comp_tail);
}

/* The last @n of them are not taken after all; (t). */
static inline void vireo_queue_untake(struct vireo_queue *q, u32 n)
{
	q->stat.entries -= n;
	WRITE_ONCE(q->sub_head, q->sub_head - n);
}

static inline bool vireo_requested(struct vireo_vcpu *v, unsigned int req)
{
	return test_bit(req, &v->requests) && test_and_clear_bit(req, &v->requests);
}

#endif /* VIREO_H */
