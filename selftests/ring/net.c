// SPDX-License-Identifier: GPL-2.0
/* Network queues: frames both ways, offloads, limits, and the interface's life. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "harness.h"
#include "host.h"
#include "nic.h"
#include "ring.h"

static u8 out[70000], in[70000];

static s64 link_number(struct nic *nic, const char *what)
{
	char path[80];

	snprintf(path, sizeof(path), "/sys/class/net/%s/%s", nic->name, what);
	return file_number(path, NULL);
}

/* ---- frames ------------------------------------------------------------------------- */

TEST(both_ways)
{
	struct vireo_net_info info, none = {};
	struct vireo_queue_stat stat;
	struct nic nic;

	nic_open(&nic, &(struct nic_config) {});
	frame_plain(out, nic_peer, nic_mac, 60);
	EXPECT_EQ(nic_tx_frame(&nic, out, 60), VIREO_COMP_OK);
	EXPECT_EQ(nic_recv(&nic, in, sizeof(in)), 60);
	EXPECT_EQ(memcmp(in, out, 60), 0);

	nic_post(&nic, 0, 4, 2048);
	frame_plain(out, nic_mac, nic_peer, 90);
	EXPECT_EQ(nic_send(&nic, out, 90), 90);
	EXPECT_EQ(nic_rx(&nic, 0, in, sizeof(in), &info), 90);
	EXPECT_EQ(memcmp(in, out, 90), 0);
	EXPECT_EQ(memcmp(&info, &none, sizeof(info)), 0);

	EXPECT_EQ(link_number(&nic, "statistics/rx_packets"), 1);
	EXPECT_EQ(link_number(&nic, "statistics/rx_bytes"), 60);
	EXPECT_EQ(link_number(&nic, "statistics/tx_packets"), 1);
	EXPECT_EQ(link_number(&nic, "statistics/tx_bytes"), 90);
	nic_stat(&nic.ring[1], &stat);
	EXPECT_EQ(stat.entries, 1);
	EXPECT_EQ(stat.bytes, 60);
	EXPECT_EQ(stat.doorbells, 1);
	EXPECT_EQ(stat.in_flight, 0);
	nic_stat(&nic.ring[0], &stat);
	EXPECT_EQ(stat.entries, 4);
	EXPECT_EQ(stat.bytes, 90);
	EXPECT_EQ(stat.in_flight, 3);
	nic_close(&nic);
}

/* A frame in many pieces, some of them across pages */
TEST(segments)
{
	struct vireo_seg list[VIREO_RING_INDIRECT];
	struct vireo_net_tx e;
	struct nic nic;
	u32 i, at;

	nic_open(&nic, &(struct nic_config) {});
	frame_plain(out, nic_peer, nic_mac, 1514);
	nic_tx_entry(&nic, &e, NIC_BUFS + 0xff0, out, 1514);
	e.nsegs = 3;
	e.seg[0].len = 1;
	e.seg[1] = (struct vireo_seg) { .gpa = NIC_BUFS + 0xff1, .len = 500 };
	e.seg[2] = (struct vireo_seg) { .gpa = NIC_BUFS + 0xff1 + 500, .len = 1013 };
	EXPECT_EQ(nic_tx(&nic, &e), VIREO_COMP_OK);
	EXPECT_EQ(nic_recv(&nic, in, sizeof(in)), 1514);
	EXPECT_EQ(memcmp(in, out, 1514), 0);

	for (i = 0, at = 0; i < ARRAY_SIZE(list); i++) {
		u32 len = i < ARRAY_SIZE(list) - 1 ? 5 : 1514 - at;

		list[i] = (struct vireo_seg) { .gpa = NIC_BUFS + 0xff0 + at, .len = len };
		at += len;
	}
	vm_write(&nic.vm, NIC_LISTS, list, sizeof(list));
	memset(e.seg, 0, sizeof(e.seg));
	e.flags = VIREO_SUB_INDIRECT;
	e.nsegs = ARRAY_SIZE(list);
	e.seg[0] = (struct vireo_seg) { .gpa = NIC_LISTS, .len = sizeof(list) };
	EXPECT_EQ(nic_tx(&nic, &e), VIREO_COMP_OK);
	EXPECT_EQ(nic_recv(&nic, in, sizeof(in)), 1514);
	EXPECT_EQ(memcmp(in, out, 1514), 0);
	nic_close(&nic);
}

/* Memory that the guest never touched is there, and zero */
TEST(untouched_memory)
{
	static const u8 zero[1000];
	struct vireo_net_tx e = {
		.nsegs = 2, .tag = 7,
		.seg = { { .gpa = NIC_BUFS, .len = 14 }, { .gpa = NIC_RAM - 1000, .len = 1000 } },
	};
	struct nic nic;

	nic_open(&nic, &(struct nic_config) {});
	frame_plain(out, nic_peer, nic_mac, 14);
	vm_write(&nic.vm, NIC_BUFS, out, 14);
	EXPECT_EQ(nic_tx(&nic, &e), VIREO_COMP_OK);
	EXPECT_EQ(nic_recv(&nic, in, sizeof(in)), 1014);
	EXPECT_EQ(memcmp(in + 14, zero, sizeof(zero)), 0);
	nic_close(&nic);
}

TEST(every_length)
{
	struct vireo_net_info info;
	struct nic nic;
	u32 len;

	nic_open(&nic, &(struct nic_config) {});
	for (len = 14; len <= 1514; len += len < 70 || len > 1500 ? 1 : 119) {
		frame_plain(out, nic_peer, nic_mac, len);
		EXPECT_EQ(nic_tx_frame(&nic, out, len), VIREO_COMP_OK);
		EXPECT_EQ(nic_recv(&nic, in, sizeof(in)), len);
		EXPECT_EQ(memcmp(in, out, len), 0);

		nic_post(&nic, 0, 1, 2048);
		frame_plain(out, nic_mac, nic_peer, len);
		EXPECT_EQ(nic_send(&nic, out, len), len);
		EXPECT_EQ(nic_rx(&nic, 0, in, sizeof(in), &info), len);
		EXPECT_EQ(memcmp(in, out, len), 0);
	}
	nic_close(&nic);
}

