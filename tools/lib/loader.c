// SPDX-License-Identifier: GPL-2.0
/*
 * Load a kernel image: a bzImage, whose payload is an ELF file, or that ELF file.
 *
 * Pure: reads a buffer, writes through a sink.  The image may be hostile: every
 * offset and size is checked against what is there before it is used, in forms
 * that cannot overflow, and nothing is written outside of the sink's bounds.
 *
 * bzImage: Documentation/arch/x86/boot.rst of Linux.  PVH: docs/misc/pvh.pandoc
 * of Xen.  ELF: System V ABI, chapters 4 and 5.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "libvireo.h"

/* Offsets in the first sectors of a bzImage */
#define BZ_SETUP_SECTS		0x1f1
#define BZ_BOOT_FLAG		0x1fe
#define BZ_JUMP_LEN		0x201
#define BZ_MAGIC		0x202
#define BZ_VERSION		0x206
#define BZ_INITRD_MAX		0x22c
#define BZ_XLOADFLAGS		0x236
#define BZ_CMDLINE_SIZE		0x238
#define BZ_PAYLOAD_OFFSET	0x248
#define BZ_PAYLOAD_LENGTH	0x24c
#define BZ_HEADER_MIN		0x264	/* end of the fields of 2.12 */
#define BZ_HEADER_END		0x290	/* the zero page has other things there */

#define BZ_VERSION_MIN		0x020c	/* xloadflags */
#define BZ_XLF_KERNEL_64	0x0001

#define ELF_MAX_PHDRS		64
#define NOTE_PVH_ENTRY		18	/* XEN_ELFNOTE_PHYS32_ENTRY */

#define PVH_CMDLINE_MAX		2047
#define PVH_INITRD_MAX		0x7fffffffULL

static __u16 get_le16(const __u8 *p)
{
	return (__u16)(p[0] | p[1] << 8);
}

static __u32 get_le32(const __u8 *p)
{
	return get_le16(p) | (__u32)get_le16(p + 2) << 16;
}

/* Whether [start, start + len) lies in [0, size), whatever the values are */
static bool within(__u64 start, __u64 len, __u64 size)
{
	return start <= size && len <= size - start;
}

/**
 * struct elf_load - an ELF file on its way into memory
 * @sink: where to
 * @ph: its loadable segments
 * @count: how many
 * @entry: e_entry
 * @low: start of the lowest segment, gpa
 * @high: end of the highest
 * @need: bytes of the file that hold all segments
 * @pos: bytes of the file seen
 */
struct elf_load {
	const struct vireo_sink *sink;
	Elf64_Phdr ph[ELF_MAX_PHDRS];
	unsigned int count;
	__u64 entry;
	__u64 low;
	__u64 high;
	__u64 need;
	__u64 pos;
};

static bool elf_is(const void *data, size_t len)
{
	return len >= SELFMAG && !memcmp(data, ELFMAG, SELFMAG);
}

static int elf_header(const void *data, size_t len, Elf64_Ehdr *eh, struct vireo_error *err)
{
	if (len < sizeof(*eh) || !elf_is(data, len))
		return vireo_fail(err, ENOEXEC, "it holds no ELF kernel, or is truncated");
	memcpy(eh, data, sizeof(*eh));
	if (eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_ident[EI_DATA] != ELFDATA2LSB ||
	    eh->e_machine != EM_X86_64)
		return vireo_fail(err, ENOEXEC, "its ELF kernel is not for x86-64");
	if (eh->e_type != ET_EXEC)
		return vireo_fail(err, ENOEXEC, "it is an ELF file, but no executable kernel");
	if (eh->e_phentsize != sizeof(Elf64_Phdr) || !eh->e_phnum ||
	    eh->e_phnum > ELF_MAX_PHDRS ||
	    !within(eh->e_phoff, eh->e_phnum * sizeof(Elf64_Phdr), len))
		return vireo_fail(err, ENOEXEC, "its ELF program headers are unusable");
	return 0;
}

static int elf_segment(struct elf_load *load, const Elf64_Phdr *ph, struct vireo_error *err)
{
	const struct vireo_sink *sink = load->sink;

	if (ph->p_filesz > ph->p_memsz || ph->p_offset > UINT64_MAX - ph->p_filesz)
		return vireo_fail(err, ENOEXEC, "an ELF segment of it has impossible sizes");
	if (ph->p_paddr < sink->base || !within(ph->p_paddr, ph->p_memsz, sink->end))
		return vireo_fail(err, ENOMEM,
				  "it wants memory from 0x%llx to 0x%llx, the guest has 0x%llx to 0x%llx: give it more --memory",
				  (__u64)ph->p_paddr, (__u64)(ph->p_paddr + ph->p_memsz),
				  sink->base, sink->end);
	if (ph->p_paddr < load->low)
		load->low = ph->p_paddr;
	if (ph->p_paddr + ph->p_memsz > load->high)
		load->high = ph->p_paddr + ph->p_memsz;
	if (ph->p_filesz && ph->p_offset + ph->p_filesz > load->need)
		load->need = ph->p_offset + ph->p_filesz;
	load->ph[load->count++] = *ph;
	return 0;
}

