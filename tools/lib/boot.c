// SPDX-License-Identifier: GPL-2.0
/*
 * Put a kernel and what it needs into guest memory, and the boot vCPU in front
 * of it.  What is below 1 MiB (gpa):
 *
 *	0x06000		GDT; PVH: then start info, module list, memory map
 *	0x07000		zero page (struct boot_params)
 *	0x08000		page tables: PML4, PDPT, up to four page directories
 *	0x20000		command line, up to 64 KiB
 *	0x9fc00		reserved, as customary for an extended BIOS data area
 *	0xe0000		ACPI tables
 *	0xffff0		where a PC's processor begins: asks for a reset
 */
#include <asm/bootparam.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvireo.h"
#include "util.h"

#define BLOCK_BASE	0x6000ULL
#define GDT_BASE	0x6000ULL
#define PVH_INFO_BASE	0x6100ULL
#define PVH_MODULE_BASE	0x6140ULL
#define PVH_MEMMAP_BASE	0x6200ULL
#define ZERO_PAGE_BASE	0x7000ULL
#define PML4_BASE	0x8000ULL
#define PDPT_BASE	0x9000ULL
#define PD_BASE		0xa000ULL
#define PD_MAX		4	/* GiB that are mapped */
#define BLOCK_SIZE	(PD_BASE + PD_MAX * VIREO_PAGE - BLOCK_BASE)
#define CMDLINE_BASE	0x20000ULL
#define CMDLINE_ROOM	0x10000ULL
#define EBDA_BASE	0x9fc00ULL
#define IMAGE_BASE	0x100000ULL
#define RESET_VECTOR	0xffff0ULL

#define BOOT_CS		0x10	/* __BOOT_CS and __BOOT_DS of Linux */
#define BOOT_DS		0x18
#define BOOT_TR		0x20

#define PTE_PRESENT	BIT_ULL(0)
#define PTE_WRITE	BIT_ULL(1)
#define PTE_LARGE	BIT_ULL(7)

#define CR0_PE		BIT_ULL(0)
#define CR0_ET		BIT_ULL(4)
#define CR0_NE		BIT_ULL(5)
#define CR0_PG		BIT_ULL(31)
#define CR4_PAE		BIT_ULL(5)
#define EFER_LME	BIT_ULL(8)
#define EFER_LMA	BIT_ULL(10)

/* Segment attributes, see struct vireo_segment */
#define ATTR_CODE64	0xa9b	/* execute/read, accessed; present, L, G */
#define ATTR_CODE32	0xc9b	/* the same; present, D, G */
#define ATTR_DATA	0xc93	/* read/write, accessed; present, B, G */
#define ATTR_TSS	0x08b	/* busy TSS, present */
#define ATTR_LDT	0x082	/* LDT, present */

struct pvh_start_info {		/* xen/include/public/arch-x86/hvm/start_info.h */
	__u32 magic;
	__u32 version;
	__u32 flags;
	__u32 nr_modules;
	__u64 modlist;
	__u64 cmdline;
	__u64 rsdp;
	__u64 memmap;
	__u32 memmap_entries;
	__u32 reserved;
};

struct pvh_module {
	__u64 addr;
	__u64 size;
	__u64 cmdline;
	__u64 reserved;
};

struct pvh_memmap {
	__u64 addr;
	__u64 size;
	__u32 type;
	__u32 reserved;
};

#define PVH_MAGIC	0x336ec578

#define E820_RAM	1
#define E820_RESERVED	2
#define MEMMAP_MAX	8

/**
 * struct file_map - a file in this process's address space
 * @data: its bytes, NULL if it is empty
 * @size: their number
 */
struct file_map {
	void *data;
	size_t size;
};

static int file_map(struct file_map *map, const char *path, const char *what,
		    struct vireo_error *err)
{
	struct stat st;
	int fd, code;

	*map = (struct file_map){ .data = NULL };
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st)) {
		code = errno;
		if (fd >= 0)
			close(fd);
		return vireo_fail(err, code, "cannot open the %s %s: %s", what, path,
				  strerror(code));
	}
	if (!S_ISREG(st.st_mode)) {
		close(fd);
		return vireo_fail(err, EINVAL, "the %s %s is not a regular file", what, path);
	}
	if (st.st_size) {
		map->size = (size_t)st.st_size;
		map->data = mmap(NULL, map->size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	}
	code = errno;
	close(fd);
	if (map->data != MAP_FAILED)
		return 0;
	map->data = NULL;
	return vireo_fail(err, code, "cannot read the %s %s: %s", what, path, strerror(code));
}

