// SPDX-License-Identifier: GPL-2.0
/*
 * Network queues of a hostile guest: entries that break rules, wild addresses
 * and indices, garbage, entries that change while they are read, queues that go
 * away under load.  The host keeps its senses and the other queues go on.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "guest.h"
#include "harness.h"
#include "nic.h"

static u8 out[70000], in[70000];

/* ---- entries that break a rule --------------------------------------------------------- */

struct bad_tx {
	const char *name;
	void (*change)(struct vireo_net_tx *e);
	u32 status;
};

#define BAD(id, ...)								\
	static void bad_##id(struct vireo_net_tx *e) { __VA_ARGS__; }

BAD(reserved, e->reserved = 1)
BAD(flags, e->flags |= 2)
BAD(flags_high, e->flags |= 0x40)
BAD(gso_type, e->gso_type = 3)
BAD(gso_ecn, e->gso_type = VIREO_NET_GSO_ECN)
BAD(gso_no_csum, e->flags = 0)
BAD(gso_size, e->gso_size = 0)
BAD(gso_size_small, e->gso_size = 7)
BAD(gso_size_special, e->gso_size = 0xffff)
BAD(gso_offset, e->csum_offset = 6)
BAD(gso_start_high, e->csum_start = 5000)
BAD(csum_start_ether, e->gso_type = 0; e->csum_start = 13)
BAD(csum_start, e->gso_type = 0; e->seg[0].len = 1000; e->csum_start = 999)
BAD(csum_start_far, e->gso_type = 0; e->seg[0].len = 1000; e->csum_start = 65535)
BAD(csum_offset, e->gso_type = 0; e->seg[0].len = 1000; e->csum_offset = 965)
BAD(csum_offset_far, e->gso_type = 0; e->seg[0].len = 1000; e->csum_offset = 65535)
BAD(none, e->nsegs = 0)
BAD(four, e->nsegs = 4)
BAD(many, e->nsegs = 65535)
BAD(length_zero, e->seg[0].len = 0)
BAD(length_short, e->gso_type = 0; e->flags = 0; e->seg[0].len = 13)
BAD(length_long, e->gso_type = 0; e->seg[0].len = 1519)
BAD(length_longer, e->seg[0].len = 65554)
BAD(length_wild, e->seg[0].len = ~0U)
BAD(length_sum, e->nsegs = 3; e->seg[1] = e->seg[2] = e->seg[0]; e->seg[2].len = ~0U)
BAD(seg_reserved, e->seg[0].reserved = 1)
BAD(address_mmio, e->seg[0].gpa = VM_MMIO)
BAD(address_high, e->seg[0].gpa = 1ULL << 46)
BAD(address_wild, e->seg[0].gpa = ~0ULL)
BAD(address_wrap, e->seg[0].gpa = ~0ULL - 1000)
BAD(address_end, e->seg[0].gpa = NIC_RAM - 100)
BAD(list_length, e->flags |= VIREO_SUB_INDIRECT; e->seg[0].len = 17)
BAD(list_none, e->flags |= VIREO_SUB_INDIRECT; e->nsegs = 0; e->seg[0].len = 0)
BAD(list_long, e->flags |= VIREO_SUB_INDIRECT; e->nsegs = 257; e->seg[0].len = 257 * 16)
BAD(list_wild, e->flags |= VIREO_SUB_INDIRECT; e->seg[0].len = 16; e->seg[0].gpa = ~0ULL - 15)
BAD(list_mmio, e->flags |= VIREO_SUB_INDIRECT; e->seg[0].len = 16; e->seg[0].gpa = VM_MMIO)

#define ENTRY(id)	{ #id, bad_##id, VIREO_COMP_INVALID }

