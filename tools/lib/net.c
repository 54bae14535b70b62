// SPDX-License-Identifier: GPL-2.0
/* A network interface of the host whose other end is the guest's. */
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libvireo.h"
#include "util.h"

#define MAX_PACKET	65553U	/* with GSO: 64 KiB less one, behind Ethernet and VLAN headers */

#define MAC_GROUP	0x01	/* in the first byte */
#define MAC_LOCAL	0x02

static_assert_that(sizeof(struct vireo_net_config) <= VIREO_PV_CONFIG, "the config part fits");
static_assert_that(sizeof(struct vireo_net_config) % 4 == 0, "whole registers");

/**
 * struct net - an interface
 * @pv: its device
 * @mac: the guest's address
 * @filter: see struct vireo_net_spec
 * @bridge: likewise, ""
 */
struct net {
	struct vireo_pv pv;
	__u8 mac[6];
	bool filter;
	char bridge[IFNAMSIZ];
};

static struct net *to_net(struct vireo_pv *pv)
{
	return (struct net *)((char *)pv - offsetof(struct net, pv));
}

static int get_net(struct vireo_pv *pv, struct vireo_net *net, struct vireo_error *err)
{
	memset(net, 0, sizeof(*net));
	net->size = sizeof(*net);
	if (ioctl(pv->fd, VIREO_GET_NET, net))
		return vireo_fail(err, errno, "no properties of interface %s: %s", pv->backing,
				  strerror(errno));
	return 0;
}

static int net_refresh(struct vireo_pv *pv, void *config, struct vireo_error *err)
{
	struct vireo_net_config *c = config;
	struct vireo_net net;
	int ret;

	ret = get_net(pv, &net, err);
	if (ret)
		return ret;
	memset(c, 0, sizeof(*c));
	memcpy(c->mac, to_net(pv)->mac, sizeof(c->mac));
	c->mtu = net.mtu;
	c->link = net.peer_up ? VIREO_NET_LINK_UP : 0;
	c->max_packet = MAX_PACKET;
	snprintf(pv->backing, sizeof(pv->backing), "%.*s", (int)sizeof(net.name), net.name);
	return 0;
}

static bool is_used(const struct vireo_pv_queue *q)
{
	return q->fd >= 0 || q->suspended;
}

/* What the guest's driver uses; with a pair of queues the host's end has carrier. */
static int net_accept(struct vireo_pv *pv, bool up, __u64 features)
{
	struct vireo_net net = { .size = sizeof(net), .accepted = features };
	const struct vireo_pv_queue *q = pv->queue;

	while (up && net.pairs < pv->queues / 2 && is_used(&q[2 * net.pairs]) &&
	       is_used(&q[2 * net.pairs + 1]))
		net.pairs++;
	return ioctl(pv->fd, VIREO_SET_NET, &net) ? -errno : 0;
}

static void net_destroy(struct vireo_pv *pv)
{
	if (pv->fd >= 0)
		close(pv->fd);
	free(to_net(pv));
}

static int create_fail(struct vireo_error *err, const char *name, int code)
{
	switch (code) {
	case ENOTTY:
		return vireo_fail(err, code,
				  "the module has no network: install module and tool from one release");
	case EPERM:
		return vireo_fail(err, code,
				  "may not create interface %s: this needs CAP_NET_ADMIN in its network namespace (run as root)",
				  name);
	case EEXIST:
		return vireo_fail(err, code,
				  "interface %s exists: choose another name, or let vireo%%d find one",
				  name);
	case EINVAL:
		return vireo_fail(err, code,
				  "`%s` is not a name for an interface: 1 to 15 characters, no `/`, `:` or blanks",
				  name);
	default:
		return vireo_fail(err, code, "cannot create interface %s: %s", name,
				  strerror(code));
	}
}

static int set_mac(struct net *n, const __u8 *mac, struct vireo_error *err)
{
	static const __u8 none[6];

	memcpy(n->mac, mac, sizeof(n->mac));
	if (memcmp(mac, none, sizeof(none)))
		return 0;
	if (getrandom(n->mac, sizeof(n->mac), 0) != sizeof(n->mac))
		return vireo_fail(err, errno, "no random numbers: %s", strerror(errno));
	n->mac[0] = (__u8)((n->mac[0] & ~MAC_GROUP) | MAC_LOCAL);
	return 0;
}