/* Read the headers from the first bytes of the file. */
static int elf_begin(struct elf_load *load, const void *data, size_t len,
		     struct vireo_error *err)
{
	Elf64_Ehdr eh;
	Elf64_Phdr ph;
	unsigned int i;
	int ret;

	ret = elf_header(data, len, &eh, err);
	if (ret)
		return ret;
	load->low = UINT64_MAX;
	for (i = 0; i < eh.e_phnum; i++) {
		memcpy(&ph, (const __u8 *)data + eh.e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type != PT_LOAD || !ph.p_memsz)
			continue;
		ret = elf_segment(load, &ph, err);
		if (ret)
			return ret;
	}
	if (!load->count)
		return vireo_fail(err, ENOEXEC, "its ELF kernel has nothing to load");
	load->entry = eh.e_entry;
	return 0;
}

/* vireo_feed_fn: the next bytes of the file */
static int elf_feed(void *ctx, const void *data, size_t len, struct vireo_error *err)
{
	struct elf_load *load = ctx;
	const Elf64_Phdr *ph;
	__u64 from, to;
	unsigned int i;
	int ret;

	if (!load->pos) {
		ret = elf_begin(load, data, len, err);
		if (ret)
			return ret;
	}
	for (i = 0; i < load->count; i++) {
		ph = &load->ph[i];
		from = ph->p_offset > load->pos ? ph->p_offset : load->pos;
		to = ph->p_offset + ph->p_filesz;
		if (to > load->pos + len)
			to = load->pos + len;
		if (from >= to)
			continue;
		ret = load->sink->write(load->sink->ctx, ph->p_paddr + (from - ph->p_offset),
					(const __u8 *)data + (from - load->pos), to - from, err);
		if (ret)
			return ret;
	}
	load->pos += len;
	return 0;
}

static bool elf_loaded_at(const struct elf_load *load, __u64 gpa)
{
	unsigned int i;

	for (i = 0; i < load->count; i++) {
		if (gpa >= load->ph[i].p_paddr &&
		    gpa - load->ph[i].p_paddr < load->ph[i].p_memsz)
			return true;
	}
	return false;
}

static int elf_end(const struct elf_load *load, __u64 entry, struct vireo_error *err)
{
	if (load->pos < load->need)
		return vireo_fail(err, EINVAL,
				  "it is truncated: %llu bytes of its ELF kernel are there, %llu are needed",
				  load->pos, load->need);
	if (!elf_loaded_at(load, entry))
		return vireo_fail(err, ENOEXEC, "its entry 0x%llx lies outside of it", entry);
	return 0;
}

/* The PVH entry among the notes in @data, 0 if there is none */
static __u64 note_pvh_entry(const __u8 *data, __u64 len)
{
	__u64 pos = 0, name, desc;
	Elf64_Nhdr nh;

	while (within(pos, sizeof(nh), len)) {
		memcpy(&nh, data + pos, sizeof(nh));
		name = pos + sizeof(nh);
		desc = name + (((__u64)nh.n_namesz + 3) & ~3ULL);
		if (!within(desc, nh.n_descsz, len))
			return 0;
		if (nh.n_type == NOTE_PVH_ENTRY && nh.n_namesz == 4 &&
		    !memcmp(data + name, "Xen", 4) && nh.n_descsz >= 4)
			return get_le32(data + desc);
		pos = desc + (((__u64)nh.n_descsz + 3) & ~3ULL);
	}
	return 0;
}

static __u64 elf_pvh_entry(const __u8 *image, size_t size)
{
	Elf64_Ehdr eh;
	Elf64_Phdr ph;
	__u64 entry;
	unsigned int i;

	memcpy(&eh, image, sizeof(eh));
	for (i = 0; i < eh.e_phnum; i++) {
		memcpy(&ph, image + eh.e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type != PT_NOTE || !within(ph.p_offset, ph.p_filesz, size))
			continue;
		entry = note_pvh_entry(image + ph.p_offset, ph.p_filesz);
		if (entry)
			return entry;
	}
	return 0;
}

static int load_elf(const __u8 *image, size_t size, const struct vireo_sink *sink,
		    struct vireo_kernel *kernel, struct vireo_error *err)
{
	struct elf_load load = { .sink = sink };
	Elf64_Ehdr eh;
	__u64 entry;
	int ret;

