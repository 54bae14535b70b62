// SPDX-License-Identifier: GPL-2.0
/* vireo doctor: what this machine has or lacks, a line each, and how to mend it. */
#include <cpuid.h>
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <json-c/json.h>

#include "builtin.h"

static const char doctor_help[] =
	"usage: vireo doctor [--json]\n"
	"\n"
	"Say in one line each what this machine has or lacks, and how to mend it.\n"
	"Exit status: 0 nothing that is needed is missing, 1 something is, 2 usage.\n"
	"\n"
	"  -j, --json   as a JSON array\n";

static const struct option doctor_options[] = {
	{ "json", no_argument, NULL, 'j' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 }
};

enum verdict {
	GOOD,		/* as it should be */
	WARN,		/* works, but */
	BAD,		/* no virtual machine runs */
};

/**
 * struct finding - the outcome of a check
 * @verdict: how good that is
 * @text: what was found
 * @mend: what to do, "" if nothing
 */
struct finding {
	enum verdict verdict;
	char text[320];
	char mend[160];
};

static void found(struct finding *f, enum verdict what, const char *text, const char *mend)
{
	f->verdict = what;
	snprintf(f->text, sizeof(f->text), "%s", text);
	snprintf(f->mend, sizeof(f->mend), "%s", mend);
}

/* The first line of a small file, without newline; false if it cannot be read. */
static bool read_line(const char *path, char *buf, size_t len)
{
	FILE *file = fopen(path, "re");
	bool ok;

	if (!file)
		return false;
	ok = fgets(buf, (int)len, file);
	fclose(file);
	if (ok)
		buf[strcspn(buf, "\n")] = '\0';
	return ok;
}

/* Whether the first processor has a flag; "vmx flags" are a line of their own. */
static bool cpu_has(const char *flag)
{
	static char line[16384];
	char word[64];
	bool has = false;
	FILE *file;

	file = fopen("/proc/cpuinfo", "re");
	if (!file)
		return false;
	snprintf(word, sizeof(word), " %s ", flag);
	while (!has && fgets(line, sizeof(line), file)) {
		if (strncmp(line, "flags", 5) && strncmp(line, "vmx flags", 9))
			continue;
		line[strcspn(line, "\n")] = ' ';
		has = strstr(line, word);
	}
	fclose(file);
	return has;
}

static bool module_loaded(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/module/%s", name);
	return !access(path, F_OK);
}

/* The kernel hides VT-x where the firmware has locked it off; the processor does not. */
static bool vmx_locked(void)
{
	unsigned int eax, ebx, ecx, edx;

	return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & 1U << 5) && !cpu_has("vmx");
}

static void check_extension(struct finding *f)
{
	if (cpu_has("svm"))
		found(f, GOOD, "AMD-V", "");
	else if (cpu_has("vmx"))
		found(f, GOOD, "VT-x", "");
	else if (vmx_locked())
		found(f, BAD, "VT-x, which the firmware has locked off",
		      "switch it on in the firmware's set-up, and the machine off and on");
	else
		found(f, BAD, "the processor shows neither AMD-V (svm) nor VT-x (vmx)",
		      "switch it on in the firmware; within a virtual machine, allow nested virtualization");
}

static void check_nested_paging(struct finding *f)
{
	if (cpu_has("npt") || (cpu_has("ept") && cpu_has("unrestricted_guest")))
		found(f, GOOD, "supported", "");
	else if (cpu_has("ept"))
		found(f, BAD, "the processor's VT-x has no unrestricted guest",
		      "it is too old for Vireo");
	else if (cpu_has("vmx"))
		found(f, BAD, "the processor's VT-x has no EPT", "it is too old for Vireo");
	else if (cpu_has("svm"))
		found(f, BAD, "the processor has no nested paging (npt)",
		      "it is too old for Vireo");
	else
		found(f, BAD, "not without the extension", "see above");
}

static void check_module(struct finding *f)
{
	struct utsname uts;
	char mend[160];

	if (module_loaded("vireo")) {
		found(f, GOOD, "loaded", "");
		return;
	}
	uname(&uts);
	snprintf(mend, sizeof(mend), "modprobe vireo (built for %.64s: make && make install)",
		 uts.release);
	found(f, BAD, "vireo.ko is not loaded", mend);
}

