// SPDX-License-Identifier: GPL-2.0
/*
 * The module: /dev/vireo, and the processor's extension on and off.
 */
#define pr_fmt(fmt) "vireo: " fmt

#include <linux/cpuhotplug.h>
#include <linux/miscdevice.h>
#include <linux/reboot.h>
#include <linux/syscore_ops.h>
#include <net/rtnetlink.h>

#include "vireo.h"
#include "compat.h"

const struct vireo_ops *vireo_ops;
static u64 features;			/* constant after init */

/* ---- The extension is on while there is a VM ------------------------------------ */

static DEFINE_MUTEX(hw_lock);		/* outside cpus_read_lock() */
static unsigned int hw_users;		/* VMs; changed under hw_lock */
static bool hw_emergency_ours;		/* likewise: hw_emergency() is registered */
bool vireo_down;			/* the host reboots; set under hw_lock */
static int hw_cpuhp_state;		/* likewise: of the first VM's making */
DEFINE_PER_CPU(bool, vireo_cpu_enabled);	/* written by its processor, interrupts off */

static void hw_disable_this(void *unused)
{
	if (!this_cpu_read(vireo_cpu_enabled))
		return;
	this_cpu_write(vireo_cpu_enabled, false);
	vireo_ops->cpu_disable();
}

/* A crashing kernel calls this on each processor, maybe from an NMI. */
static void hw_emergency(void)
{
	hw_disable_this(NULL);
}

/* On the processor that it is about */
static int hw_cpu_online(unsigned int cpu)
{
	unsigned long flags;
	int err = 0;

	local_irq_save(flags);
	if (!READ_ONCE(vireo_down)) {
		err = vireo_ops->cpu_enable();
		this_cpu_write(vireo_cpu_enabled, !err);
	}
	local_irq_restore(flags);
	return err;
}

static int hw_cpu_offline(unsigned int cpu)
{
	return smp_call_function_single(cpu, hw_disable_this, NULL, 1);
}

/**
 * vireo_hw_get() - switch the extension on, on all processors, for one more VM
 * Context: May sleep.
 * Return: 0, -EBUSY if another hypervisor uses it, -EIO if the host goes down.
 */
int vireo_hw_get(void)
{
	int err = 0;

	mutex_lock(&hw_lock);
	if (vireo_down)
		err = -EIO;
	else if (!hw_users)
		err = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "x86/vireo:online",
					hw_cpu_online, hw_cpu_offline);
	if (err > 0)
		hw_cpuhp_state = err;
	if (err >= 0 && !hw_users++)
		hw_emergency_ours = compat_emergency_register(hw_emergency);
	mutex_unlock(&hw_lock);
	if (err == -EBUSY)
		pr_notice_ratelimited("another hypervisor uses the processor's extension: stop its VMs or unload it (rmmod kvm_amd kvm_intel)\n");
	return min(err, 0);
}

/**
 * vireo_hw_put() - a VM is gone; switch the extension off after the last
 * Context: May sleep.
 */
void vireo_hw_put(void)
{
	mutex_lock(&hw_lock);
	if (!--hw_users) {
		cpuhp_remove_state(hw_cpuhp_state);
		if (hw_emergency_ours)
			compat_emergency_unregister(hw_emergency);
	}
	mutex_unlock(&hw_lock);
}

/* Ticks that the TSC lost in suspends: guests get them back. */
u64 vireo_tsc_lost;			/* written with one processor up */
static u64 tsc_at_suspend;

/* Suspend: the other processors are offline already, interrupts are off. */
static int hw_suspend(void)
{
	tsc_at_suspend = rdtsc();
	hw_disable_this(NULL);
	return 0;
}

static void hw_resume(void)
{
	u64 now = rdtsc();

	if (now < tsc_at_suspend)
		vireo_tsc_lost += tsc_at_suspend - now;
	if (hw_users && hw_cpu_online(smp_processor_id()))
		pr_err("the processor's extension was taken during suspend; VMs cannot go on\n");
}

static struct syscore_ops hw_syscore_ops = {
	.suspend = hw_suspend,
	.resume = hw_resume,
};

/* Reboot and kexec: the next kernel finds the extension off.  VMs end with EIO. */
static int hw_reboot(struct notifier_block *nb, unsigned long action, void *data)
{
	mutex_lock(&hw_lock);
	vireo_down = true;
	on_each_cpu(hw_disable_this, NULL, 1);
	mutex_unlock(&hw_lock);
	return NOTIFY_OK;
}

static struct notifier_block hw_reboot_notifier = {
	.notifier_call = hw_reboot,
};

/* ---- ioctls --------------------------------------------------------------------- */

/**
 * vireo_call() - an ioctl whose argument is a structure that may grow
 * @calls: those of this kind of fd; the last is empty
 * @object: what the fd stands for
 * @cmd: which of them
 * @arg: user space's structure, which begins with u32 size and u32 flags
 * Context: May sleep.
 * Return: What its function says; -ENOTTY (not among them), -EFAULT, -EINVAL
 * (too short, or a flag), -E2BIG (has bytes that mean nothing here), -ENOMEM.
 */
