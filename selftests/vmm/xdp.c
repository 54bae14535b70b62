// SPDX-License-Identifier: GPL-2.0
/*
 * xdp INTERFACE drop|pass|off [generic]: an XDP program of two instructions for an
 * interface, in its driver or before it.
 */
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int load(int verdict)
{
	const struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = verdict },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_XDP, .insn_cnt = 2, .insns = (uintptr_t)code,
		.license = (uintptr_t)"GPL",
	};

	return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
}

struct request {
	struct nlmsghdr head;
	struct ifinfomsg link;
	struct rtattr xdp;
	struct rtattr fd;
	int program;
	struct rtattr flags;
	unsigned int mode;
};

/* Returns an errno. */
static int attach(const char *name, int program, unsigned int mode)
{
	struct request m = {
		.head = {
			.nlmsg_len = sizeof(m), .nlmsg_type = RTM_SETLINK,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
		},
		.link.ifi_index = (int)if_nametoindex(name),
		.xdp = {
			.rta_len = sizeof(m) - offsetof(struct request, xdp),
			.rta_type = IFLA_XDP | NLA_F_NESTED,
		},
		.fd = { .rta_len = RTA_LENGTH(4), .rta_type = IFLA_XDP_FD },
		.program = program,
		.flags = { .rta_len = RTA_LENGTH(4), .rta_type = IFLA_XDP_FLAGS },
		.mode = mode,
	};
	struct {
		struct nlmsghdr head;
		struct nlmsgerr err;
		char rest[512];
	} answer;
	int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (s < 0 || send(s, &m, sizeof(m), 0) != sizeof(m) ||
	    recv(s, &answer, sizeof(answer), 0) < (ssize_t)NLMSG_LENGTH(sizeof(answer.err)))
		return errno;
	close(s);
	return -answer.err.error;
}

int main(int argc, char **argv)
{
	unsigned int mode = argc > 3 ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE;
	int program = -1, code;

	if (argc < 3) {
		fprintf(stderr, "usage: xdp INTERFACE drop|pass|off [generic]\n");
		return 2;
	}
	if (strcmp(argv[2], "off")) {
		program = load(strcmp(argv[2], "drop") ? XDP_PASS : XDP_DROP);
		if (program < 0) {
			fprintf(stderr, "xdp: cannot load: %s\n", strerror(errno));
			return 1;
		}
	}
	code = attach(argv[1], program, mode);
	if (code)
		fprintf(stderr, "xdp: %s: %s\n", argv[1], strerror(code));
	return !!code;
}