/* Many at once: more than a ring has, in order */
TEST(many)
{
	struct vireo_net_tx e;
	struct vireo_comp comp;
	u32 i, round, n = 64;
	struct nic nic;

	nic_open(&nic, &(struct nic_config) {});
	for (round = 0; round < 5; round++) {
		for (i = 0; i < n; i++) {
			frame_plain(out, nic_peer, nic_mac, 100 + i);
			nic_tx_entry(&nic, &e, NIC_BUFS + i * 4096, out, 100 + i);
			e.tag = i;
			nic_put(&nic, &nic.ring[1], &e);
		}
		EXPECT_EQ(nic_bell(&nic, 1), 0);
		for (i = 0; i < n; i++) {
			ASSERT_TRUE(nic_comp_wait(&nic, &nic.ring[1], &comp));
			EXPECT_EQ(comp.tag, i);
			EXPECT_EQ(comp.status, VIREO_COMP_OK);
			EXPECT_EQ(nic_recv(&nic, in, sizeof(in)), 100 + i);
		}
	}
	nic_close(&nic);
}

/* A packet goes on in the next buffer; all of its completions come at once */
TEST(mergeable)
{
	static const u32 buffers[] = { 256, 300, 1000, 1513, 1514, 4096 };
	struct vireo_net_info info;
	struct nic nic;
	u32 i, n;

	nic_open(&nic, &(struct nic_config) {});
	for (i = 0; i < ARRAY_SIZE(buffers); i++) {
		n = (1514 + buffers[i] - 1) / buffers[i];
		nic_post(&nic, 0, 2 * n, buffers[i]);
		frame_plain(out, nic_mac, nic_peer, 1514);
		EXPECT_EQ(nic_send(&nic, out, 1514), 1514);
		EXPECT_EQ(nic_send(&nic, out, 1514), 1514);
		memset(in, 0, 1514);
		EXPECT_EQ(nic_rx(&nic, 0, in, sizeof(in), &info), 1514);
		EXPECT_EQ(memcmp(in, out, 1514), 0);
		EXPECT_EQ(nic_rx(&nic, 0, in, sizeof(in), &info), 1514);
		EXPECT_EQ(nic.ring[0].head, nic.ring[0].tail);
	}
	nic_close(&nic);
}

/* ---- offloads ------------------------------------------------------------------------ */

static struct virtio_net_hdr *const host_hdr = (void *)in;
#define HDR	sizeof(struct virtio_net_hdr)