static void file_unmap(struct file_map *map)
{
	if (map->data)
		munmap(map->data, map->size);
	map->data = NULL;
}

static int sink_write(void *ctx, __u64 gpa, const void *data, size_t len,
		      struct vireo_error *err)
{
	return vireo_vm_write_sparse(ctx, gpa, data, len, err);
}

/* The highest place for @size bytes in [@start, @end), on 2 MiB if possible; 0: none */
static __u64 place(__u64 start, __u64 end, __u64 size)
{
	__u64 at;

	if (start > end || size > end - start)
		return 0;
	at = (end - size) & ~(2 * VIREO_MIB - 1);
	if (at < start)
		at = (end - size) & ~(VIREO_PAGE - 1);
	return at < start ? 0 : at;
}

/* Above the kernel, as far as it can reach, else below it */
static int load_initrd(struct vireo_vm *vm, const char *path, const struct vireo_kernel *kernel,
		       struct pvh_module *initrd, struct vireo_error *err)
{
	__u64 end = vm->low_end, kernel_end = (kernel->end + VIREO_PAGE - 1) & ~(VIREO_PAGE - 1);
	struct file_map map;
	int ret;

	ret = file_map(&map, path, "initrd", err);
	if (ret)
		return ret;
	if (end > kernel->initrd_max)
		end = kernel->initrd_max + 1;
	initrd->size = map.size;
	initrd->addr = place(kernel_end, end, map.size);
	if (!initrd->addr)
		initrd->addr = place(IMAGE_BASE, kernel->start, map.size);
	if (initrd->addr)
		ret = vireo_vm_write(vm, initrd->addr, map.data, map.size, err);
	else
		ret = vireo_fail(err, ENOMEM,
				 "the initrd %s (%zu MiB) does not fit beside the kernel: give the guest more --memory",
				 path, map.size >> 20);
	file_unmap(&map);
	return ret;
}

static unsigned int memory_map(const struct vireo_vm *vm, struct pvh_memmap *map)
{
	unsigned int n = 0;

	map[n++] = (struct pvh_memmap){ 0, EBDA_BASE, E820_RAM, 0 };
	map[n++] = (struct pvh_memmap){ EBDA_BASE, IMAGE_BASE - EBDA_BASE, E820_RESERVED, 0 };
	map[n++] = (struct pvh_memmap){ IMAGE_BASE, vm->low_end - IMAGE_BASE, E820_RAM, 0 };
	/* Linux believes in configuration space in memory only if it is reserved. */
	map[n++] = (struct pvh_memmap){ VIREO_PCI_ECAM, VIREO_PCI_ECAM_SIZE, E820_RESERVED, 0 };
	if (vm->high_end > VIREO_HIGH_BASE)
		map[n++] = (struct pvh_memmap){ VIREO_HIGH_BASE, vm->high_end - VIREO_HIGH_BASE,
						E820_RAM, 0 };
	return n;
}

static void fill_zero_page(__u8 *page, const struct vireo_vm *vm,
			   const struct vireo_kernel *kernel, const struct pvh_module *initrd)
{
	struct boot_params *bp = (struct boot_params *)page;
	struct pvh_memmap map[MEMMAP_MAX];
	unsigned int i;

	memcpy(page + offsetof(struct boot_params, hdr), kernel->header, kernel->header_len);
	bp->hdr.type_of_loader = 0xff;	/* no number assigned */
	bp->hdr.cmd_line_ptr = CMDLINE_BASE;
	bp->hdr.ramdisk_image = (__u32)initrd->addr;
	bp->hdr.ramdisk_size = (__u32)initrd->size;
	bp->hdr.vid_mode = 0xffff;	/* normal */
	bp->acpi_rsdp_addr = VIREO_ACPI_BASE;
	bp->e820_entries = (__u8)memory_map(vm, map);
	for (i = 0; i < bp->e820_entries; i++) {
		bp->e820_table[i].addr = map[i].addr;
		bp->e820_table[i].size = map[i].size;
		bp->e820_table[i].type = map[i].type;
	}
}

static void fill_pvh(__u8 *block, const struct vireo_vm *vm, const struct pvh_module *initrd)
{
	struct pvh_start_info *info = (void *)(block + (PVH_INFO_BASE - BLOCK_BASE));
	struct pvh_module *module = (void *)(block + (PVH_MODULE_BASE - BLOCK_BASE));
	struct pvh_memmap *map = (void *)(block + (PVH_MEMMAP_BASE - BLOCK_BASE));

	*info = (struct pvh_start_info){
		.magic = PVH_MAGIC,
		.version = 1,
		.cmdline = CMDLINE_BASE,
		.rsdp = VIREO_ACPI_BASE,
		.memmap = PVH_MEMMAP_BASE,
		.memmap_entries = memory_map(vm, map),
	};
	if (initrd->size) {
		info->nr_modules = 1;
		info->modlist = PVH_MODULE_BASE;
		*module = *initrd;
	}
}

