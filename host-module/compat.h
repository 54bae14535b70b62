/* SPDX-License-Identifier: GPL-2.0 */
/*
 * All that differs between the supported host kernels, 6.1 to 6.12, and all
 * symbols that newer ones may keep to themselves.
 */
#ifndef VIREO_COMPAT_H
#define VIREO_COMPAT_H

#include <linux/version.h>

#define KERNEL_AT_LEAST(a, b)	(KERNEL_VERSION(a, b, 0) <= LINUX_VERSION_CODE)

#if !KERNEL_AT_LEAST(6, 1) || KERNEL_AT_LEAST(6, 13)
#error "vireo: host kernels 6.1 to 6.12 are supported"
#endif

#ifdef __ASSEMBLY__

#include <asm/nospec-branch.h>

/* Kernels from before MDS and TSA were dealt with so */
#ifndef CLEAR_CPU_BUFFERS
#define CLEAR_CPU_BUFFERS
#endif
#ifndef VM_CLEAR_CPU_BUFFERS
#define VM_CLEAR_CPU_BUFFERS
#endif

#if KERNEL_AT_LEAST(6, 4)
#define VIREO_RSB_FEATURE	X86_FEATURE_RSB_VMEXIT
#define VIREO_UNTRAIN_RET	UNTRAIN_RET_VM
#else
#define VIREO_RSB_FEATURE	X86_FEATURE_RETPOLINE
.macro VIREO_UNTRAIN_RET
	UNTRAIN_RET
	ALTERNATIVE "", "call entry_ibpb", X86_FEATURE_IBPB_ON_VMEXIT
.endm
#endif

#if defined(X86_FEATURE_CLEAR_BHB_LOOP_ON_VMEXIT) || defined(X86_FEATURE_CLEAR_BHB_VMEXIT)
#define VIREO_CLEAR_BHB		CLEAR_BRANCH_HISTORY_VMEXIT
#else
#define VIREO_CLEAR_BHB
#endif

#else /* !__ASSEMBLY__ */

#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/reboot.h>
#include <linux/sched/signal.h>
#include <linux/task_work.h>
#include <asm/irq_vectors.h>
#include <asm/nospec-branch.h>

/*
 * A crashing kernel's way to switch the extension off; older ones know how.  Only
 * one module can have it.  Before 6.12 that is KVM from when it is loaded, and it
 * switches off whatever is on.  Returns whether it has to be unregistered.
 */
#ifdef COMPAT_EMERGENCY		/* see Kbuild: updates of older kernels have it too */
#include <asm/reboot.h>
void rcu_expedite_gp(void);	/* exported, but declared in a header of RCU's own */
void rcu_unexpedite_gp(void);
static inline void compat_emergency_unregister(void (*fn)(void))
{
	rcu_expedite_gp();	/* it waits for RCU; all processors were just interrupted */
	cpu_emergency_unregister_virt_callback(fn);
	rcu_unexpedite_gp();
}

static inline bool compat_emergency_register(void (*fn)(void))
{
	if (!KERNEL_AT_LEAST(6, 12) && __symbol_get("kvm_rebooting")) {
		__symbol_put("kvm_rebooting");
		return false;
	}
	cpu_emergency_register_virt_callback(fn);
	return true;
}
#else
#define compat_emergency_register(fn)	((void)(fn), false)
#define compat_emergency_unregister(fn)	((void)(fn))
#endif

/*
 * Work that a thread must do before it runs a guest.  TIF_NOTIFY_RESUME alone
 * may be no more than rseq's, which can wait until the thread is in user space.
 */
static inline bool compat_user_work_pending(void)
{
	if (!test_thread_flag(TIF_NOTIFY_RESUME))
		return false;
#ifdef CONFIG_MEMCG
	if (current->memcg_nr_pages_over_high)
		return true;
#endif
	return task_work_pending(current);
}

static inline bool compat_guest_work_pending(void)
{
	return unlikely(read_thread_flags() &
			(_TIF_NEED_RESCHED | _TIF_SIGPENDING | _TIF_NOTIFY_SIGNAL |
			 _TIF_NOTIFY_RESUME)) &&
	       (need_resched() || signal_pending(current) || compat_user_work_pending());
}

/* The hypervisor's: the handler does nothing.  Newer kernels built without KVM have none. */
#define COMPAT_POSTED_VECTOR \
	(KERNEL_AT_LEAST(6, 9) && !IS_ENABLED(CONFIG_KVM) ? 0 : POSTED_INTR_VECTOR)

/* Exported, but declared in a header of the kernel's own */
extern unsigned int mxcsr_feature_mask;

/* MMIO stale data, on processors that the host clears for guests alone. */
static inline void compat_clear_mmio_buffers(void)
{
#ifdef CLEAR_CPU_BUFFERS
	if (static_branch_unlikely(&mmio_stale_data_clear))
		x86_clear_cpu_buffers();
#endif
}

/* SRSO on processors whose kernel need not fear it: only guests make it necessary. */
static inline void compat_srso(bool guests)
{
#ifdef X86_FEATURE_SRSO_BP_SPEC_REDUCE
	if (cpu_feature_enabled(X86_FEATURE_SRSO_BP_SPEC_REDUCE))
		(guests ? msr_set_bit : msr_clear_bit)(MSR_ZEN4_BP_CFG,
						       MSR_ZEN4_BP_CFG_BP_SPEC_REDUCE_BIT);
#endif
}

/* A guest has trained this processor's branch predictors (VMSCAPE). */
static inline void compat_guest_ran(void)
{
#ifdef X86_FEATURE_IBPB_EXIT_TO_USER
	if (cpu_feature_enabled(X86_FEATURE_IBPB_EXIT_TO_USER))
		this_cpu_write(x86_ibpb_exit_to_user, true);
#endif
}

/*
 * CR4.CET is the guest's to set; the thread's own shadow stack must not be what
 * it finds then.
 */
struct compat_cet {
	u64 u_cet, ssp;
};

static inline void compat_cet(struct compat_cet *c, bool guest)
{
#ifdef X86_FEATURE_USER_SHSTK
	if (!cpu_feature_enabled(X86_FEATURE_USER_SHSTK))
		return;
	if (guest) {
		rdmsrl(MSR_IA32_U_CET, c->u_cet);
		rdmsrl(MSR_IA32_PL3_SSP, c->ssp);
	}
	wrmsrl(MSR_IA32_U_CET, guest ? 0 : c->u_cet);
	wrmsrl(MSR_IA32_PL3_SSP, guest ? 0 : c->ssp);
#endif
}

/*
 * An asynchronous write keeps a file system from being frozen until it ends,
 * which may be in another thread.  Newer kernels do the first half by themselves.
 */
#if KERNEL_AT_LEAST(6, 8)
#define compat_iocb_write	vfs_iocb_iter_write
#define compat_iocb_write_end	kiocb_end_write
#else
static inline void compat_iocb_write_end(struct kiocb *iocb)
{
	__sb_writers_acquired(file_inode(iocb->ki_filp)->i_sb, SB_FREEZE_WRITE);
	file_end_write(iocb->ki_filp);
}

static inline ssize_t compat_iocb_write(struct file *file, struct kiocb *iocb,
					struct iov_iter *iter)
{
	ssize_t ret;

	file_start_write(file);
	__sb_writers_release(file_inode(file)->i_sb, SB_FREEZE_WRITE);
	ret = vfs_iocb_iter_write(file, iocb, iter);
	if (ret != -EIOCBQUEUED)
		compat_iocb_write_end(iocb);
	return ret;
}
#endif

#endif /* __ASSEMBLY__ */
#endif /* VIREO_COMPAT_H */