/* Have the kernel do what a message says; 0 or a negative errno */
static int ask_kernel(struct nlmsghdr *message)
{
	struct {
		struct nlmsghdr h;
		struct nlmsgerr e;
		char room[512];
	} reply;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), ret = 0;

	message->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	if (fd < 0 || send(fd, message, message->nlmsg_len, 0) < 0 ||
	    recv(fd, &reply, sizeof(reply), 0) < (ssize_t)sizeof(reply.h) + (int)sizeof(reply.e))
		ret = -errno;
	else if (reply.h.nlmsg_type == NLMSG_ERROR)
		ret = reply.e.error;
	if (fd >= 0)
		close(fd);
	return ret;
}

/* Make the interface a port of its bridge, and set it up. */
static int join_bridge(struct net *n, const struct vireo_net *net, struct vireo_error *err)
{
	struct {
		struct nlmsghdr h;
		struct ifinfomsg i;
		struct rtattr a;
		__u32 bridge;
	} message = {
		.h = { .nlmsg_len = sizeof(message), .nlmsg_type = RTM_SETLINK },
		.i = { .ifi_index = (int)net->ifindex, .ifi_flags = IFF_UP, .ifi_change = IFF_UP },
		.a = { .rta_len = RTA_LENGTH(sizeof(message.bridge)), .rta_type = IFLA_MASTER },
		.bridge = if_nametoindex(n->bridge),
	};
	int ret;

	if (!n->bridge[0])
		return 0;
	ret = message.bridge ? ask_kernel(&message.h) : -errno;
	return !ret ? 0 : vireo_fail(err, -ret, "cannot make %s a port of %s: %s", net->name,
				     n->bridge, strerror(-ret));
}

/* The module's part; the address is set. */
static int make_net(struct net *n, const char *name, __u32 mtu, struct vireo_error *err)
{
	struct vireo_create_net create = {
		.size = sizeof(create), .flags = n->filter ? VIREO_NET_FILTER : 0,
		.pairs = (__u16)(n->pv.queues / 2), .mtu = mtu,
	};
	size_t len = strlen(name);
	struct vireo_net net;
	int ret;

	if (!len || len >= sizeof(create.name))
		return vireo_fail(err, EINVAL,
				  "`%s` is not a name for an interface: 1 to 15 characters", name);
	memcpy(create.name, name, len);
	memcpy(create.mac, n->mac, sizeof(create.mac));
	n->pv.fd = ioctl(n->pv.vm->fd, VIREO_CREATE_NET, &create);
	if (n->pv.fd < 0)
		return create_fail(err, name, errno);
	ret = get_net(&n->pv, &net, err);
	return ret ? ret : join_bridge(n, &net, err);
}

static int net_can_fork(struct vireo_pv *pv, struct vireo_error *err)
{
	struct vireo_net net;

	return get_net(pv, &net, err);	/* it may be gone, with its namespace */
}

/** vireo_net_derive_name - "vireo3" is one of "vireo%d" */
void vireo_net_derive_name(char *name)
{
	size_t len = strlen(name);

	while (len && name[len - 1] >= '0' && name[len - 1] <= '9')
		len--;
	if (len > IFNAMSIZ - 5)	/* room for three digits */
		len = IFNAMSIZ - 5;
	strcpy(name + len, "%d");
}

/* Another interface with another address, which the guest's driver takes over. */
static int net_fork(struct vireo_pv *pv, const struct vireo_clone *clone, struct vireo_error *err)
{
	static const __u8 none[6];
	struct vireo_net_config *c = (struct vireo_net_config *)pv->config;
	struct net *n = to_net(pv);
	char name[IFNAMSIZ];
	int ret;

	snprintf(name, sizeof(name), "%.*s", IFNAMSIZ - 1, pv->backing);
	vireo_net_derive_name(name);
	if (pv->number < ARRAY_SIZE(clone->net) && clone->net[pv->number].name[0])
		strcpy(name, clone->net[pv->number].name);
	if (pv->number < ARRAY_SIZE(clone->net) && clone->net[pv->number].bridge[0])
		strcpy(n->bridge, clone->net[pv->number].bridge);
	close(pv->fd);
	pv->fd = -1;
	ret = set_mac(n, none, err);
	if (!ret)
		ret = make_net(n, name, c->mtu, err);
	if (!ret && pv->status == VIREO_STATUS_OK)
		ret = net_accept(pv, true, pv->accepted);
	if (!ret)
		ret = vireo_pv_refresh(pv, err);
	return ret < 0 ? ret : 0;
}