/* What the guest says of a packet is what the host's stack knows of it */
TEST(send_offloads)
{
	struct vireo_net_tx e;
	struct nic nic;
	u32 len, v6;

	nic_open(&nic, &(struct nic_config) { .accepted = NIC_CSUMS });
	nic_listen(&nic, true);
	for (v6 = 0; v6 < 2; v6++) {
		u32 start = v6 ? 54 : 34;

		len = frame_tcp(out, v6, nic_peer, nic_mac, 1000);
		nic_tx_entry(&nic, &e, NIC_BUFS, out, len);
		e.flags = VIREO_NET_CSUM;
		e.csum_start = start;
		e.csum_offset = 16;
		EXPECT_EQ(nic_tx(&nic, &e), VIREO_COMP_OK);
		EXPECT_EQ(nic_recv(&nic, in, sizeof(in)), HDR + len);
		EXPECT_EQ(memcmp(in + HDR, out, len), 0);
		EXPECT_EQ(host_hdr->flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
		EXPECT_EQ(host_hdr->csum_start, start);
		EXPECT_EQ(host_hdr->csum_offset, 16);
		EXPECT_EQ(host_hdr->gso_type, VIRTIO_NET_HDR_GSO_NONE);

		len = frame_tcp(out, v6, nic_peer, nic_mac, 60000);
		nic_tx_entry(&nic, &e, NIC_BUFS, out, len);
		e.flags = VIREO_NET_CSUM;
		e.csum_start = start;
		e.csum_offset = 16;
		e.gso_type = (v6 ? VIREO_NET_GSO_TCPV6 : VIREO_NET_GSO_TCPV4) | VIREO_NET_GSO_ECN;
		e.gso_size = 1400;
		EXPECT_EQ(nic_tx(&nic, &e), VIREO_COMP_OK);
		EXPECT_EQ(nic_recv(&nic, in, sizeof(in)), HDR + len);
		EXPECT_EQ(memcmp(in + HDR, out, len), 0);
		EXPECT_EQ(host_hdr->flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
		EXPECT_EQ(host_hdr->csum_start, start);
		EXPECT_EQ(host_hdr->gso_type, VIRTIO_NET_HDR_GSO_ECN |
			  (v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4));
		EXPECT_EQ(host_hdr->gso_size, 1400);
	}
	nic_close(&nic);
}

/* The longest packet there is */
TEST(send_longest)
{
	struct vireo_net_tx e;
	struct nic nic;
	u32 len;

	nic_open(&nic, &(struct nic_config) { .accepted = NIC_CSUMS });
	nic_listen(&nic, true);
	len = frame_tcp(out, false, nic_peer, nic_mac, 65535 - 40);
	EXPECT_EQ(len, 65549);
	nic_tx_entry(&nic, &e, NIC_BUFS + 5, out, len);
	e.flags = VIREO_NET_CSUM;
	e.csum_start = 34;
	e.csum_offset = 16;
	e.gso_type = VIREO_NET_GSO_TCPV4;
	e.gso_size = 1448;
	EXPECT_EQ(nic_tx(&nic, &e), VIREO_COMP_OK);
	EXPECT_EQ(nic_recv(&nic, in, sizeof(in)), HDR + len);
	EXPECT_EQ(memcmp(in + HDR, out, len), 0);
	/* The pieces, too, are no longer than the MTU says */
	e.gso_size = 1518 - FRAME_TCP4;
	EXPECT_EQ(nic_tx(&nic, &e), VIREO_COMP_OK);
	EXPECT_EQ(nic_recv(&nic, in, sizeof(in)), HDR + len);
	e.gso_size = 1519 - FRAME_TCP4;
	EXPECT_EQ(nic_tx(&nic, &e), VIREO_COMP_INVALID);
	e.gso_size = 65535 - 40;
	EXPECT_EQ(nic_tx(&nic, &e), VIREO_COMP_INVALID);
	/* What is no longer than a piece is a packet like any other */
	e.seg[0].len = frame_tcp(out, false, nic_peer, nic_mac, 1000);
	vm_write(&nic.vm, NIC_BUFS + 5, out, e.seg[0].len);
	EXPECT_EQ(nic_tx(&nic, &e), VIREO_COMP_OK);
	EXPECT_EQ(nic_recv(&nic, in, sizeof(in)), HDR + e.seg[0].len);
	EXPECT_EQ(host_hdr->gso_type, VIRTIO_NET_HDR_GSO_NONE);
	/* One byte beyond what a packet may have */
	e.gso_size = 1448;
	e.seg[0].len = 65554;
	EXPECT_EQ(nic_tx(&nic, &e), VIREO_COMP_INVALID);
	nic_close(&nic);
}

TEST(send_offloads_refused)
{
	struct vireo_net_tx e;
	struct nic nic;
	u32 len;

	nic_open(&nic, &(struct nic_config) {});
	len = frame_tcp(out, false, nic_peer, nic_mac, 1000);
	nic_tx_entry(&nic, &e, NIC_BUFS, out, len);
	e.flags = VIREO_NET_CSUM;
	e.csum_start = 34;
	e.csum_offset = 16;
	EXPECT_EQ(nic_tx(&nic, &e), VIREO_COMP_UNSUPPORTED);
	EXPECT_EQ(nic_set(nic.fd, 1, VIREO_NET_F_CSUM), 0);
	EXPECT_EQ(nic_tx(&nic, &e), VIREO_COMP_OK);
	e.gso_type = VIREO_NET_GSO_TCPV4;
	e.gso_size = 500;
	EXPECT_EQ(nic_tx(&nic, &e), VIREO_COMP_UNSUPPORTED);
	nic_close(&nic);
}

static u32 host_tcp(u8 *frame, bool v6, u32 payload, u32 gso)
{
	struct virtio_net_hdr hdr = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = v6 ? 54 : 34, .csum_offset = 16,
		.hdr_len = v6 ? FRAME_TCP6 : FRAME_TCP4, .gso_size = gso,
		.gso_type = !gso ? VIRTIO_NET_HDR_GSO_NONE : v6 ? VIRTIO_NET_HDR_GSO_TCPV6 :
								   VIRTIO_NET_HDR_GSO_TCPV4,
	};

	memcpy(frame, &hdr, HDR);
	return HDR + frame_tcp(frame + HDR, v6, nic_mac, nic_peer, payload);
}

/* A guest that takes them gets packets as the host's stack has them */
TEST(receive_offloads)
{
	struct vireo_net_info info;
	struct nic nic;
	u32 len, v6;

	nic_open(&nic, &(struct nic_config) { .accepted = NIC_RX_CSUMS });
	nic_listen(&nic, true);
	for (v6 = 0; v6 < 2; v6++) {
		nic_post(&nic, 0, 20, 4096);
		len = host_tcp(out, v6, 1000, 0);
		EXPECT_EQ(nic_send(&nic, out, len), len);
		EXPECT_EQ(nic_rx(&nic, 0, in, sizeof(in), &info), len - HDR);
		EXPECT_EQ(memcmp(in, out + HDR, len - HDR), 0);
		EXPECT_EQ(info.flags, VIREO_NET_CSUM);
		EXPECT_EQ(info.csum_start, v6 ? 54 : 34);
		EXPECT_EQ(info.csum_offset, 16);
		EXPECT_EQ(info.gso_type, VIREO_NET_GSO_NONE);

		len = host_tcp(out, v6, 50000, 1300);
		EXPECT_EQ(nic_send(&nic, out, len), len);
		EXPECT_EQ(nic_rx(&nic, 0, in, sizeof(in), &info), len - HDR);
		EXPECT_EQ(memcmp(in, out + HDR, len - HDR), 0);
		EXPECT_EQ(info.flags, VIREO_NET_CSUM | VIREO_NET_MORE);
		EXPECT_EQ(info.csum_start, v6 ? 54 : 34);
		EXPECT_EQ(info.gso_type, v6 ? VIREO_NET_GSO_TCPV6 : VIREO_NET_GSO_TCPV4);
		EXPECT_EQ(info.gso_size, 1300);
		while (nic.ring[0].head != nic.ring[0].tail) {
			len = HDR + frame_plain(out + HDR, nic_mac, nic_peer, 60);
			memset(out, 0, HDR);
			EXPECT_EQ(nic_send(&nic, out, len), len);
			EXPECT_EQ(nic_rx(&nic, 0, in, sizeof(in), &info), 60);
		}
	}
	nic_close(&nic);
}

/* For one that does not, the stack does the same in software */
TEST(receive_software)
{
	struct vireo_net_info info, none = {};
	u32 len, v6, i, seq, at;
	struct nic nic;
	int n;

	nic_open(&nic, &(struct nic_config) {});
	nic_listen(&nic, true);
	for (v6 = 0; v6 < 2; v6++) {
		at = v6 ? FRAME_TCP6 : FRAME_TCP4;
		nic_post(&nic, 0, 8, 2048);
		len = host_tcp(out, v6, 1000, 0);
		EXPECT_EQ(nic_send(&nic, out, len), len);
		EXPECT_EQ(nic_rx(&nic, 0, in, sizeof(in), &info), len - HDR);
		EXPECT_EQ(memcmp(&info, &none, sizeof(info)), 0);
		EXPECT_TRUE(frame_tcp_sums(in, len - HDR));

		len = host_tcp(out, v6, 5000, 1000);
		if (nic_send(&nic, out, len) == -EINVAL) {
			test_note("this kernel does not segment IPv%u", v6 ? 6 : 4);
			continue;
		}
		for (i = 0; i < 5; i++) {
			n = nic_rx(&nic, 0, in, sizeof(in), &info);
			EXPECT_EQ(n, at + 1000);
			EXPECT_EQ(memcmp(&info, &none, sizeof(info)), 0);
			EXPECT_TRUE(frame_tcp_sums(in, n));
			memcpy(&seq, in + at - 16, sizeof(seq));
			EXPECT_EQ(ntohl(seq), i * 1000);
			EXPECT_EQ(memcmp(in + at, out + HDR + at + i * 1000, 1000), 0);
		}
	}
	nic_close(&nic);
}

/* ---- XDP, as the host's stack does it for any interface ------------------------------------ */

/* A program that says @verdict to everything */
static int xdp_load(u32 verdict)
{
	const struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = verdict },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_XDP, .insns = (uintptr_t)code,
		.insn_cnt = ARRAY_SIZE(code), .license = (uintptr_t)"GPL",
	};

	return syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
}