static void fill_gdt(__u8 *block)
{
	__u64 *gdt = (void *)(block + (GDT_BASE - BLOCK_BASE));

	gdt[BOOT_CS / 8] = 0x00af9b000000ffffULL;
	gdt[BOOT_DS / 8] = 0x00cf93000000ffffULL;
	gdt[BOOT_TR / 8] = 0x00008b0000000067ULL;	/* 64-bit: goes on in the next, 0 */
}

/*
 * Map 1:1, in 2 MiB pages, from 0 to the GiB in which the kernel ends.
 * Returns the bytes of the block that are in use.
 */
static size_t fill_page_tables(__u8 *block, __u64 end)
{
	__u64 *pml4 = (void *)(block + (PML4_BASE - BLOCK_BASE));
	__u64 *pdpt = (void *)(block + (PDPT_BASE - BLOCK_BASE));
	__u64 *pd = (void *)(block + (PD_BASE - BLOCK_BASE));
	__u64 gib = (end + VIREO_GIB - 1) / VIREO_GIB, i;

	if (gib > PD_MAX)
		gib = PD_MAX;
	pml4[0] = PDPT_BASE | PTE_WRITE | PTE_PRESENT;
	for (i = 0; i < gib; i++)
		pdpt[i] = (PD_BASE + i * VIREO_PAGE) | PTE_WRITE | PTE_PRESENT;
	for (i = 0; i < gib * 512; i++)
		pd[i] = i * 2 * VIREO_MIB | PTE_LARGE | PTE_WRITE | PTE_PRESENT;
	return PD_BASE + gib * VIREO_PAGE - BLOCK_BASE;
}

static int write_block(struct vireo_vm *vm, const struct vireo_kernel *kernel,
		       const struct pvh_module *initrd, struct vireo_error *err)
{
	__u8 block[BLOCK_SIZE] __aligned(8) = { 0 };
	size_t len;

	fill_gdt(block);
	if (kernel->how == VIREO_ENTRY_PVH) {
		fill_pvh(block, vm, initrd);
		len = VIREO_PAGE;
	} else {
		fill_zero_page(block + (ZERO_PAGE_BASE - BLOCK_BASE), vm, kernel, initrd);
		len = fill_page_tables(block, kernel->end);
	}
	return vireo_vm_write(vm, BLOCK_BASE, block, len, err);
}

static int write_acpi(struct vireo_vm *vm, const struct vireo_boot *boot,
		      struct vireo_error *err)
{
	struct vireo_acpi_config config = { .vcpus = boot->vcpus, .buses = 1 + boot->slots };
	__u8 buf[8192] __aligned(16), id[VIREO_GENERATION_SIZE];
	size_t len;
	int ret;

	len = vireo_acpi_build(&config, buf, sizeof(buf));
	if (!len)
		return vireo_fail(err, ENOSPC, "the ACPI tables do not fit");
	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		return vireo_fail(err, errno, "no random numbers: %s", strerror(errno));
	ret = vireo_vm_write(vm, VIREO_GENERATION, id, sizeof(id), err);
	if (ret)
		return ret;
	return vireo_vm_write(vm, VIREO_ACPI_BASE, buf, len, err);
}

/* For a guest that reboots by a jump into the BIOS. */
static int write_reset_vector(struct vireo_vm *vm, struct vireo_error *err)
{
	static const __u8 code[] = {		/* real mode */
		0xba, VIREO_PORT_RESET & 0xff, VIREO_PORT_RESET >> 8,	/* mov dx, port */
		0xb0, VIREO_RESET_VALUE,				/* mov al, value */
		0xee,							/* out dx, al */
		0xf4,							/* 1: hlt */
		0xeb, 0xfd,						/* jmp 1b */
	};

	return vireo_vm_write(vm, RESET_VECTOR, code, sizeof(code), err);
}

static int write_cmdline(struct vireo_vm *vm, const char *cmdline, __u32 max,
			 struct vireo_error *err)
{
	size_t len = strlen(cmdline);