static const struct bad_tx bad_txs[] = {
	ENTRY(reserved), ENTRY(flags), ENTRY(flags_high), ENTRY(gso_type), ENTRY(gso_ecn),
	ENTRY(gso_no_csum), ENTRY(gso_size), ENTRY(gso_size_small), ENTRY(gso_size_special),
	ENTRY(gso_offset), ENTRY(gso_start_high), ENTRY(csum_start_ether), ENTRY(csum_start),
	ENTRY(csum_start_far), ENTRY(csum_offset), ENTRY(csum_offset_far), ENTRY(none),
	ENTRY(four), ENTRY(many), ENTRY(length_zero), ENTRY(length_short), ENTRY(length_long),
	ENTRY(length_longer), ENTRY(length_wild), ENTRY(length_sum), ENTRY(seg_reserved),
	ENTRY(address_mmio), ENTRY(address_high), ENTRY(address_wild), ENTRY(address_wrap),
	ENTRY(address_end), ENTRY(list_length), ENTRY(list_none), ENTRY(list_long),
	ENTRY(list_wild), ENTRY(list_mmio),
};

/* What bad_*() begin with: a packet to be cut into pieces */
static void good_tx(struct nic *nic, struct vireo_net_tx *e)
{
	u32 len = frame_tcp(out, false, nic_peer, nic_mac, 4000);

	nic_tx_entry(nic, e, NIC_BUFS, out, len);
	e->flags = VIREO_NET_CSUM;
	e->gso_type = VIREO_NET_GSO_TCPV4;
	e->gso_size = 1000;
	e->csum_start = 34;
	e->csum_offset = 16;
}

TEST(bad_entries)
{
	struct vireo_queue_stat stat;
	struct vireo_net_tx e;
	struct nic nic;
	u32 i, status;

	nic_open(&nic, &(struct nic_config) { .accepted = NIC_CSUMS });
	for (i = 0; i < ARRAY_SIZE(bad_txs); i++) {
		good_tx(&nic, &e);
		bad_txs[i].change(&e);
		status = nic_tx(&nic, &e);
		EXPECT_THAT(status == bad_txs[i].status, "%s: %u", bad_txs[i].name, status);
	}
	EXPECT_TRUE(nic_quiet(&nic));
	nic_stat(&nic.ring[1], &stat);
	EXPECT_EQ(stat.errors, ARRAY_SIZE(bad_txs));
	good_tx(&nic, &e);
	EXPECT_EQ(nic_tx(&nic, &e), VIREO_COMP_OK);
	EXPECT_EQ(nic_recv(&nic, in, sizeof(in)), e.seg[0].len);
	nic_close(&nic);
}

/* ---- buffers that break a rule ------------------------------------------------------------ */