TEST(xdp)
{
	struct vireo_net_info info;
	struct nic nic;
	int pass, bounce;

	pass = xdp_load(XDP_PASS);
	bounce = xdp_load(XDP_TX);
	if (pass < 0 || bounce < 0)
		SKIP("no BPF: %s", strerror(errno));
	nic_open(&nic, &(struct nic_config) {});
	nic_post(&nic, 0, 8, 2048);
	frame_plain(out, nic_peer, nic_mac, 60);
	ASSERT_EQ(rtnl_xdp(nic.ifindex, pass), 0);
	EXPECT_EQ(nic_tx_frame(&nic, out, 60), VIREO_COMP_OK);
	EXPECT_EQ(nic_recv(&nic, in, sizeof(in)), 60);
	ASSERT_EQ(rtnl_xdp(nic.ifindex, -1), 0);
	ASSERT_EQ(rtnl_xdp(nic.ifindex, bounce), 0);
	EXPECT_EQ(nic_tx_frame(&nic, out, 60), VIREO_COMP_OK);
	EXPECT_EQ(nic_rx(&nic, 0, in, sizeof(in), &info), 60);
	EXPECT_EQ(memcmp(in, out, 60), 0);
	EXPECT_TRUE(nic_quiet(&nic));
	nic_close(&nic);
}

/* ---- limits and rules ------------------------------------------------------------------ */

static int set_mtu(struct nic *nic, u32 mtu)
{
	struct ifreq ifr = { .ifr_mtu = mtu };
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), ret;

	strcpy(ifr.ifr_name, nic->name);
	ret = do_ioctl(s, SIOCSIFMTU, &ifr);
	close(s);
	return ret;
}

TEST(mtu)
{
	struct vireo_net_info info;
	struct vireo_net net;
	struct nic nic;

	nic_open(&nic, &(struct nic_config) { .mtu = 1000 });
	frame_plain(out, nic_peer, nic_mac, 9100);
	EXPECT_EQ(nic_tx_frame(&nic, out, 1018), VIREO_COMP_OK);	/* with a VLAN's tag */
	EXPECT_EQ(nic_recv(&nic, in, sizeof(in)), 1018);
	EXPECT_EQ(nic_tx_frame(&nic, out, 1019), VIREO_COMP_INVALID);
	EXPECT_EQ(nic_send(&nic, out, 1015), -EMSGSIZE);

	EXPECT_EQ(set_mtu(&nic, 9000), 0);
	EXPECT_EQ(nic_get(nic.fd, &net), 0);
	EXPECT_EQ(net.mtu, 9000);
	EXPECT_EQ(nic_tx_frame(&nic, out, 9018), VIREO_COMP_OK);
	EXPECT_EQ(nic_recv(&nic, in, sizeof(in)), 9018);
	EXPECT_EQ(memcmp(in, out, 9018), 0);
	EXPECT_EQ(nic_tx_frame(&nic, out, 9019), VIREO_COMP_INVALID);
	nic_post(&nic, 0, 3, 4096);
	EXPECT_EQ(nic_send(&nic, out, 9014), 9014);
	EXPECT_EQ(nic_rx(&nic, 0, in, sizeof(in), &info), 9014);

	EXPECT_EQ(set_mtu(&nic, 67), -EINVAL);
	EXPECT_EQ(set_mtu(&nic, 65522), -EINVAL);
	EXPECT_EQ(set_mtu(&nic, 68), 0);
	EXPECT_EQ(set_mtu(&nic, 65521), 0);
	nic_close(&nic);
}

