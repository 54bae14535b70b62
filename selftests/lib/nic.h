/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A machine with a network interface, its rings driven from outside the guest:
 * the test writes entries into guest memory and has the guest ring doorbells.
 * The host's end is reached through a packet socket.
 */
#ifndef SELFTESTS_NIC_H
#define SELFTESTS_NIC_H

#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>

#include <vireo_net.h>

#include "types.h"
#include "vm.h"

#define NIC_RAM		0x1400000
#define NIC_RINGS	0x800000	/* 0x20000 for each */
#define NIC_LISTS	0x980000
#define NIC_BUFS	0xa00000	/* up to the end, 10 MiB */
#define NIC_QUEUES	8
#define NIC_MTU		1500

#define NIC_CSUMS	(VIREO_NET_F_CSUM | VIREO_NET_F_TSO)
#define NIC_RX_CSUMS	(VIREO_NET_F_RX_CSUM | VIREO_NET_F_RX_TSO)

struct nic_ring {
	int fd;
	u64 base;
	u32 entries;
	u32 tail;		/* of submissions */
	u32 head;		/* of completions */
};

struct nic {
	struct test_vm vm;
	int fd;
	int socket;		/* frames as they are, -1: none */
	int ifindex;
	char name[IFNAMSIZ];
	struct nic_ring ring[NIC_QUEUES];
};

extern const u8 nic_mac[6];
extern const u8 nic_peer[6];

struct nic_config {
	const char *name;	/* NULL: vireo%d */
	u32 flags;
	u32 pairs;		/* 0: 1 */
	u32 mtu;		/* 0: NIC_MTU */
	u32 entries;		/* of each ring, 0: 64 */
	u64 accepted;
	u32 vcpus;		/* 0: 1; the first rings doorbells */
	bool down;		/* leave it so, without queues or a socket */
};

int nic_create(int vm, const char *name, const u8 *mac, u32 pairs, u32 mtu, u32 flags);
int nic_get(int fd, struct vireo_net *net);
int nic_set(int fd, u32 pairs, u64 accepted);

/* The rest ends the test if something does not work */
void nic_open(struct nic *nic, const struct nic_config *config);
void nic_close(struct nic *nic);
void nic_up(struct nic *nic, bool up);
void nic_listen(struct nic *nic, bool vnet_hdr);
int nic_queue(struct nic *nic, u32 index, u32 entries);	/* 0 or -errno */
s64 nic_bell(struct nic *nic, u32 doorbell);		/* what the guest got for it */

void nic_put(struct nic *nic, struct nic_ring *ring, const void *entry);
bool nic_comp(struct nic *nic, struct nic_ring *ring, struct vireo_comp *comp);
bool nic_comp_wait(struct nic *nic, struct nic_ring *ring, struct vireo_comp *comp);
u32 nic_error(struct nic *nic, struct nic_ring *ring);
void nic_stat(struct nic_ring *ring, struct vireo_queue_stat *stat);

/* Write @len bytes to guest memory and an entry for them, in one segment */
void nic_tx_entry(struct nic *nic, struct vireo_net_tx *e, u64 gpa, const void *frame, u32 len);
/* Send it and have it completed: the status */
u32 nic_tx(struct nic *nic, const struct vireo_net_tx *e);
u32 nic_tx_frame(struct nic *nic, const void *frame, u32 len);
/* Post @n buffers of @len bytes, one in each page from NIC_BUFS on; the doorbell */
void nic_post(struct nic *nic, u32 index, u32 n, u32 len);
/* The next packet, put together: its bytes, or -1 if none came in time */
int nic_rx(struct nic *nic, u32 index, void *frame, u32 room, struct vireo_net_info *info);

/* Host's end: bytes, or -errno */
int nic_send(struct nic *nic, const void *frame, u32 len);
int nic_recv(struct nic *nic, void *frame, u32 room);	/* -EAGAIN: nothing within 2 s */
bool nic_quiet(struct nic *nic);			/* nothing is there */

/* Frames: Ethernet, IP and TCP headers, then a pattern */
#define FRAME_TCP4	54
#define FRAME_TCP6	74
u32 frame_plain(u8 *frame, const u8 *to, const u8 *from, u32 len);
u32 frame_tcp(u8 *frame, bool v6, const u8 *to, const u8 *from, u32 payload);
bool frame_tcp_sums(const u8 *frame, u32 len);	/* all checksums are right */
u16 frame_sum(const u8 *data, u32 len, u32 start);

int rtnl_link(unsigned int type, int ifindex, const char *kind, int netns);
int rtnl_xdp(int ifindex, int program);		/* -1: none any more */

#endif /* SELFTESTS_NIC_H */