TEST(bad_buffers)
{
	static const struct vireo_net_rx bad[] = {
		{ .nsegs = 1, .zero = 1, .seg = { { NIC_BUFS, 2048 } } },
		{ .nsegs = 1, .flags = 1, .seg = { { NIC_BUFS, 2048 } } },
		{ .nsegs = 1, .flags = VIREO_SUB_INDIRECT, .seg = { { NIC_BUFS, 16 } } },
		{ .nsegs = 0, .seg = { { NIC_BUFS, 2048 } } },
		{ .nsegs = 2, .seg = { { NIC_BUFS, 2048 }, { NIC_BUFS, 2048 } } },
		{ .nsegs = 1, .seg = { { NIC_BUFS, 2048 }, { NIC_BUFS, 2048 } } },
		{ .nsegs = 1, .seg = { { NIC_BUFS, 2048 }, {}, { 0, 0, 1 } } },
		{ .nsegs = 1, .reserved[0] = 1, .seg = { { NIC_BUFS, 2048 } } },
		{ .nsegs = 1, .reserved[4] = 1, .seg = { { NIC_BUFS, 2048 } } },
		{ .nsegs = 1, .seg = { { NIC_BUFS, 2048, 1 } } },
		{ .nsegs = 1, .seg = { { NIC_BUFS, 0 } } },
		{ .nsegs = 1, .seg = { { NIC_BUFS, 255 } } },
		{ .nsegs = 1, .seg = { { NIC_BUFS, 4097 } } },
		{ .nsegs = 1, .seg = { { NIC_BUFS, ~0U } } },
		{ .nsegs = 1, .seg = { { NIC_BUFS + 1, 4096 } } },
		{ .nsegs = 1, .seg = { { VM_MMIO, 2048 } } },
		{ .nsegs = 1, .seg = { { ~0ULL, 2048 } } },
		{ .nsegs = 1, .seg = { { ~0ULL - 4095, 2048 } } },
		{ .nsegs = 1, .seg = { { 1ULL << 51, 2048 } } },
	};
	struct vireo_net_info info;
	struct vireo_net_rx e;
	struct vireo_comp comp;
	struct nic nic;
	u32 i, tag;

	nic_open(&nic, &(struct nic_config) {});
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		/* Behind a good one, which a packet uses first */
		tag = nic.ring[0].tail;
		nic_post(&nic, 0, 1, 2048);
		e = bad[i];
		e.tag = 1000 + i;
		nic_put(&nic, &nic.ring[0], &e);
		ASSERT_EQ(nic_bell(&nic, 0), 0);
		EXPECT_TRUE(!nic_comp(&nic, &nic.ring[0], &comp));
		nic_send(&nic, out, frame_plain(out, nic_mac, nic_peer, 60));
		ASSERT_TRUE(nic_comp_wait(&nic, &nic.ring[0], &comp));
		EXPECT_EQ(comp.tag, tag % 64);
		EXPECT_EQ(comp.status, VIREO_COMP_OK);
		EXPECT_EQ(comp.len, 60);
		ASSERT_EQ(nic_bell(&nic, 0), 0);
		ASSERT_TRUE(nic_comp_wait(&nic, &nic.ring[0], &comp));
		EXPECT_EQ(comp.tag, 1000 + i);
		EXPECT_EQ(comp.status, VIREO_COMP_INVALID);
		EXPECT_EQ(comp.len, 0);
		EXPECT_EQ(comp.info, 0);
	}
	nic_post(&nic, 0, 1, 2048);
	nic_send(&nic, out, frame_plain(out, nic_mac, nic_peer, 60));
	EXPECT_EQ(nic_rx(&nic, 0, in, sizeof(in), &info), 60);
	nic_close(&nic);
}

/* ---- indices ------------------------------------------------------------------------------ */

static void set_word(struct nic *nic, u32 index, u32 field, u32 value)
{
	vm_write(&nic->vm, nic->ring[index].base + field, &value, sizeof(value));
}

#define SET_CTL(nic, index, field, value)	\
	set_word(nic, index, offsetof(struct vireo_ring_ctl, field), value)

/* An index that lies ends its queue, and no other */
TEST(bad_indices)
{
	static const struct { u32 tail, head; } bad[] = {
		{ 65, 0 }, { ~0U, 0 }, { 0x80000000, 0 }, { 0, 1 }, { 1, 1 },
		{ 0, 0x80000000 },
	};
	struct vireo_queue_stat stat;
	struct vireo_net_info info;
	struct nic nic;
	u32 i, q;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		for (q = 0; q < 2; q++) {
			nic_open(&nic, &(struct nic_config) {});
			SET_CTL(&nic, q, comp_head, bad[i].head);
			SET_CTL(&nic, q, sub_tail, bad[i].tail);
			EXPECT_EQ(nic_bell(&nic, q), 0);
			EXPECT_EQ(nic_error(&nic, &nic.ring[q]), VIREO_RING_ERROR_INDEX);
			nic_stat(&nic.ring[q], &stat);
			EXPECT_EQ(stat.error, VIREO_RING_ERROR_INDEX);
			EXPECT_EQ(stat.entries, 0);
			nic_send(&nic, out, frame_plain(out, nic_mac, nic_peer, 60));
			if (q) {
				nic_post(&nic, 0, 1, 2048);
				EXPECT_EQ(nic_rx(&nic, 0, in, sizeof(in), &info), 60);
			} else {
				frame_plain(out, nic_peer, nic_mac, 60);
				EXPECT_EQ(nic_tx_frame(&nic, out, 60), VIREO_COMP_OK);
			}
			nic_close(&nic);
		}
	}
}