TEST(mac_filter)
{
	static const u8 group[6] = { 0x33, 0x33, 0, 0, 0, 1 };
	static const u8 all[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	struct vireo_net_info info;
	struct nic nic;
	u32 filter;

	for (filter = 0; filter < 2; filter++) {
		nic_open(&nic, &(struct nic_config) { .flags = filter ? VIREO_NET_FILTER : 0 });
		nic_post(&nic, 0, 8, 2048);
		/* To somebody else, then three that arrive in any case */
		nic_send(&nic, out, frame_plain(out, nic_peer, nic_peer, 60));
		nic_send(&nic, out, frame_plain(out, nic_mac, nic_peer, 61));
		nic_send(&nic, out, frame_plain(out, all, nic_peer, 62));
		nic_send(&nic, out, frame_plain(out, group, nic_peer, 63));
		if (!filter)
			EXPECT_EQ(nic_rx(&nic, 0, in, sizeof(in), &info), 60);
		EXPECT_EQ(nic_rx(&nic, 0, in, sizeof(in), &info), 61);
		EXPECT_EQ(nic_rx(&nic, 0, in, sizeof(in), &info), 62);
		EXPECT_EQ(nic_rx(&nic, 0, in, sizeof(in), &info), 63);
		EXPECT_EQ(link_number(&nic, "statistics/tx_dropped"), filter);

		frame_plain(out, nic_peer, nic_peer, 60);	/* as somebody else */
		EXPECT_EQ(nic_tx_frame(&nic, out, 60), VIREO_COMP_OK);
		frame_plain(out, nic_peer, nic_mac, 61);
		EXPECT_EQ(nic_tx_frame(&nic, out, 61), VIREO_COMP_OK);
		if (!filter)
			EXPECT_EQ(nic_recv(&nic, in, sizeof(in)), 60);
		EXPECT_EQ(nic_recv(&nic, in, sizeof(in)), 61);
		nic_close(&nic);
	}
}

TEST(link)
{
	struct vireo_net net;
	struct nic nic;
	u32 i;

	nic_open(&nic, &(struct nic_config) { .down = true });
	EXPECT_EQ(nic_get(nic.fd, &net), 0);
	EXPECT_EQ(net.peer_up, 0);
	EXPECT_EQ(net.pairs, 0);
	nic_up(&nic, true);
	EXPECT_EQ(nic_get(nic.fd, &net), 0);
	EXPECT_EQ(net.peer_up, 1);
	EXPECT_EQ(link_number(&nic, "carrier"), 0);
	EXPECT_EQ(nic_queue(&nic, 0, 64), 0);
	EXPECT_EQ(nic_queue(&nic, 1, 64), 0);
	EXPECT_EQ(link_number(&nic, "carrier"), 0);
	EXPECT_EQ(nic_set(nic.fd, 1, 0), 0);
	EXPECT_EQ(link_number(&nic, "carrier"), 1);
	EXPECT_EQ(nic_set(nic.fd, 0, 0), 0);
	EXPECT_EQ(link_number(&nic, "carrier"), 0);
	EXPECT_EQ(nic_set(nic.fd, 1, 0), 0);
	EXPECT_EQ(link_number(&nic, "carrier"), 1);
	/* Without a queue what comes is dropped, whatever was said. */
	close(nic.ring[0].fd);
	nic.ring[0].fd = -1;
	nic_listen(&nic, false);
	for (i = 0; i < 50 && !link_number(&nic, "statistics/tx_dropped"); i++) {
		nic_send(&nic, out, frame_plain(out, nic_mac, nic_peer, 60));
		usleep(50000);	/* the stack takes a while to see the carrier */
	}
	EXPECT_NE(link_number(&nic, "statistics/tx_dropped"), 0);
	EXPECT_EQ(nic_queue(&nic, 0, 64), 0);
	nic_up(&nic, false);
	EXPECT_EQ(nic_get(nic.fd, &net), 0);
	EXPECT_EQ(net.peer_up, 0);
	/* What the guest sends to an interface that is down is gone, not stuck */
	frame_plain(out, nic_peer, nic_mac, 60);
	EXPECT_EQ(nic_tx_frame(&nic, out, 60), VIREO_COMP_OK);
	nic_close(&nic);
}

/* Interrupts: as the driver asks, pending while masked */
TEST(interrupts)
{
	struct vireo_queue_msi msi = {
		.size = sizeof(msi), .address = 0xfee00000, .data = 0x41, .flags = VIREO_MSI_MASKED,
	};
	struct vireo_net_info info;
	struct nic nic;
	u32 event = 2;

	nic_open(&nic, &(struct nic_config) {});
	vm_write(&nic.vm, nic.ring[0].base + offsetof(struct vireo_ring_ctl, comp_event), &event,
		 sizeof(event));
	nic_post(&nic, 0, 8, 2048);
	for (u32 i = 0; i < 4; i++) {
		EXPECT_EQ(do_ioctl(nic.ring[0].fd, VIREO_SET_MSI, &msi), i > 2);
		nic_send(&nic, out, frame_plain(out, nic_mac, nic_peer, 60));
		EXPECT_EQ(nic_rx(&nic, 0, in, sizeof(in), &info), 60);
	}
	EXPECT_EQ(do_ioctl(nic.ring[0].fd, VIREO_SET_MSI, &msi), 1);
	msi.flags = 0;
	EXPECT_EQ(do_ioctl(nic.ring[0].fd, VIREO_SET_MSI, &msi), 0);
	nic_close(&nic);
}

/* Doorbells are far fewer than packets when buffers are posted steadily */
TEST(few_doorbells)
{
	struct vireo_net_info info;
	u32 i, bells = 0, old;
	struct nic nic;
	u32 event;

	nic_open(&nic, &(struct nic_config) {});
	nic_post(&nic, 0, 64, 2048);
	for (i = 0; i < 640; i++) {
		struct vireo_net_rx e = { .nsegs = 1, .seg[0] = { .len = 2048 } };
		struct nic_ring *r = &nic.ring[0];

		nic_send(&nic, out, frame_plain(out, nic_mac, nic_peer, 60));
		ASSERT_EQ(nic_rx(&nic, 0, in, sizeof(in), &info), 60);
		e.tag = r->tail % 64;
		e.seg[0].gpa = NIC_BUFS + e.tag * 4096;
		old = r->tail;
		nic_put(&nic, r, &e);
		vm_read(&nic.vm, r->base + offsetof(struct vireo_ring_ctl, sub_event), &event,
			sizeof(event));
		if (vireo_ring_event(event, old, r->tail)) {
			ASSERT_EQ(nic_bell(&nic, 0), 0);
			bells++;
		}
	}
	test_note("%u doorbells for 640 buffers", bells);
	EXPECT_LE(bells, 30);
	nic_close(&nic);
}

/* ---- a driver that transmits much ------------------------------------------------------ */

#define TX_VECTOR	0x51
#define TX_ROUNDS	200
#define TX_BURST	16

static u32 tx_bells, tx_interrupts;

GUEST_HANDLER
static void guest_tx_interrupt(struct guest_frame *frame)
{
	tx_interrupts++;
	guest_eoi();
}

static void guest_tx_burst(struct ring *r)
{
	u32 i;

	for (i = 0; i < TX_BURST; i++) {
		struct vireo_net_tx *e;

		while (r->tail - r->head == r->entries)
			ring_wait(r);
		e = (void *)ring_next(r);
		e->nsegs = 1;
		e->tag = r->tail % r->entries;
		e->seg[0] = (struct vireo_seg) { .gpa = NIC_BUFS, .len = 60 };
		ring_put(r);
	}
	tx_bells += ring_kick(r);
}

/* What was put arrives, with a doorbell or without, whatever its sender does then. */
static void guest_transmits(u64 arg)
{
	struct vireo_comp comp;
	struct ring r;
	u32 round;

	guest_vector[TX_VECTOR] = guest_tx_interrupt;
	wrmsr(APIC_SVR, APIC_ENABLED);
	ring_open(&r, NIC_RINGS + 0x20000, 64, 1);
	for (round = 0; round < TX_ROUNDS; round++) {
		u32 had = tx_interrupts;

		WRITE_ONCE(r.ctl->comp_event, r.head - 1);
		guest_tx_burst(&r);
		if (round % 8 == 3) {	/* waits for it busily */
			while (r.head != r.tail)
				GUEST_EQ(ring_wait(&r).status, 0);
		} else if (round % 8 == 7) {	/* halts */
			WRITE_ONCE(r.ctl->comp_event, r.tail - 1);
			asm volatile("mfence" : : : "memory");
			while (READ_ONCE(r.ctl->comp_tail) != r.tail &&
			       READ_ONCE(tx_interrupts) == had)
				guest_halt();
		}
		while (ring_take(&r, &comp))
			GUEST_EQ(comp.status, 0);
		GUEST_TRUE(round % 8 != 7 || r.head == r.tail);
	}
}

TEST_LIMIT(few_transmit_doorbells, 120)
{
	struct vireo_queue_msi msi = {
		.size = sizeof(msi), .address = 0xfee00000, .data = TX_VECTOR,
	};
	struct vireo_queue_stat stat;
	struct nic nic;

	nic_open(&nic, &(struct nic_config) {});
	frame_plain(out, nic_peer, nic_mac, 60);
	vm_write(&nic.vm, NIC_BUFS, out, 60);
	ASSERT_EQ(do_ioctl(nic.ring[1].fd, VIREO_SET_MSI, &msi), 0);
	vcpu_set_entry(&nic.vm.vcpu[0], guest_transmits, 0);
	vcpu_run_done(&nic.vm.vcpu[0]);
	nic_stat(&nic.ring[1], &stat);
	EXPECT_EQ(stat.entries, TX_ROUNDS * TX_BURST);
	EXPECT_EQ(stat.errors, 0);
	EXPECT_EQ(stat.doorbells, VM_GET(&nic.vm, tx_bells));
	test_note("%llu doorbells for %u packets", stat.doorbells, TX_ROUNDS * TX_BURST);
	if (!host_is_checked())		/* there it takes longer for each than a busy driver may */
		EXPECT_LE(stat.doorbells, TX_ROUNDS * 9 / 10);
	nic_close(&nic);
}

/* A sender waits for buffers; not for ever */
TEST(short_of_buffers)
{
	struct vireo_net_info info;
	struct nic nic;
	u32 i;

	nic_open(&nic, &(struct nic_config) {});
	for (i = 0; i < 10; i++)
		EXPECT_EQ(nic_send(&nic, out, frame_plain(out, nic_mac, nic_peer, 60 + i)), 60 + i);
	nic_post(&nic, 0, 10, 2048);
	for (i = 0; i < 10; i++)
		EXPECT_EQ(nic_rx(&nic, 0, in, sizeof(in), &info), 60 + i);
	/* A buffer that comes without a doorbell is found, too */
	EXPECT_EQ(nic_send(&nic, out, frame_plain(out, nic_mac, nic_peer, 100)), 100);
	nic_put(&nic, &nic.ring[0], &(struct vireo_net_rx) {
		.nsegs = 1, .tag = nic.ring[0].tail % 64,
		.seg[0] = { NIC_BUFS + nic.ring[0].tail % 64 * 4096, 2048 },
	});
	EXPECT_EQ(nic_rx(&nic, 0, in, sizeof(in), &info), 100);

	/* Nobody posts: all is dropped after a second, and later at once */
	for (i = 0; i < 10; i++)
		nic_send(&nic, out, frame_plain(out, nic_mac, nic_peer, 60));
	for (i = 0; i < 50 && link_number(&nic, "statistics/tx_dropped") != 10; i++)
		usleep(100000);
	EXPECT_EQ(link_number(&nic, "statistics/tx_dropped"), 10);
	EXPECT_GE(i, 5);
	nic_send(&nic, out, frame_plain(out, nic_mac, nic_peer, 60));
	EXPECT_EQ(link_number(&nic, "statistics/tx_dropped"), 11);
	nic_post(&nic, 0, 1, 2048);
	nic_send(&nic, out, frame_plain(out, nic_mac, nic_peer, 61));
	EXPECT_EQ(nic_rx(&nic, 0, in, sizeof(in), &info), 61);
	nic_close(&nic);
}

/* Each pair by itself; what has no pair of its own goes to the others */
TEST(pairs)
{
	struct vireo_comp comp;
	u32 i, n[2] = {};
	struct nic nic;

	nic_open(&nic, &(struct nic_config) { .pairs = 2 });
	nic_post(&nic, 0, 40, 2048);
	for (i = 0; i < 40; i++) {	/* buffers of the second pair: behind those of the first */
		nic_put(&nic, &nic.ring[2], &(struct vireo_net_rx) {
			.nsegs = 1, .tag = i, .seg[0] = { NIC_BUFS + (64 + i) * 4096, 2048 },
		});
	}
	EXPECT_EQ(nic_bell(&nic, 2), 0);
	for (i = 0; i < 32; i++) {
		u32 len = frame_tcp(out, false, nic_mac, nic_peer, 10);

		out[35] = i;	/* the source port */
		EXPECT_EQ(nic_send(&nic, out, len), len);
	}
	for (i = 0; i < 2; i++)
		while (nic_comp(&nic, &nic.ring[2 * i], &comp))
			n[i]++;
	test_note("%u and %u packets", n[0], n[1]);
	EXPECT_EQ(n[0] + n[1], 32);
	EXPECT_NE(n[0], 0);
	EXPECT_NE(n[1], 0);

	EXPECT_EQ(nic_set(nic.fd, 1, 0), 0);
	close(nic.ring[2].fd);
	nic.ring[2].fd = -1;
	EXPECT_EQ(link_number(&nic, "carrier"), 1);
	nic_post(&nic, 0, 32, 2048);
	for (i = 0; i < 32; i++) {
		out[35] = i;
		EXPECT_EQ(nic_send(&nic, out, 64), 64);
		EXPECT_TRUE(nic_comp_wait(&nic, &nic.ring[0], &comp));
	}
	nic_close(&nic);
}

/* ---- the interface's life ---------------------------------------------------------------- */

TEST(queue_taken)
{
	struct vireo_create_queue arg = {
		.size = sizeof(arg), .doorbell = 9, .ring = NIC_RINGS, .entries = 64,
	};
	struct nic nic;
	int fd;

	nic_open(&nic, &(struct nic_config) {});
	EXPECT_EQ(do_ioctl(nic.fd, VIREO_CREATE_QUEUE, &arg), -EBUSY);
	arg.index = 2;
	EXPECT_EQ(do_ioctl(nic.fd, VIREO_CREATE_QUEUE, &arg), -EINVAL);
	arg.index = ~0U;
	EXPECT_EQ(do_ioctl(nic.fd, VIREO_CREATE_QUEUE, &arg), -EINVAL);
	arg.index = 0;
	close(nic.ring[0].fd);
	nic.ring[0].fd = -1;
	fd = do_ioctl(nic.fd, VIREO_CREATE_QUEUE, &arg);
	EXPECT_GE(fd, 0);
	EXPECT_EQ(do_ioctl(nic.fd, VIREO_CREATE_QUEUE, &arg), -EBUSY);
	close(fd);
	nic_close(&nic);
}

/* It goes with the last fd, of the queues too, and user space cannot delete it */
TEST(only_the_fd_ends_it)
{
	struct nic nic;

	nic_open(&nic, &(struct nic_config) { .name = "vtest" });
	EXPECT_EQ(rtnl_link(RTM_DELLINK, nic.ifindex, NULL, -1), -EOPNOTSUPP);
	EXPECT_EQ(rtnl_link(RTM_NEWLINK, 0, "vireo", -1), -EOPNOTSUPP);
	EXPECT_NE(if_nametoindex("vtest"), 0);
	close(nic.fd);
	EXPECT_NE(if_nametoindex("vtest"), 0);
	close(nic.ring[1].fd);
	EXPECT_NE(if_nametoindex("vtest"), 0);
	close(nic.ring[0].fd);
	EXPECT_EQ(if_nametoindex("vtest"), 0);
}

/* In another network namespace, and back */
TEST(moved)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), away;
	struct vireo_net net;
	struct nic nic;

	nic_open(&nic, &(struct nic_config) {});
	if (unshare(CLONE_NEWNET))
		SKIP("no network namespaces: %s", strerror(errno));
	away = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	ASSERT_EQ(setns(home, CLONE_NEWNET), 0);
	ASSERT_EQ(rtnl_link(RTM_SETLINK, nic.ifindex, NULL, away), 0);
	EXPECT_EQ(if_nametoindex(nic.name), 0);
	EXPECT_EQ(nic_get(nic.fd, &net), 0);
	EXPECT_EQ(net.peer_up, 0);
	frame_plain(out, nic_peer, nic_mac, 60);
	EXPECT_EQ(nic_tx_frame(&nic, out, 60), VIREO_COMP_OK);

	ASSERT_EQ(setns(away, CLONE_NEWNET), 0);
	nic.ifindex = if_nametoindex(nic.name);
	EXPECT_NE(nic.ifindex, 0);
	nic_up(&nic, true);
	nic_listen(&nic, false);
	EXPECT_EQ(nic_tx_frame(&nic, out, 60), VIREO_COMP_OK);
	EXPECT_EQ(nic_recv(&nic, in, sizeof(in)), 60);
	nic_close(&nic);
	close(away);
	setns(home, CLONE_NEWNET);
	close(home);
}

