// SPDX-License-Identifier: GPL-2.0
/* A machine with a network interface: see nic.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "guest.h"
#include "harness.h"
#include "host.h"
#include "nic.h"

#define PATIENCE	2000	/* ms for a frame to come */

const u8 nic_mac[6] = { 0x02, 0x56, 0x52, 0, 0, 1 };
const u8 nic_peer[6] = { 0x02, 0x56, 0x52, 0, 0, 2 };

static u64 bell;

/* The guest: rings what it is told to */
static void guest_bells(u64 unused)
{
	for (;;)
		guest_sync(hypercall(VIREO_HC_DOORBELL, READ_ONCE(bell), 0, 0, 0));
}

/* ---- calls ------------------------------------------------------------------------ */

int nic_create(int vm, const char *name, const u8 *mac, u32 pairs, u32 mtu, u32 flags)
{
	struct vireo_create_net arg = {
		.size = sizeof(arg), .flags = flags, .pairs = pairs, .mtu = mtu,
	};

	memcpy(arg.name, name, strnlen(name, sizeof(arg.name)));
	memcpy(arg.mac, mac, sizeof(arg.mac));
	return do_ioctl(vm, VIREO_CREATE_NET, &arg);
}

int nic_get(int fd, struct vireo_net *net)
{
	memset(net, 0, sizeof(*net));
	net->size = sizeof(*net);
	return do_ioctl(fd, VIREO_GET_NET, net);
}

int nic_set(int fd, u32 pairs, u64 accepted)
{
	struct vireo_net net = { .size = sizeof(net), .pairs = pairs, .accepted = accepted };

	return do_ioctl(fd, VIREO_SET_NET, &net);
}

int nic_queue(struct nic *nic, u32 index, u32 entries)
{
	struct vireo_create_queue arg = {
		.size = sizeof(arg), .doorbell = index, .index = index, .entries = entries,
		.ring = NIC_RINGS + index * 0x20000,
	};
	struct nic_ring *r = &nic->ring[index];
	static const u8 zero[0x20000];
	int fd;

	vm_write(&nic->vm, arg.ring, zero, sizeof(zero));
	fd = do_ioctl(nic->fd, VIREO_CREATE_QUEUE, &arg);
	if (fd < 0)
		return fd;
	*r = (struct nic_ring) { .fd = fd, .base = arg.ring, .entries = entries };
	return 0;
}

/* ---- the machine -------------------------------------------------------------------- */

void nic_up(struct nic *nic, bool up)
{
	struct ifreq ifr = {};
	char path[64];
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	/* IPv6 would send frames of its own */
	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", nic->name);
	file_write(path, "1");
	strcpy(ifr.ifr_name, nic->name);
	ASSERT_EQ(do_ioctl(s, SIOCGIFFLAGS, &ifr), 0);
	ifr.ifr_flags = up ? ifr.ifr_flags | IFF_UP : ifr.ifr_flags & ~IFF_UP;
	ASSERT_EQ(do_ioctl(s, SIOCSIFFLAGS, &ifr), 0);
	close(s);
}

void nic_listen(struct nic *nic, bool vnet_hdr)
{
	struct sockaddr_ll sll = {
		.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = nic->ifindex,
	};
	int on = vnet_hdr;

	if (nic->socket >= 0)
		close(nic->socket);
	nic->socket = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (nic->socket < 0)
		SKIP("no packet sockets: %s", strerror(errno));
	ASSERT_EQ(setsockopt(nic->socket, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)), 0);
	ASSERT_EQ(bind(nic->socket, (struct sockaddr *)&sll, sizeof(sll)), 0);
}

void nic_open(struct nic *nic, const struct nic_config *config)
{
	u32 i, pairs = config->pairs ? config->pairs : 1;
	struct vireo_net net;

	memset(nic, 0, sizeof(*nic));
	nic->socket = -1;
	for (i = 0; i < NIC_QUEUES; i++)
		nic->ring[i].fd = -1;
	vm_boot(&nic->vm, config->vcpus ? config->vcpus : 1, NIC_RAM);
	nic->fd = nic_create(nic->vm.fd, config->name ? config->name : "vireo%d", nic_mac, pairs,
			     config->mtu ? config->mtu : NIC_MTU, config->flags);
	ASSERT_GE(nic->fd, 0);
	ASSERT_EQ(nic_get(nic->fd, &net), 0);
	strcpy(nic->name, net.name);
	nic->ifindex = net.ifindex;
	vcpu_set_entry(&nic->vm.vcpu[0], guest_bells, 0);
	if (config->down)
		return;
	for (i = 0; i < 2 * pairs; i++)
		ASSERT_EQ(nic_queue(nic, i, config->entries ? config->entries : 64), 0);
	ASSERT_EQ(nic_set(nic->fd, pairs, config->accepted), 0);
	nic_up(nic, true);
	nic_listen(nic, false);
}