	if (len > max || len >= CMDLINE_ROOM)
		return vireo_fail(err, E2BIG,
				  "the kernel command line has %zu characters, this kernel takes %u",
				  len, max);
	return vireo_vm_write(vm, CMDLINE_BASE, cmdline, len + 1, err);
}

static struct vireo_segment flat(__u16 selector, __u16 attr)
{
	return (struct vireo_segment){ .limit = 0xffffffff, .selector = selector, .attr = attr };
}

static int set_registers(struct vireo_vcpu *vcpu, const struct vireo_kernel *kernel,
			 struct vireo_error *err)
{
	bool pvh = kernel->how == VIREO_ENTRY_PVH;
	struct vireo_regs regs;
	unsigned int i;
	int ret;

	ret = vireo_vcpu_get_regs(vcpu, &regs, err);
	if (ret)
		return ret;
	memset(regs.gpr, 0, sizeof(regs.gpr));
	regs.gpr[VIREO_RSI] = pvh ? 0 : ZERO_PAGE_BASE;
	regs.gpr[VIREO_RBX] = pvh ? PVH_INFO_BASE : 0;
	regs.rip = kernel->entry;
	regs.rflags = 2;
	for (i = VIREO_ES; i <= VIREO_GS; i++)
		regs.seg[i] = flat(BOOT_DS, ATTR_DATA);
	regs.seg[VIREO_CS] = flat(BOOT_CS, pvh ? ATTR_CODE32 : ATTR_CODE64);
	regs.seg[VIREO_LDTR] = (struct vireo_segment){ .limit = 0xffff, .attr = ATTR_LDT };
	regs.seg[VIREO_TR] = (struct vireo_segment){
		.limit = 0x67, .selector = BOOT_TR, .attr = ATTR_TSS,
	};
	regs.seg[VIREO_GDTR] = (struct vireo_segment){ .base = GDT_BASE, .limit = 6 * 8 - 1 };
	regs.seg[VIREO_IDTR] = (struct vireo_segment){ .base = 0, .limit = 0 };
	regs.cr0 = CR0_PE | CR0_ET | (pvh ? 0 : CR0_NE | CR0_PG);
	regs.cr3 = pvh ? 0 : PML4_BASE;
	regs.cr4 = pvh ? 0 : CR4_PAE;
	regs.efer = pvh ? 0 : EFER_LME | EFER_LMA;
	regs.mp_state = VIREO_MP_RUNNABLE;
	regs.events = 0;
	return vireo_vcpu_set_regs(vcpu, &regs, err);
}

static int load_all(struct vireo_vm *vm, struct vireo_vcpu *vcpu, const struct vireo_boot *boot,
		    const struct file_map *image, struct vireo_error *err)
{
	struct vireo_sink sink = {
		.write = sink_write, .ctx = vm, .base = IMAGE_BASE, .end = vm->low_end,
	};
	struct pvh_module initrd = { .addr = 0 };
	struct vireo_kernel kernel;
	int ret;

	ret = vireo_kernel_load(image->data, image->size, &sink, &kernel, err);
	if (ret) {
		vireo_error_prefix(err, "kernel %s", boot->kernel);
		return ret;
	}
	if (kernel.end > vm->low_end)
		return vireo_fail(err, ENOMEM,
				  "kernel %s: it needs %llu MiB to start: give the guest more --memory",
				  boot->kernel, (kernel.end >> 20) + 1);
	if (boot->initrd) {
		ret = load_initrd(vm, boot->initrd, &kernel, &initrd, err);
		if (ret)
			return ret;
	}
	ret = write_cmdline(vm, boot->cmdline, kernel.cmdline_max, err);
	if (!ret)
		ret = write_acpi(vm, boot, err);
	if (!ret)
		ret = write_reset_vector(vm, err);
	if (!ret)
		ret = write_block(vm, &kernel, &initrd, err);
	if (!ret)
		ret = set_registers(vcpu, &kernel, err);
	return ret;
}

/**
 * vireo_boot - load a kernel and make the boot vCPU ready to enter it
 * @vm: with RAM that was not written yet
 * @vcpu: its vCPU 0
 * @boot: what to load
 * @err: why not
 *
 * Return: 0, or a negative errno; then the VM is of no further use.
 */
int vireo_boot(struct vireo_vm *vm, struct vireo_vcpu *vcpu, const struct vireo_boot *boot,
	       struct vireo_error *err)
{
	struct file_map image;
	int ret;

	ret = file_map(&image, boot->kernel, "kernel", err);
	if (ret)
		return ret;
	ret = load_all(vm, vcpu, boot, &image, err);
	file_unmap(&image);
	return ret;
}