/* The namespace ends, and the interface with it; its fds stay, and do no harm */
TEST(namespace_ends)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	struct vireo_create_queue arg = {
		.size = sizeof(arg), .doorbell = 9, .ring = NIC_RINGS, .entries = 64,
	};
	struct vireo_net net;
	struct nic nic;
	u32 i;

	if (unshare(CLONE_NEWNET))
		SKIP("no network namespaces: %s", strerror(errno));
	nic_open(&nic, &(struct nic_config) { .name = "vtest" });
	nic_post(&nic, 0, 8, 2048);
	close(nic.socket);
	nic.socket = -1;
	ASSERT_EQ(setns(home, CLONE_NEWNET), 0);
	for (i = 0; i < 100 && !nic_get(nic.fd, &net); i++)
		usleep(50000);
	EXPECT_EQ(nic_get(nic.fd, &net), -ENODEV);
	EXPECT_EQ(nic_set(nic.fd, 1, 0), -ENODEV);
	EXPECT_EQ(if_nametoindex("vtest"), 0);
	frame_plain(out, nic_peer, nic_mac, 60);
	EXPECT_EQ(nic_tx_frame(&nic, out, 60), VIREO_COMP_OK);
	nic_post(&nic, 0, 8, 2048);
	close(nic.ring[0].fd);
	nic.ring[0].fd = do_ioctl(nic.fd, VIREO_CREATE_QUEUE, &arg);
	EXPECT_GE(nic.ring[0].fd, 0);
	nic_close(&nic);
	close(home);
}