/* A guest that says that it has seen what was not there posts more than there is room for */
TEST(head_ahead_of_tail)
{
	struct nic nic;
	u32 i;

	nic_open(&nic, &(struct nic_config) {});
	for (i = 1; i < 200 && !nic_error(&nic, &nic.ring[0]); i++) {
		SET_CTL(&nic, 0, comp_head, i);
		nic_post(&nic, 0, 1, 256);
	}
	nic_send(&nic, out, frame_plain(out, nic_mac, nic_peer, 1500));
	nic_send(&nic, out, frame_plain(out, nic_mac, nic_peer, 1500));
	nic_close(&nic);
}

/* ---- load ------------------------------------------------------------------------------------ */

struct flood {
	struct nic *nic;
	pthread_t thread;
	bool stop;
	u64 sent;
};

static void *flood_thread(void *arg)
{
	struct flood *f = arg;
	u8 frame[1514];
	u32 i = 0;

	frame_plain(frame, nic_mac, nic_peer, sizeof(frame));
	while (!READ_ONCE(f->stop))
		f->sent += send(f->nic->socket, frame, 60 + i++ * 97 % 1450, MSG_DONTWAIT) > 0;
	return NULL;
}

static void flood_start(struct flood *f, struct nic *nic)
{
	*f = (struct flood) { .nic = nic };
	ASSERT_EQ(pthread_create(&f->thread, NULL, flood_thread, f), 0);
}

static void flood_stop(struct flood *f)
{
	WRITE_ONCE(f->stop, true);
	pthread_join(f->thread, NULL);
	test_note("%llu packets sent", f->sent);
}

/* Queues come and go while the host sends and the guest rings */
TEST(teardown_under_load)
{
	struct vireo_net_tx e;
	struct flood flood;
	struct nic nic;
	u32 i, j;

	nic_open(&nic, &(struct nic_config) {});
	frame_plain(out, nic_peer, nic_mac, 1000);
	nic_tx_entry(&nic, &e, NIC_BUFS + 200 * 4096, out, 1000);
	flood_start(&flood, &nic);
	for (i = 0; i < 60; i++) {
		nic_post(&nic, 0, 40, 2048);
		for (j = 0; j < 40; j++)
			nic_put(&nic, &nic.ring[1], &e);
		EXPECT_EQ(nic_bell(&nic, 1), 0);
		nic_up(&nic, i % 8 != 7);
		close(nic.ring[i & 1].fd);
		if (i % 3 == 0)
			usleep(2000);
		ASSERT_EQ(nic_queue(&nic, i & 1, 64), 0);
		close(nic.ring[~i & 1].fd);
		nic.ring[~i & 1].fd = -1;
		EXPECT_EQ(nic_bell(&nic, ~i & 1), -ENOENT);
		ASSERT_EQ(nic_queue(&nic, ~i & 1, 64), 0);
	}
	flood_stop(&flood);
	nic_close(&nic);
}

/* The interface goes while packets are on their way to it */
TEST(interface_gone_under_load)
{
	struct flood flood;
	struct nic nic;
	u32 i;

	for (i = 0; i < 5; i++) {
		nic_open(&nic, &(struct nic_config) { .pairs = 2 });
		nic_post(&nic, 0, 60, 2048);
		nic_post(&nic, 2, 60, 2048);
		flood_start(&flood, &nic);
		usleep(20000);
		for (u32 q = 0; q < 4; q++) {
			close(nic.ring[q].fd);
			nic.ring[q].fd = -1;
		}
		close(nic.fd);
		flood_stop(&flood);
		EXPECT_EQ(if_nametoindex(nic.name), 0);
		nic_close(&nic);
	}
}

/* ---- a guest that does it by itself --------------------------------------------------------- */

static struct { u64 seed, rounds, base; } garbage;

