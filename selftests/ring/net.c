// SPDX-License-Identifier: GPL-2.0
/* Network queues: frames both ways, offloads, limits, and the interface's life. */
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "harness.h"
#include "host.h"
#include "nic.h"

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

TEST_MAIN()