	/* What elf_pvh_entry() relies on. */
	ret = elf_header(image, size, &eh, err);
	if (ret)
		return ret;
	entry = elf_pvh_entry(image, size);
	if (!entry)
		return vireo_fail(err, ENOEXEC,
				  "it is an ELF file without PVH entry: build it with CONFIG_PVH, or use its bzImage");
	ret = elf_feed(&load, image, size, err);
	if (!ret)
		ret = elf_end(&load, entry, err);
	if (ret)
		return ret;

	kernel->how = VIREO_ENTRY_PVH;
	kernel->entry = entry;
	kernel->start = load.low;
	kernel->end = load.high;
	kernel->cmdline_max = PVH_CMDLINE_MAX;
	kernel->initrd_max = PVH_INITRD_MAX;
	return 0;
}

/* Whether the buffer begins like a bzImage; what is wrong with it comes later. */
static bool bz_is(const __u8 *image, size_t size)
{
	return size >= BZ_HEADER_MIN && get_le16(image + BZ_BOOT_FLAG) == 0xaa55 &&
	       !memcmp(image + BZ_MAGIC, "HdrS", 4);
}

/* Find the payload; its offset counts from the end of the real-mode sectors. */
static int bz_payload(const __u8 *image, size_t size, const __u8 **data, size_t *len,
		      struct vireo_error *err)
{
	__u64 sects = image[BZ_SETUP_SECTS] ? image[BZ_SETUP_SECTS] : 4;
	__u64 start = (sects + 1) * 512 + get_le32(image + BZ_PAYLOAD_OFFSET);
	__u64 bytes = get_le32(image + BZ_PAYLOAD_LENGTH);

	if (get_le16(image + BZ_VERSION) < BZ_VERSION_MIN)
		return vireo_fail(err, ENOEXEC,
				  "its boot protocol is %u.%u: 2.12 (Linux 3.8) is the oldest supported",
				  image[BZ_VERSION + 1], image[BZ_VERSION]);
	if (!(get_le16(image + BZ_XLOADFLAGS) & BZ_XLF_KERNEL_64))
		return vireo_fail(err, ENOEXEC, "it is not a 64-bit kernel");
	if (!within(start, bytes, size))
		return vireo_fail(err, EINVAL,
				  "it is truncated: %zu bytes are there, at least %llu are needed",
				  size, start + bytes);
	*data = image + start;
	*len = bytes;
	return 0;
}

static int load_bz(const __u8 *image, size_t size, const struct vireo_sink *sink,
		   struct vireo_kernel *kernel, struct vireo_error *err)
{
	struct elf_load load = { .sink = sink };
	const __u8 *payload = NULL;
	size_t len = 0, end;
	int ret;

	ret = bz_payload(image, size, &payload, &len, err);
	if (!ret)
		ret = vireo_payload_unpack(payload, len, sink->end - sink->base, elf_feed, &load,
					   err);
	if (!ret)
		ret = elf_end(&load, load.entry, err);
	if (ret)
		return ret;

	kernel->how = VIREO_ENTRY_LINUX64;
	kernel->entry = load.entry;
	/* Not the header's init_size: that is for a kernel that unpacks itself. */
	kernel->start = load.low;
	kernel->end = load.high;
	end = BZ_MAGIC + image[BZ_JUMP_LEN];
	if (end > BZ_HEADER_END)
		end = BZ_HEADER_END;
	kernel->header = image + BZ_SETUP_SECTS;
	kernel->header_len = end > BZ_HEADER_MIN ? end - BZ_SETUP_SECTS :
						   BZ_HEADER_MIN - BZ_SETUP_SECTS;
	kernel->cmdline_max = get_le32(image + BZ_CMDLINE_SIZE);
	kernel->initrd_max = get_le32(image + BZ_INITRD_MAX);
	return 0;
}

/**
 * vireo_kernel_load - load a kernel image
 * @image: the file
 * @size: its bytes
 * @sink: takes its segments; [@sink->base, @sink->end) reads as zero before
 * @kernel: filled in; @kernel->header points into @image
 * @err: why not, as what follows "FILE: "
 *
 * Return: 0, what the sink returned, ENOEXEC (not a kernel, or not one for this
 * machine), EINVAL (damaged or truncated), EFBIG or ENOMEM (more than the guest
 * has), EOPNOTSUPP (compression).  On failure some of it may have been written.
 */
int vireo_kernel_load(const void *image, size_t size, const struct vireo_sink *sink,
		      struct vireo_kernel *kernel, struct vireo_error *err)
{
	const __u8 *p = image;

	memset(kernel, 0, sizeof(*kernel));
	if (elf_is(p, size))
		return load_elf(p, size, sink, kernel, err);
	if (bz_is(p, size) && size > BZ_HEADER_END)
		return load_bz(p, size, sink, kernel, err);
	if (!size)
		return vireo_fail(err, ENOEXEC, "it is empty");
	return vireo_fail(err, ENOEXEC,
			  "it is no kernel: neither a bzImage nor an ELF file, or truncated");
}