/* Two guests on a bridge: one sends with offloads, the other takes none */

/* Headers that are not what the entry says, a byte of the packet at a time: nobody cuts it. */
static void bad_headers(struct nic *a, struct nic *b, const struct vireo_net_tx *e)
{
	static const struct { u32 at; u8 value; } bad[] = {
		{ 12, 0x86 }, { 13, 0x06 }, { 14, 0x44 }, { 14, 0x46 }, { 14, 0x4f }, { 23, 17 },
		{ 23, 0 }, { 46, 0x40 }, { 46, 0 },
	};
	struct vireo_net_info info;
	u32 i;
	int n;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		vm_write(&a->vm, NIC_BUFS, out, e->seg[0].len);
		vm_write(&a->vm, NIC_BUFS + bad[i].at, &bad[i].value, 1);
		EXPECT_EQ(nic_tx(a, e), VIREO_COMP_OK);
		nic_post(b, 0, 1, 2048);
		frame_plain(in, nic_peer, nic_mac, 61);
		EXPECT_EQ(nic_tx_frame(a, in, 61), VIREO_COMP_OK);
		do {	/* others' and the bridge's own may come, too */
			n = nic_rx(b, 0, in, sizeof(in), &info);
		} while (n == 60 || (n > 0 && in[0] & 1));
		EXPECT_THAT(n == 61, "byte %u = %#x: %d", bad[i].at, bad[i].value, n);
	}
}