/* Not getgrnam(): a static program cannot rely on it. */
static bool group_exists(const char *name)
{
	size_t len = strlen(name);
	char line[1024];
	bool exists = false;
	FILE *file;

	file = fopen("/etc/group", "re");
	if (!file)
		return false;
	while (!exists && fgets(line, sizeof(line), file))
		exists = !strncmp(line, name, len) && line[len] == ':';
	fclose(file);
	return exists;
}

static void check_device(struct finding *f)
{
	struct vireo_error err;
	struct vireo_info info;
	int fd;

	fd = vireo_device_open(&info, &err);
	if (fd >= 0) {
		close(fd);
		found(f, GOOD, VIREO_DEVICE " answers", "");
		return;
	}
	switch (err.code) {
	case ENOENT:
	case ENXIO:
		found(f, BAD, VIREO_DEVICE " does not exist", "modprobe vireo");
		break;
	case EACCES:
	case EPERM:
		found(f, BAD, VIREO_DEVICE " may not be opened by this user",
		      group_exists("vireo") ? "usermod -aG vireo USER, then log in again" :
					  "groupadd -r vireo, reload the module, usermod -aG vireo USER");
		break;
	default:
		found(f, BAD, err.text, "see dmesg");
	}
}

static void check_version(struct finding *f)
{
	struct vireo_error err;
	struct vireo_info info;
	char version[64] = "";
	char text[160];
	int fd;

	fd = vireo_device_open(&info, &err);
	if (fd >= 0)
		close(fd);
	read_line("/sys/module/vireo/version", version, sizeof(version));
	snprintf(text, sizeof(text), "tool %s (interface %u), module %s", VIREO_VERSION,
		 VIREO_API_VERSION, *version ? version : "of unknown version");
	if (fd < 0 && err.code == EPROTO)
		found(f, BAD, err.text, "install both from one release");
	else if (*version && strcmp(version, VIREO_VERSION))
		found(f, WARN, text, "install both from one release");
	else
		found(f, GOOD, text, "");
}

static void check_other_hypervisor(struct finding *f)
{
	static const char *const others[] = { "kvm_amd", "kvm_intel", "vboxdrv", "vmmon" };
	char text[160], mend[160];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(others); i++) {
		if (!module_loaded(others[i]))
			continue;
		snprintf(text, sizeof(text), "%s is loaded and may hold the extension", others[i]);
		snprintf(mend, sizeof(mend), "if `vireo run` says so: rmmod %s", others[i]);
		found(f, WARN, text, mend);
		return;
	}
	found(f, GOOD, "none", "");
}

static void check_tsc(struct finding *f)
{
	char source[64] = "";

	read_line("/sys/devices/system/clocksource/clocksource0/current_clocksource", source,
		  sizeof(source));
	if (cpu_has("constant_tsc") && cpu_has("nonstop_tsc") && !strcmp(source, "tsc"))
		found(f, GOOD, "stable", "");
	else if (cpu_has("constant_tsc") && cpu_has("nonstop_tsc"))
		found(f, WARN, "invariant, but the host does not use it as its clock",
		      "see dmesg for the reason (clocksource)");
	else
		found(f, WARN, "not invariant: clocks of guests may be inexact",
		      "nothing; the processor or the hypervisor around this machine lacks it");
}

/* The tightest memory.max from this process's cgroup (v2) upwards, 0: none */
static __u64 cgroup_limit(char *where, size_t len)
{
	char path[512], file[600], value[64];
	__u64 limit = 0, n;
	char *slash;

	if (!read_line("/proc/self/cgroup", path, sizeof(path)) || strncmp(path, "0::/", 4))
		return 0;
	memmove(path, path + 3, strlen(path + 3) + 1);
	for (;;) {
		snprintf(file, sizeof(file), "/sys/fs/cgroup%s/memory.max", path);
		if (read_line(file, value, sizeof(value)) &&
		    !parse_number(value, 0, ~0ULL, &n) && (!limit || n < limit)) {
			limit = n;
			snprintf(where, len, "%.100s", path);
		}
		slash = strrchr(path, '/');
		if (!slash)
			return limit;
		*slash = '\0';
	}
}

