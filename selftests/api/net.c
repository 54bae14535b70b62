// SPDX-License-Identifier: GPL-2.0
/* Network interfaces: making them, names, permission, properties. */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "harness.h"
#include "nic.h"

TEST(names)
{
	static const char * const bad[] = {
		"", ".", "..", "a/b", "a b", "a:b", "a%", "a%x", "%d%d", "a%%d", "sixteen letters!",
	};
	struct test_vm vm;
	struct vireo_net net;
	u32 i;
	int fd, second;

	vm_open(&vm, 1);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		fd = nic_create(vm.fd, bad[i], nic_mac, 1, NIC_MTU, 0);
		EXPECT_THAT(fd == -EINVAL, "`%s`: %d", bad[i], fd);
	}
	fd = nic_create(vm.fd, "vname", nic_mac, 1, NIC_MTU, 0);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(nic_get(fd, &net), 0);
	EXPECT_EQ(strcmp(net.name, "vname"), 0);
	EXPECT_EQ(net.ifindex, if_nametoindex("vname"));
	EXPECT_EQ(nic_create(vm.fd, "vname", nic_mac, 1, NIC_MTU, 0), -EEXIST);
	EXPECT_EQ(nic_create(vm.fd, "lo", nic_mac, 1, NIC_MTU, 0), -EEXIST);
	close(fd);
	EXPECT_EQ(if_nametoindex("vname"), 0);

	fd = nic_create(vm.fd, "vname%d", nic_mac, 1, NIC_MTU, 0);
	second = nic_create(vm.fd, "vname%d", nic_mac, 1, NIC_MTU, 0);
	EXPECT_EQ(nic_get(fd, &net), 0);
	EXPECT_EQ(strcmp(net.name, "vname0"), 0);
	EXPECT_EQ(nic_get(second, &net), 0);
	EXPECT_EQ(strcmp(net.name, "vname1"), 0);
	close(second);
	/* The fd keeps the VM */
	vm_close(&vm);
	EXPECT_EQ(nic_get(fd, &net), 0);
	close(fd);
	EXPECT_EQ(if_nametoindex("vname0"), 0);
}

TEST(parameters)
{
	static const u8 zero[6], group[6] = { 1, 0, 0x5e, 0, 0, 1 };
	struct test_vm vm;
	u32 i;

	vm_open(&vm, 1);
	EXPECT_EQ(nic_create(vm.fd, "v%d", zero, 1, NIC_MTU, 0), -EINVAL);
	EXPECT_EQ(nic_create(vm.fd, "v%d", group, 1, NIC_MTU, 0), -EINVAL);
	EXPECT_EQ(nic_create(vm.fd, "v%d", nic_mac, 0, NIC_MTU, 0), -EINVAL);
	EXPECT_EQ(nic_create(vm.fd, "v%d", nic_mac, 17, NIC_MTU, 0), -EINVAL);
	EXPECT_EQ(nic_create(vm.fd, "v%d", nic_mac, 65535, NIC_MTU, 0), -EINVAL);
	EXPECT_EQ(nic_create(vm.fd, "v%d", nic_mac, 1, 0, 0), -EINVAL);
	EXPECT_EQ(nic_create(vm.fd, "v%d", nic_mac, 1, 67, 0), -EINVAL);
	EXPECT_EQ(nic_create(vm.fd, "v%d", nic_mac, 1, 65522, 0), -EINVAL);
	EXPECT_EQ(nic_create(vm.fd, "v%d", nic_mac, 1, ~0U, 0), -EINVAL);
	for (i = 1; i <= 16; i += 15)
		EXPECT_GE(nic_create(vm.fd, "v%d", nic_mac, i, i > 1 ? 65521 : 68,
				     VIREO_NET_FILTER), 0);
}

TEST(properties)
{
	struct vireo_net net;
	struct test_vm vm;
	int fd;

	vm_open(&vm, 1);
	fd = nic_create(vm.fd, "v%d", nic_mac, 1, 1234, 0);
	EXPECT_EQ(nic_get(fd, &net), 0);
	EXPECT_EQ(net.mtu, 1234);
	EXPECT_EQ(net.pairs, 0);
	EXPECT_EQ(net.peer_up, 0);
	EXPECT_EQ(net.accepted, 0);
	EXPECT_EQ(nic_set(fd, 1, NIC_CSUMS | NIC_RX_CSUMS | VIREO_NET_F_MAC_FILTER), 0);
	EXPECT_EQ(nic_get(fd, &net), 0);
	EXPECT_EQ(net.pairs, 1);
	EXPECT_EQ(net.accepted, 0x1f);
	EXPECT_EQ(nic_set(fd, 2, 0), -EINVAL);
	EXPECT_EQ(nic_set(fd, 0, 0x20), -EINVAL);
	EXPECT_EQ(nic_set(fd, 0, 1ULL << 63), -EINVAL);
	EXPECT_EQ(nic_set(fd, 0, VIREO_NET_F_TSO), -EINVAL);
	EXPECT_EQ(nic_set(fd, 0, VIREO_NET_F_RX_TSO), -EINVAL);
	EXPECT_EQ(nic_get(fd, &net), 0);
	EXPECT_EQ(net.accepted, 0x1f);
	EXPECT_EQ(nic_set(fd, 0, 0), 0);
	EXPECT_EQ(nic_get(fd, &net), 0);
	EXPECT_EQ(net.pairs, 0);
	EXPECT_EQ(net.accepted, 0);
}

/* Who has the right in the network namespace that it is in, and nobody else */
TEST(permission)
{
	struct vireo_net net;
	struct test_vm vm;
	int fd;

	vm_open(&vm, 1);
	fd = nic_create(vm.fd, "vmine", nic_mac, 1, NIC_MTU, 0);
	EXPECT_GE(fd, 0);
	ASSERT_EQ(setresuid(65534, 65534, 65534), 0);
	EXPECT_EQ(nic_create(vm.fd, "v%d", nic_mac, 1, NIC_MTU, 0), -EPERM);
	EXPECT_EQ(nic_get(fd, &net), 0);
	prctl(PR_SET_DUMPABLE, 1);
	if (unshare(CLONE_NEWUSER))
		SKIP("no user namespaces: %s", strerror(errno));
	EXPECT_EQ(nic_create(vm.fd, "v%d", nic_mac, 1, NIC_MTU, 0), -EPERM);
	if (unshare(CLONE_NEWNET))
		SKIP("no network namespaces: %s", strerror(errno));
	fd = nic_create(vm.fd, "vmine", nic_mac, 1, NIC_MTU, 0);
	EXPECT_GE(fd, 0);
}

TEST_MAIN()