static u64 random_next(u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Rings full of noise, with enough truth in it to get somewhere */
static void garbage_entry(u64 *seed, u64 *entry)
{
	u64 r = random_next(seed);
	u32 i;

	for (i = 0; i < 8; i++)
		entry[i] = random_next(seed);
	if (r & 1) {		/* fields that pass, one segment */
		entry[0] = (r >> 8 & 0xff) | (r & 2 ? 0x100 : 0) | 0x10000 |
			   (entry[0] & 0xffff00000000ULL);
		entry[1] &= 0x3fffffULL;
		entry[2] = NIC_BUFS + (entry[2] & 0x7fffff);
		entry[3] = (r >> 16 & 0x7ff) + (r & 4 ? 60000 : 1);
	}
	if (r & 8) {		/* a buffer */
		entry[0] = 0x10000 | (entry[0] & 0xffff00000000ULL);
		entry[1] = 0;
		entry[2] = NIC_BUFS + (r >> 8 & 0x7ff000);
		entry[3] = 256 + (r >> 32 & 0xfff);
		entry[4] = 0;
		entry[5] = 0;
		entry[6] = 0;
		entry[7] = 0;
	}
}

static void guest_garbage(u64 id)
{
	u64 seed = garbage.seed + id * 0x9e3779b97f4a7c15ULL + 1;
	u64 i, j;

	for (i = 0; i < garbage.rounds; i++) {
		u64 q = random_next(&seed) % 2;
		u64 base = NIC_RINGS + q * 0x20000;
		struct vireo_ring_ctl *ctl = (void *)base;
		u32 put = random_next(&seed) % 40;

		for (j = 0; j < 64; j++)
			garbage_entry(&seed, (void *)(base + VIREO_RING_SUB(64) + j * 64));
		WRITE_ONCE(ctl->comp_head, READ_ONCE(ctl->comp_tail));
		WRITE_ONCE(ctl->comp_event, random_next(&seed));
		WRITE_ONCE(ctl->sub_tail, READ_ONCE(ctl->sub_head) + put);
		if (random_next(&seed) % 512 == 0)
			WRITE_ONCE(ctl->sub_tail, random_next(&seed));
		hypercall(VIREO_HC_DOORBELL, q, 0, 0, 0);
		hypercall(VIREO_HC_DOORBELL, random_next(&seed), 0, 0, 0);
	}
}

/* Rewrites entries as fast as it can while the other rings */
static void guest_rewrite(u64 id)
{
	u64 seed = garbage.seed ^ 0x5555;
	u64 i;

	for (i = 0; i < garbage.rounds * 20; i++)
		garbage_entry(&seed, (void *)(NIC_RINGS + (i & 1) * 0x20000 + VIREO_RING_SUB(64) +
					      random_next(&seed) % 64 * 64));
}

static void run_garbage(u32 seed, void (*second)(u64))
{
	struct flood flood;
	struct nic nic;

	nic_open(&nic, &(struct nic_config) {
		.accepted = NIC_CSUMS | NIC_RX_CSUMS, .vcpus = 2,
	});
	VM_SET(&nic.vm, garbage.seed, seed);
	VM_SET(&nic.vm, garbage.rounds, 400);
	flood_start(&flood, &nic);
	vcpu_set_entry(&nic.vm.vcpu[0], guest_garbage, 0);
	vcpu_set_entry(&nic.vm.vcpu[1], second, 1);
	vcpu_start(&nic.vm.vcpu[0]);
	vcpu_start(&nic.vm.vcpu[1]);
	vcpu_join(&nic.vm.vcpu[0]);
	vcpu_join(&nic.vm.vcpu[1]);
	flood_stop(&flood);
	test_note("errors %u %u", nic_error(&nic, &nic.ring[0]), nic_error(&nic, &nic.ring[1]));
	nic_close(&nic);
}

TEST(garbage_one)
{
	for (u32 i = 1; i <= 4; i++)
		run_garbage(i, guest_rewrite);
}

TEST(garbage_two)
{
	for (u32 i = 11; i <= 14; i++)
		run_garbage(i, guest_garbage);
}

/* A guest that never posts a buffer stops nobody else */
TEST(never_posts)
{
	struct flood flood;
	struct nic nic;

	nic_open(&nic, &(struct nic_config) {});
	flood_start(&flood, &nic);
	sleep(2);
	flood_stop(&flood);
	EXPECT_GT(flood.sent, 100);
	nic_close(&nic);
}

TEST_MAIN()