static int bridge_call(unsigned long request, const char *port)
{
	struct ifreq ifr = {};
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), ret;

	strcpy(ifr.ifr_name, "vbridge");
	if (port)
		ifr.ifr_ifindex = if_nametoindex(port);
	ret = do_ioctl(s, request, port ? (void *)&ifr : (void *)"vbridge");
	close(s);
	return ret;
}

TEST(bridge)
{
	struct nic a, b, bridge = { .name = "vbridge" };
	struct vireo_net_info info, none = {};
	struct vireo_net_tx e;
	u32 len, i;

	if (bridge_call(SIOCBRADDBR, NULL))
		SKIP("no bridges");
	nic_open(&a, &(struct nic_config) { .accepted = NIC_CSUMS });
	nic_open(&b, &(struct nic_config) {});
	EXPECT_EQ(bridge_call(SIOCBRADDIF, a.name), 0);
	EXPECT_EQ(bridge_call(SIOCBRADDIF, b.name), 0);
	nic_up(&bridge, true);
	for (i = 0; i < 100; i++) {	/* until the ports forward */
		struct vireo_comp comp;

		nic_post(&b, 0, 1, 4096);
		frame_plain(out, nic_peer, nic_mac, 60);
		EXPECT_EQ(nic_tx_frame(&a, out, 60), VIREO_COMP_OK);
		usleep(10000);
		if (nic_comp(&b, &b.ring[0], &comp))
			break;
		b.ring[0].tail--;	/* still posted */
	}
	nic_post(&b, 0, 8, 2048);
	len = frame_tcp(out, false, nic_peer, nic_mac, 5000);
	nic_tx_entry(&a, &e, NIC_BUFS, out, len);
	e.flags = VIREO_NET_CSUM;
	e.csum_start = 34;
	e.csum_offset = 16;
	e.gso_type = VIREO_NET_GSO_TCPV4;
	e.gso_size = 1000;
	EXPECT_EQ(nic_tx(&a, &e), VIREO_COMP_OK);
	for (i = 0; i < 5; i++) {
		int n;

		do {	/* those of above may still be on their way, and the bridge's own */
			n = nic_rx(&b, 0, in, sizeof(in), &info);
		} while (n == 60 || (n > 0 && in[0] & 1));
		EXPECT_EQ(n, FRAME_TCP4 + 1000);
		EXPECT_EQ(memcmp(&info, &none, sizeof(info)), 0);
		EXPECT_TRUE(frame_tcp_sums(in, n));
		EXPECT_EQ(memcmp(in + FRAME_TCP4, out + FRAME_TCP4 + i * 1000, 1000), 0);
	}
	bad_headers(&a, &b, &e);
	nic_close(&a);
	nic_close(&b);
	nic_up(&bridge, false);
	EXPECT_EQ(bridge_call(SIOCBRDELBR, NULL), 0);
}

TEST_MAIN()