void nic_close(struct nic *nic)
{
	u32 i;

	for (i = 0; i < NIC_QUEUES; i++)
		if (nic->ring[i].fd >= 0)
			close(nic->ring[i].fd);
	if (nic->socket >= 0)
		close(nic->socket);
	close(nic->fd);
	vm_close(&nic->vm);
}

s64 nic_bell(struct nic *nic, u32 doorbell)
{
	VM_SET(&nic->vm, bell, doorbell);
	return (s32)vcpu_run_sync(&nic->vm.vcpu[0]);
}

/* ---- rings -------------------------------------------------------------------------- */

#define CTL(field)	offsetof(struct vireo_ring_ctl, field)

void nic_put(struct nic *nic, struct nic_ring *r, const void *entry)
{
	u32 slot = r->tail++ % r->entries;

	vm_write(&nic->vm, r->base + VIREO_RING_SUB(r->entries) + slot * VIREO_RING_ENTRY, entry,
		 VIREO_RING_ENTRY);
	vm_write(&nic->vm, r->base + CTL(sub_tail), &r->tail, sizeof(r->tail));
}

bool nic_comp(struct nic *nic, struct nic_ring *r, struct vireo_comp *comp)
{
	u32 tail;

	vm_read(&nic->vm, r->base + CTL(comp_tail), &tail, sizeof(tail));
	if (tail == r->head)
		return false;
	vm_read(&nic->vm, r->base + VIREO_RING_COMP + r->head++ % r->entries * sizeof(*comp), comp,
		sizeof(*comp));
	vm_write(&nic->vm, r->base + CTL(comp_head), &r->head, sizeof(r->head));
	return true;
}

bool nic_comp_wait(struct nic *nic, struct nic_ring *r, struct vireo_comp *comp)
{
	unsigned int i;

	for (i = 0; i < PATIENCE; i++) {
		if (nic_comp(nic, r, comp))
			return true;
		usleep(1000);
	}
	return false;
}

u32 nic_error(struct nic *nic, struct nic_ring *r)
{
	u32 error;

	vm_read(&nic->vm, r->base + CTL(error), &error, sizeof(error));
	return error;
}

void nic_stat(struct nic_ring *r, struct vireo_queue_stat *stat)
{
	memset(stat, 0, sizeof(*stat));
	stat->size = sizeof(*stat);
	ASSERT_EQ(do_ioctl(r->fd, VIREO_GET_QUEUE_STAT, stat), 0);
}

void nic_tx_entry(struct nic *nic, struct vireo_net_tx *e, u64 gpa, const void *frame, u32 len)
{
	memset(e, 0, sizeof(*e));
	e->nsegs = 1;
	e->tag = 7;
	e->seg[0] = (struct vireo_seg) { .gpa = gpa, .len = len };
	vm_write(&nic->vm, gpa, frame, len);
}

u32 nic_tx(struct nic *nic, const struct vireo_net_tx *e)
{
	struct nic_ring *r = &nic->ring[1];
	struct vireo_comp comp;

	nic_put(nic, r, e);
	ASSERT_EQ(nic_bell(nic, 1), 0);
	ASSERT_TRUE(nic_comp_wait(nic, r, &comp));
	EXPECT_EQ(comp.tag, e->tag);
	EXPECT_EQ(comp.len, 0);
	EXPECT_EQ(comp.info, 0);
	return comp.status;
}

u32 nic_tx_frame(struct nic *nic, const void *frame, u32 len)
{
	struct vireo_net_tx e;

	nic_tx_entry(nic, &e, NIC_BUFS, frame, len);
	return nic_tx(nic, &e);
}