static void check_cgroup(struct finding *f)
{
	char where[128] = "", size[32], text[200];
	__u64 limit = cgroup_limit(where, sizeof(where));

	if (!limit) {
		found(f, GOOD, "no limit", "");
		return;
	}
	format_size(limit, size, sizeof(size));
	snprintf(text, sizeof(text), "%s may use %s, guests and all", where, size);
	found(f, limit < 256 * VIREO_MIB ? WARN : GOOD, text,
	      limit < 256 * VIREO_MIB ? "raise memory.max of the cgroup" : "");
}

/*
 * What the kernel says of the processor's leaks.  The module does against each what
 * the kernel does; iTLB multihit is another matter, and says only what KVM does.
 */
static void check_leaks(struct finding *f)
{
	static const char dir[] = "/sys/devices/system/cpu/vulnerabilities";
	char path[320], line[256], open[256] = "";
	struct dirent *entry;
	DIR *d = opendir(dir);
	size_t len = 0;

	if (!d) {
		found(f, WARN, "the kernel does not say", "");
		return;
	}
	while ((entry = readdir(d))) {
		snprintf(path, sizeof(path), "%s/%.64s", dir, entry->d_name);
		if (entry->d_name[0] == '.' || !strcmp(entry->d_name, "itlb_multihit") ||
		    !read_line(path, line, sizeof(line)) || !strstr(line, "ulnerable"))
			continue;
		len += (size_t)snprintf(open + len, sizeof(open) - len, " %.31s", entry->d_name);
		if (len >= sizeof(open) - 32)
			break;
	}
	closedir(d);
	snprintf(path, sizeof(path), "guests are not kept from%s", open);
	found(f, *open ? WARN : GOOD, *open ? path : "closed, as far as known",
	      *open ? "newer microcode, or the kernel's mitigations= and nosmt" : "");
}

static void check_headers(struct finding *f)
{
	struct utsname uts;
	char path[160], text[160];

	uname(&uts);
	snprintf(path, sizeof(path), "/lib/modules/%.64s/build/Makefile", uts.release);
	if (!access(path, R_OK)) {
		found(f, GOOD, "there", "");
		return;
	}
	snprintf(text, sizeof(text), "none for %.64s: the module cannot be built here",
		 uts.release);
	snprintf(path, sizeof(path), "apt install linux-headers-%.64s", uts.release);
	found(f, WARN, text, path);
}

static const struct {
	const char *name;
	void (*check)(struct finding *f);
} checks[] = {
	{ "extension", check_extension },
	{ "nested paging", check_nested_paging },
	{ "module", check_module },
	{ "device", check_device },
	{ "version", check_version },
	{ "other hypervisor", check_other_hypervisor },
	{ "TSC", check_tsc },
	{ "memory limit", check_cgroup },
	{ "speculation", check_leaks },
	{ "kernel headers", check_headers },
};

static const char *verdict_name(enum verdict verdict)
{
	static const char *const names[] = {
		[GOOD] = "ok", [WARN] = "warning", [BAD] = "missing",
	};

	return names[verdict];
}

static void report(struct json_object *json, const char *name, const struct finding *f)
{
	struct json_object *o;

	if (!json) {
		printf("%-8s %-17s %s%s%s\n", verdict_name(f->verdict), name, f->text,
		       *f->mend ? ": " : "", f->mend);
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "check", json_object_new_string(name));
	json_object_object_add(o, "verdict", json_object_new_string(verdict_name(f->verdict)));
	json_object_object_add(o, "found", json_object_new_string(f->text));
	json_object_object_add(o, "mend", json_object_new_string(f->mend));
	json_object_array_add(json, o);
}

int cmd_doctor(int argc, char **argv)
{
	struct json_object *json = NULL;
	int status = STATUS_OK, c;
	struct finding f;
	size_t i;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "jh", doctor_options, NULL)) != -1) {
		if (c == 'h') {
			fputs(doctor_help, stdout);
			return STATUS_OK;
		}
		if (c == '?')
			return usage_error("doctor", "unknown option %s", argv[optind - 1]);
		if (!json)
			json = json_object_new_array();
	}
	if (optind < argc)
		return usage_error("doctor", "unexpected argument `%s`", argv[optind]);
	for (i = 0; i < ARRAY_SIZE(checks); i++) {
		checks[i].check(&f);
		report(json, checks[i].name, &f);
		if (f.verdict == BAD)
			status = STATUS_ERROR;
	}
	if (json)
		puts(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PRETTY |
						    JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(json);
	return status;
}