long vireo_call(const struct vireo_call *calls, void *object, unsigned int cmd, void __user *arg)
{
	unsigned int known = _IOC_SIZE(cmd);
	u32 size, *buf;
	long ret;

	while (calls->fn && calls->cmd != cmd)
		calls++;
	if (!calls->fn)
		return -ENOTTY;
	if (get_user(size, (u32 __user *)arg))
		return -EFAULT;
	if (size < known)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	buf = kmalloc(known, GFP_KERNEL);
	if (!buf)
		return -ENOMEM;
	ret = copy_struct_from_user(buf, known, arg, size);
	if (!ret && (buf[1] & ~calls->flags))
		ret = -EINVAL;
	if (ret)
		goto out;
	if (!(cmd & IOC_IN))
		memset(buf, 0, known);
	ret = calls->fn(object, cmd, buf);
	buf[0] = size;
	if ((cmd & IOC_OUT) && !ret && copy_to_user(arg, buf, known))
		ret = -EFAULT;
out:
	kfree(buf);
	return ret;
}

static long dev_get_info(void *unused, unsigned int cmd, void *arg)
{
	static const u8 words[VIREO_HOST_WORDS] = {
		[VIREO_HOST_1_ECX] = CPUID_1_ECX, [VIREO_HOST_1_EDX] = CPUID_1_EDX,
		[VIREO_HOST_7_EBX] = CPUID_7_0_EBX, [VIREO_HOST_7_ECX] = CPUID_7_ECX,
		[VIREO_HOST_7_EDX] = CPUID_7_EDX, [VIREO_HOST_D_1_EAX] = CPUID_D_1_EAX,
		[VIREO_HOST_80000001_ECX] = CPUID_8000_0001_ECX,
		[VIREO_HOST_80000001_EDX] = CPUID_8000_0001_EDX,
		[VIREO_HOST_80000008_EBX] = CPUID_8000_0008_EBX,
	};
	struct vireo_info *info = arg;
	unsigned int i;

	*info = (struct vireo_info) {
		.api_version = VIREO_API_VERSION,
		.max_vcpus = VIREO_MAX_VCPUS,
		.features = features | (check_tsc_unstable() ? 0 : VIREO_FEAT_TSC_STABLE),
		.max_gpa = VIREO_MAX_GPA,
		.tsc_khz = tsc_khz,
		.max_cpuid = VIREO_MAX_CPUID,
		.xsave_size = vireo_xsave_size,
		.xcr0 = vireo_xcr0,
	};
	for (i = 0; i < VIREO_HOST_WORDS; i++)
		info->cpuid[i] = boot_cpu_data.x86_capability[words[i]];
	return 0;
}

static const struct vireo_call vireo_dev_calls[] = {
	{ VIREO_GET_INFO, dev_get_info },
	{ VIREO_CREATE_VM, vireo_vm_create },
	{}
};

DEFINE_VIREO_FD(vireo_dev, NULL, (void));

static struct miscdevice vireo_dev = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "vireo",
	.fops = &vireo_dev_fops,
	.mode = 0660,
};

/* Also undoes what a vireo_init() has done that fails. */
static void vireo_exit(void)
{
	if (!IS_ERR_OR_NULL(vireo_dev.this_device))
		misc_deregister(&vireo_dev);
	if (vireo_wq)
		destroy_workqueue(vireo_wq);	/* work may still hold the last of a VM */
	unregister_reboot_notifier(&hw_reboot_notifier);
	unregister_syscore_ops(&hw_syscore_ops);
	rtnl_link_unregister(&vireo_net_link_ops);	/* waits for the last interface */
	vireo_switch_exit();
}

static int __init vireo_init(void)
{
	const char *why;
	int err;

	vireo_ops = boot_cpu_has(X86_FEATURE_SVM) ? &svm_ops : &vmx_ops;
	/* The kernel hides VT-x where firmware has locked it off, which is another error. */
	if (vireo_ops == &vmx_ops && !(cpuid_ecx(1) & BIT(5))) {
		pr_err("this processor has neither AMD-V nor VT-x, or firmware hides it\n");
		return -ENODEV;
	}
	err = rtnl_link_register(&vireo_net_link_ops);
	if (err)
		return err;
	register_syscore_ops(&hw_syscore_ops);
	register_reboot_notifier(&hw_reboot_notifier);
	static_call_update(vireo_load, vireo_ops->load);
	static_call_update(vireo_put, vireo_ops->put);
	static_call_update(vireo_run, vireo_ops->run);
	vireo_wq = alloc_workqueue("vireo", WQ_UNBOUND, 0);
	err = vireo_wq ? vireo_switch_init() : -ENOMEM;
	why = err ? NULL : vireo_ops->init(&features);
	if (why) {
		pr_err("%s\n", why);
		err = -ENODEV;
	}
	if (!err)
		err = misc_register(&vireo_dev);
	if (err)
		vireo_exit();
	else
		pr_info("%s backend, API version %d\n", vireo_ops->name, VIREO_API_VERSION);
	return err;
}

module_init(vireo_init);
module_exit(vireo_exit);
MODULE_DESCRIPTION("Vireo, a small hypervisor");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