static const struct vireo_pv_ops net_ops = {
	.kind = "net",
	.accept = net_accept,
	.refresh = net_refresh,
	.can_fork = net_can_fork,
	.fork = net_fork,
	.destroy = net_destroy,
};

static int net_init(struct net *n, const struct vireo_net_spec *spec, struct vireo_error *err)
{
	int ret;

	if (spec->bridge)
		snprintf(n->bridge, sizeof(n->bridge), "%s", spec->bridge);
	ret = set_mac(n, spec->mac, err);
	if (!ret)
		ret = make_net(n, spec->name, spec->mtu, err);
	return ret ? ret : net_refresh(&n->pv, n->pv.config, err);
}

/**
 * vireo_net_create - make a network interface
 * @vm: whose
 * @spec: what
 * @err: why not
 *
 * Return: a device for vireo_pv_attach(), or NULL.
 */
struct vireo_pv *vireo_net_create(struct vireo_vm *vm, const struct vireo_net_spec *spec,
				  struct vireo_error *err)
{
	struct net *n = calloc(1, sizeof(*n));

	if (!n) {
		vireo_fail(err, ENOMEM, "out of memory");
		return NULL;
	}
	n->filter = spec->filter;
	n->pv.ops = &net_ops;
	n->pv.vm = vm;
	n->pv.fd = -1;
	n->pv.queues = 2 * spec->pairs;
	n->pv.queue_max = VIREO_RING_MAX;
	n->pv.config_len = sizeof(struct vireo_net_config);
	n->pv.offered = VIREO_NET_F_CSUM | VIREO_NET_F_TSO | VIREO_NET_F_RX_CSUM |
			VIREO_NET_F_RX_TSO | (spec->filter ? VIREO_NET_F_MAC_FILTER : 0);
	snprintf(n->pv.backing, sizeof(n->pv.backing), "%s", spec->name);
	if (net_init(n, spec, err)) {
		net_destroy(&n->pv);
		return NULL;
	}
	return &n->pv;
}

/** vireo_net_describe - what an interface is now; false: it is another device */
bool vireo_net_describe(struct vireo_pv *pv, struct vireo_net_spec *spec)
{
	struct net *n = to_net(pv);

	if (pv->ops != &net_ops)
		return false;
	*spec = (struct vireo_net_spec){
		.name = pv->backing,
		.mtu = ((const struct vireo_net_config *)pv->config)->mtu,
		.pairs = pv->queues / 2, .filter = n->filter,
		.bridge = n->bridge[0] ? n->bridge : NULL,
	};
	memcpy(spec->mac, n->mac, sizeof(spec->mac));
	return true;
}

/**
 * vireo_net_watch - hear of changes to the host's interfaces
 * @err: why not
 *
 * Return: an fd to poll for input; then vireo_net_watch_read() and
 * vireo_pv_refresh() of every interface are due.
 */
int vireo_net_watch(struct vireo_error *err)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
	int fd, code, on = 1;

	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	if (fd < 0)
		return vireo_fail(err, errno, "no netlink socket: %s", strerror(errno));
	/* Also of those that were moved to another namespace; who may not, does without. */
	setsockopt(fd, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address))) {
		code = errno;
		close(fd);
		return vireo_fail(err, code, "cannot listen to changes of interfaces: %s",
				  strerror(code));
	}
	return fd;
}

/** vireo_net_watch_read - forget what was reported: the interfaces are asked instead */
void vireo_net_watch_read(int fd)
{
	char buf[16384];

	/* ENOBUFS: something was lost, which is just another change. */
	while (recv(fd, buf, sizeof(buf), 0) > 0 || errno == ENOBUFS)
		continue;
}