void nic_post(struct nic *nic, u32 index, u32 n, u32 len)
{
	struct nic_ring *r = &nic->ring[index];

	for (; n; n--) {
		u32 slot = r->tail % r->entries;
		struct vireo_net_rx e = {
			.nsegs = 1, .tag = slot,
			.seg[0] = { .gpa = NIC_BUFS + slot * 4096, .len = len },
		};

		nic_put(nic, r, &e);
	}
	ASSERT_EQ(nic_bell(nic, index), 0);
}

int nic_rx(struct nic *nic, u32 index, void *frame, u32 room, struct vireo_net_info *info)
{
	struct nic_ring *r = &nic->ring[index];
	struct vireo_net_info more;
	struct vireo_comp comp;
	u32 len = 0, first = 1;

	do {
		/* Those of a packet come at once */
		if (!(first ? nic_comp_wait(nic, r, &comp) : nic_comp(nic, r, &comp)))
			return first ? -1 : -2;
		EXPECT_EQ(comp.status, VIREO_COMP_OK);
		EXPECT_EQ(comp.tag, (r->head - 1) % r->entries);
		memcpy(&more, &comp.info, sizeof(more));
		if (first)
			*info = more;
		first = 0;
		ASSERT_THAT(len + comp.len <= room, "%u bytes are too many", len + comp.len);
		vm_read(&nic->vm, NIC_BUFS + comp.tag * 4096, frame + len, comp.len);
		len += comp.len;
	} while (more.flags & VIREO_NET_MORE);
	return len;
}

/* ---- the host's end ------------------------------------------------------------------ */

int nic_send(struct nic *nic, const void *frame, u32 len)
{
	ssize_t n = send(nic->socket, frame, len, 0);

	return n < 0 ? -errno : n;
}

int nic_recv(struct nic *nic, void *frame, u32 room)
{
	struct pollfd p = { .fd = nic->socket, .events = POLLIN };
	struct sockaddr_ll from;

	while (poll(&p, 1, PATIENCE) > 0) {
		socklen_t size = sizeof(from);
		ssize_t n = recvfrom(nic->socket, frame, room, 0, (struct sockaddr *)&from, &size);

		if (n < 0)
			return -errno;
		if (from.sll_pkttype != PACKET_OUTGOING)
			return n;
	}
	return -EAGAIN;
}

bool nic_quiet(struct nic *nic)
{
	struct sockaddr_ll from;
	socklen_t size = sizeof(from);
	u8 frame[64];

	while (recvfrom(nic->socket, frame, sizeof(frame), MSG_DONTWAIT, (struct sockaddr *)&from,
			&size) >= 0)
		if (from.sll_pkttype != PACKET_OUTGOING)
			return false;
	return true;
}

struct rtnl_request {
	struct nlmsghdr head;
	struct ifinfomsg info;
	u8 attributes[64];
};

static struct rtattr *rtnl_attribute(struct rtnl_request *m, int type, const void *data, u32 len)
{
	struct rtattr *a = (void *)m + NLMSG_ALIGN(m->head.nlmsg_len);

	a->rta_type = type;
	a->rta_len = RTA_LENGTH(len);
	if (data)
		memcpy(RTA_DATA(a), data, len);
	m->head.nlmsg_len = NLMSG_ALIGN(m->head.nlmsg_len) + RTA_LENGTH(len);
	return a;
}

static void rtnl_end(struct rtnl_request *m, struct rtattr *nest)
{
	nest->rta_len = (void *)m + m->head.nlmsg_len - (void *)nest;
}

/* 0 or -errno */
static int rtnl_call(struct rtnl_request *m)
{
	struct { struct nlmsghdr head; struct nlmsgerr error; u8 rest[512]; } reply = {};
	int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	ASSERT_EQ(send(s, m, m->head.nlmsg_len, 0), m->head.nlmsg_len);
	ASSERT_GE(recv(s, &reply, sizeof(reply), 0), NLMSG_LENGTH(sizeof(int)));
	close(s);
	return reply.error.error;
}

static struct rtnl_request rtnl_request(unsigned int type, int ifindex)
{
	return (struct rtnl_request) {
		.head = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)), .nlmsg_type = type,
			  .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
		.info = { .ifi_index = ifindex },
	};
}

int rtnl_link(unsigned int type, int ifindex, const char *kind, int netns)
{
	struct rtnl_request m = rtnl_request(type, ifindex);
	struct rtattr *nest;

	if (kind) {
		m.head.nlmsg_flags |= NLM_F_CREATE | NLM_F_EXCL;
		nest = rtnl_attribute(&m, IFLA_LINKINFO, NULL, 0);
		rtnl_attribute(&m, IFLA_INFO_KIND, kind, strlen(kind) + 1);
		rtnl_end(&m, nest);
	}
	if (netns >= 0)
		rtnl_attribute(&m, IFLA_NET_NS_FD, &netns, sizeof(netns));
	return rtnl_call(&m);
}

int rtnl_xdp(int ifindex, int program)
{
	struct rtnl_request m = rtnl_request(RTM_SETLINK, ifindex);
	u32 flags = XDP_FLAGS_SKB_MODE;
	struct rtattr *nest;

	nest = rtnl_attribute(&m, IFLA_XDP | NLA_F_NESTED, NULL, 0);
	rtnl_attribute(&m, IFLA_XDP_FD, &program, sizeof(program));
	rtnl_attribute(&m, IFLA_XDP_FLAGS, &flags, sizeof(flags));
	rtnl_end(&m, nest);
	return rtnl_call(&m);
}

/* ---- frames --------------------------------------------------------------------------- */

static void frame_ether(u8 *frame, const u8 *to, const u8 *from, u16 type)
{
	memcpy(frame, to, 6);
	memcpy(frame + 6, from, 6);
	frame[12] = type >> 8;
	frame[13] = type;
}

static void frame_pattern(u8 *frame, u32 at, u32 len)
{
	for (; at < len; at++)
		frame[at] = at * 7 + (at >> 8);
}

/* Of a type that nobody listens to */
u32 frame_plain(u8 *frame, const u8 *to, const u8 *from, u32 len)
{
	frame_ether(frame, to, from, 0x88b5);
	frame_pattern(frame, 14, len);
	return len;
}

static u32 sum_add(u32 sum, const u8 *data, u32 len)
{
	u32 i;

	for (i = 0; i < len; i++)
		sum += i & 1 ? data[i] : data[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

u16 frame_sum(const u8 *data, u32 len, u32 start)
{
	return sum_add(start, data, len);
}

static void put16(u8 *p, u16 value)
{
	p[0] = value >> 8;
	p[1] = value;
}

/* The sum of the TCP pseudo header */
static u16 frame_pseudo(const u8 *frame, bool v6, u32 len)
{
	u32 at = v6 ? 22 : 26, n = v6 ? 32 : 8;

	return frame_sum(frame + at, n, 6 + len - at - n);
}

u32 frame_tcp(u8 *frame, bool v6, const u8 *to, const u8 *from, u32 payload)
{
	u32 at = v6 ? 54 : 34, len = at + 20 + payload;

	memset(frame, 0, at + 20);
	frame_ether(frame, to, from, v6 ? ETH_P_IPV6 : ETH_P_IP);
	if (v6) {
		frame[14] = 0x60;
		put16(frame + 18, len - 54);
		frame[20] = 6;
		frame[21] = 64;
		frame[22] = 0xfd;
		frame[37] = 1;
		frame[38] = 0xfd;
		frame[53] = 2;
	} else {
		frame[14] = 0x45;
		put16(frame + 16, len - 14);
		frame[20] = 0x40;	/* do not fragment */
		frame[22] = 64;
		frame[23] = 6;
		memcpy(frame + 26, "\x0a\x00\x00\x01\x0a\x00\x00\x02", 8);
		put16(frame + 24, ~frame_sum(frame + 14, 20, 0));
	}
	put16(frame + at, 1000);
	put16(frame + at + 2, 2000);
	frame[at + 12] = 0x50;
	frame[at + 13] = 0x10;		/* ACK */
	frame_pattern(frame, at + 20, len);
	put16(frame + at + 16, frame_pseudo(frame, v6, len));
	return len;
}

bool frame_tcp_sums(const u8 *frame, u32 len)
{
	bool v6 = frame[12] == 0x86;
	u32 at = v6 ? 54 : 34;

	if (!v6 && frame_sum(frame + 14, 20, 0) != 0xffff)
		return false;
	return frame_sum(frame + at, len - at, frame_pseudo(frame, v6, len)) == 0xffff;
}
