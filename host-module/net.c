// SPDX-License-Identifier: GPL-2.0
/*
 * Network interfaces of the host whose other end is a guest (uapi/vireo_net.h).
 *
 * What the guest sends (struct net_tx) is copied, checked and given to the
 * host's stack in the doorbell itself.  What the host sends (struct net_rx) is
 * copied in the sender's context, which cannot sleep, so the guest's buffers
 * are pinned when they are posted.
 *
 * The interface's fd, which each queue holds too, owns the net_device.  The host's
 * stack forgets it then, or before when its network namespace ends; it stays, down.
 */
#include <linux/etherdevice.h>
#include <linux/if_vlan.h>
#include <linux/netdevice.h>
#include <linux/nsproxy.h>
#include <linux/rtnetlink.h>
#include <linux/skbuff.h>
#include <linux/tcp.h>
#include <linux/virtio_net.h>
#include <net/net_namespace.h>
#include <net/rtnetlink.h>

#include "vireo.h"
#include "../uapi/vireo_net.h"

#define NET_MAX_PAIRS	16
#define NET_MAX_MTU	(65535 - ETH_HLEN)
#define NET_MAX_PACKET	(65535 + VLAN_ETH_HLEN)	/* with GSO */
#define NET_MAX_BUFS	DIV_ROUND_UP(NET_MAX_PACKET, VIREO_NET_RX_MIN)
#define NET_LINEAR	(SKB_WITH_OVERHEAD(2048) - NET_SKB_PAD)	/* in one allocation */
#define NET_HEADERS	128	/* of a longer one this much is linear, or more */
#define NET_MIN_MSS	8	/* pieces are counted in 16 bits */
#define NET_POLL	msecs_to_jiffies(10)	/* for buffers, while there are too few */
#define NET_PATIENCE	HZ	/* then packets are dropped, not kept */
#define NET_FEATURES	(NETIF_F_SG | NETIF_F_FRAGLIST | NETIF_F_HIGHDMA | NETIF_F_HW_CSUM | \
			 NETIF_F_TSO | NETIF_F_TSO6 | NETIF_F_TSO_ECN)
#define NET_ACCEPTED	(VIREO_NET_F_CSUM | VIREO_NET_F_TSO | VIREO_NET_F_RX_CSUM | \
			 VIREO_NET_F_RX_TSO | VIREO_NET_F_MAC_FILTER)

static_assert(sizeof(struct vireo_net_tx) == VIREO_RING_ENTRY);
static_assert(sizeof(struct vireo_net_rx) == VIREO_RING_ENTRY);
static_assert(sizeof(struct vireo_net_info) == sizeof_field(struct vireo_comp, info));
static_assert(VIRTIO_NET_HDR_F_NEEDS_CSUM == (int)VIREO_NET_CSUM &&
	      VIRTIO_NET_HDR_GSO_TCPV4 == (int)VIREO_NET_GSO_TCPV4 &&
	      VIRTIO_NET_HDR_GSO_TCPV6 == (int)VIREO_NET_GSO_TCPV6 &&
	      VIRTIO_NET_HDR_GSO_ECN == (int)VIREO_NET_GSO_ECN);

/* A buffer that the guest has posted */
struct net_buf {
	struct bio_vec bv;	/* pinned */
	__le16 tag;
};

/*
 * A queue that the guest receives from.  The doorbell puts buffers, the
 * interface's transmit function takes them: (p) is written by the first, under
 * kick_lock, (x) by the second, under the lock of the interface's queue.
 */
struct net_rx {
	struct vireo_queue *q;		/* (i) */
	unsigned long since;		/* (x) when a packet found too few */
	u32 tail;			/* (p) buffers put, ever */
	u32 in;				/* (p) bytes of them; release: the buffers */
	u32 head;			/* (x) buffers taken, ever; release: their slots */
	u32 out;			/* (x) bytes of them */
	unsigned int n;			/* (x) completions not yet put */
	struct vireo_comp comp[QUEUE_BATCH + NET_MAX_BUFS];	/* (x) them */
	struct net_buf buf[];		/* @entries */
};

/* A queue that the guest transmits to; all under kick_lock */
struct net_tx {
	struct vireo_comp comp[QUEUE_BATCH];
	struct vireo_seg segs[VIREO_RING_INDIRECT];
};

struct net_if {
	struct vireo_device device;	/* (i) */
	struct net_device *dev;		/* (i) whose private part this is */
	struct completion gone;		/* the stack has forgotten @dev */
	u8 mac[ETH_ALEN];		/* (i) the guest's */
	bool filter;			/* (i) */
	u64 accepted;			/* (a) RTNL to write */
	unsigned long served;		/* (a) bit for each queue */
	struct net_rx *rx[NET_MAX_PAIRS];	/* (a) the lock of the interface's queue */
};

/* ---- From the guest ------------------------------------------------------------------------- */

/* What an entry says of its packet.  No packet, and no piece of one, is longer than the MTU. */
static u16 net_tx_offload(const struct net_if *net, const struct vireo_net_tx *e,
			  struct sk_buff *skb)
{
	const struct virtio_net_hdr hdr = {
		.flags = e->flags & VIREO_NET_CSUM,
		.gso_type = e->gso_type,
		.gso_size = (__force __virtio16)e->gso_size,
		.csum_start = (__force __virtio16)e->csum_start,
		.csum_offset = (__force __virtio16)e->csum_offset,
	};
	u32 longest = skb->len, start = le16_to_cpu(e->csum_start), mss = le16_to_cpu(e->gso_size);
	u8 type = e->gso_type & ~VIREO_NET_GSO_ECN;
	u64 accepted = READ_ONCE(net->accepted);

	if (e->reserved || e->flags & ~(VIREO_NET_CSUM | VIREO_SUB_INDIRECT) ||
	    (e->gso_type && (!hdr.flags || mss < NET_MIN_MSS || (type != VIREO_NET_GSO_TCPV4 &&
								 type != VIREO_NET_GSO_TCPV6))))
		return VIREO_COMP_INVALID;
	if ((hdr.flags && !(accepted & VIREO_NET_F_CSUM)) ||
	    (type && !(accepted & VIREO_NET_F_TSO)))
		return VIREO_COMP_UNSUPPORTED;
	/* The upper limit is that of offsets in an skb, with its headroom. */
	if (hdr.flags && (start < ETH_HLEN || start > S16_MAX ||
			  virtio_net_hdr_to_skb(skb, &hdr, true)))
		return VIREO_COMP_INVALID;
	/* "Dodgy" now: the stack checks the headers before it cuts, and counts the pieces. */
	if (type)
		longest = min(longest, start + tcp_hdrlen(skb) + mss);
	if (longest > READ_ONCE(net->dev->mtu) + VLAN_ETH_HLEN)
		return VIREO_COMP_INVALID;
	return VIREO_COMP_OK;
}

/* Copies the packet: from here on it is the copy that is looked at. */
static u16 net_tx_copy(struct vireo_queue *q, struct sk_buff *skb, unsigned int segs)
{
	struct net_tx *tx = q->room;
	const skb_frag_t *frag = skb_shinfo(skb)->frags;
	u32 n, room = skb_headlen(skb);
	void *to = skb->data;
	unsigned int i;

	for (i = 0; i < segs; i++) {
		u64 gpa = le64_to_cpu(tx->segs[i].gpa);
		u32 len = le32_to_cpu(tx->segs[i].len);

		for (; len; len -= n, gpa += n, room -= n, to += n) {
			int err;

			if (!room) {
				to = skb_frag_address(frag);
				room = skb_frag_size(frag++);
			}
			n = min(len, room);
			err = vireo_mem_rw(&q->vm->mem, gpa, to, n, false);
			if (err)
				return err == -ENOMEM ? VIREO_COMP_RETRY : VIREO_COMP_INVALID;
		}
	}
	return VIREO_COMP_OK;
}

/* The packet of an entry, or NULL and why in @status; OK: it is dropped without a word. */
static struct sk_buff *net_tx_packet(struct vireo_queue *q, const struct vireo_net_tx *e,
				     u16 *status)
{
	struct net_tx *tx = q->room;
	int len = vireo_queue_segs(q, e, tx->segs, 0, NET_MAX_PACKET), linear, err;
	struct net_if *net = q->dev;
	struct sk_buff *skb;

	*status = VIREO_COMP_INVALID;
	if (len < ETH_HLEN)
		return NULL;
	*status = VIREO_COMP_RETRY;
	linear = len <= NET_LINEAR ? len : NET_HEADERS;
	skb = alloc_skb_with_frags(NET_SKB_PAD + linear, len - linear, PAGE_ALLOC_COSTLY_ORDER,
				   &err, GFP_KERNEL | __GFP_NOWARN);
	if (!skb)
		return NULL;
	skb_reserve(skb, NET_SKB_PAD);
	skb_put(skb, linear);
	skb->len += len - linear;
	skb->data_len = len - linear;
	*status = net_tx_copy(q, skb, le16_to_cpu(e->nsegs)) ?: net_tx_offload(net, e, skb);
	if (!*status) {
		q->stat.bytes += len;
		if (!net->filter ||
		    ether_addr_equal(((struct ethhdr *)skb->data)->h_source, net->mac))
			return skb;
	}
	kfree_skb(skb);
	return NULL;
}

static u32 net_tx_kick(struct vireo_queue *q)
{
	struct net_device *dev = ((struct net_if *)q->dev)->dev;
	struct net_tx *tx = q->room;
	struct sk_buff *skb, *next;
	struct vireo_net_tx e;
	LIST_HEAD(packets);
	unsigned int n;
	u16 status;

	for (n = 0; n < QUEUE_BATCH && vireo_queue_take(q, &e); n++) {
		skb = net_tx_packet(q, &e, &status);
		if (skb)
			list_add_tail(&skb->list, &packets);
		tx->comp[n] = (struct vireo_comp){
			.tag = e.tag, .status = cpu_to_le16(status),
		};
	}
	local_bh_disable();	/* into the stack, as if from a wire */
	rcu_read_lock();	/* the stack knows an interface that is up for so long */
	list_for_each_entry_safe(skb, next, &packets, list) {
		if (dev->flags & IFF_UP) {
			dev_sw_netstats_rx_add(dev, skb->len);
			skb->protocol = eth_type_trans(skb, dev);
			skb_record_rx_queue(skb, q->index / 2);
		} else {
			skb_list_del_init(skb);
			kfree_skb(skb);
		}
	}
	netif_receive_skb_list(&packets);
	rcu_read_unlock();
	local_bh_enable();
	vireo_queue_complete(q, tx->comp, n);
	return n == QUEUE_BATCH ? 0 : QUEUE_ADAPT;
}

/* ---- To the guest: the sender's part, under the lock of the interface's queue --------------- */

static void net_rx_flush(struct net_rx *rx)
{
	if (rx->n)
		vireo_queue_complete(rx->q, rx->comp, rx->n);
	rx->n = 0;
}

static u32 net_rx_room(const struct net_rx *rx)
{
	/* acquire: the bytes, then the buffers that they are in */
	return smp_load_acquire(&rx->in) - rx->out;
}

/* There is room for the packet. */
static void net_rx_copy(struct net_rx *rx, const struct sk_buff *skb)
{
	struct vireo_net_info info;
	struct virtio_net_hdr hdr;
	u32 n, at;

	/* It cannot fail for what net_rx_refused() lets through. */
	virtio_net_hdr_from_skb(skb, &hdr, true, false, 0);
	info = (struct vireo_net_info) {
		.flags = hdr.flags, .gso_type = hdr.gso_type,
		.gso_size = (__force __le16)hdr.gso_size,
		.csum_start = (__force __le16)hdr.csum_start,
		.csum_offset = (__force __le16)hdr.csum_offset,
	};
	for (at = 0; at < skb->len; at += n) {
		struct net_buf *buf = &rx->buf[rx->head & (rx->q->entries - 1)];
		struct vireo_comp *comp = &rx->comp[rx->n++];

		n = min(buf->bv.bv_len, skb->len - at);
		skb_copy_bits(skb, at, bvec_virt(&buf->bv), n);	/* cannot fail within its length */
		put_page(buf->bv.bv_page);
		if (at + n < skb->len)
			info.flags |= VIREO_NET_MORE;
		comp->tag = buf->tag;
		comp->status = cpu_to_le16(VIREO_COMP_OK);
		comp->len = cpu_to_le32(n);
		memcpy(&comp->info, &info, sizeof(info));
		info = (struct vireo_net_info){};
		rx->out += buf->bv.bv_len;
		/* release: the slot was read */
		smp_store_release(&rx->head, rx->head + 1);
	}
	rx->q->stat.bytes += at;
}

/* Whether a packet of so many bytes has to wait; if so the queue is stopped. */
static bool net_rx_short(struct net_rx *rx, struct netdev_queue *txq, u32 want)
{
	if (net_rx_room(rx) >= want)
		return false;
	WRITE_ONCE(rx->since, jiffies);
	netif_tx_stop_queue(txq);
	smp_mb();	/* pairs with net_rx_wake(): the stop, then the look at the room */
	if (net_rx_room(rx) >= want) {
		netif_tx_start_queue(txq);
		return false;
	}
	vireo_queue_defer(rx->q, NET_POLL);
	return true;
}

/* What the driver did not accept, and what is not for this guest, does not reach it. */
static bool net_rx_refused(const struct net_if *net, struct sk_buff *skb)
{
	const u8 *to = ((const struct ethhdr *)skb->data)->h_dest;
	netdev_features_t features = READ_ONCE(net->dev->features);

	if (skb->len > NET_MAX_PACKET ||
	    (net->filter && !is_multicast_ether_addr(to) && !ether_addr_equal(to, net->mac)))
		return true;
	/* The rest is left from before a change of the features.  What is dodgy was checked. */
	if (skb->ip_summed != CHECKSUM_PARTIAL)
		return skb_is_gso(skb);
	return netif_needs_gso(skb, features | NETIF_F_GSO_ROBUST) ||
	       (!(features & NETIF_F_HW_CSUM) && skb_checksum_help(skb));
}

static netdev_tx_t net_xmit(struct sk_buff *skb, struct net_device *dev)
{
	struct netdev_queue *txq = skb_get_tx_queue(dev, skb);
	struct net_if *net = netdev_priv(dev);
	struct net_rx *rx = net->rx[skb_get_queue_mapping(skb)];

	if (!rx || !pskb_may_pull(skb, ETH_HLEN) || net_rx_refused(net, skb))
		goto drop;
	if (net_rx_short(rx, txq, skb->len)) {
		net_rx_flush(rx);
		return NETDEV_TX_BUSY;
	}
	net_rx_copy(rx, skb);
	dev_sw_netstats_tx_add(dev, 1, skb->len);
	dev_consume_skb_any(skb);
	if (!netdev_xmit_more() || rx->n >= QUEUE_BATCH)
		net_rx_flush(rx);
	return NETDEV_TX_OK;
drop:
	if (rx)
		net_rx_flush(rx);
	dev_core_stats_tx_dropped_inc(dev);
	dev_kfree_skb_any(skb);
	return NETDEV_TX_OK;
}

/* ---- To the guest: the doorbell's part ------------------------------------------------------ */

/* From here on the sender uses @rx, or drops what it has. */
static void net_rx_set(struct vireo_queue *q, struct net_rx *rx)
{
	struct net_if *net = q->dev;
	struct netdev_queue *txq = netdev_get_tx_queue(net->dev, q->index / 2);

	__netif_tx_lock_bh(txq);
	net->rx[q->index / 2] = rx;
	__netif_tx_unlock_bh(txq);
	netif_tx_wake_queue(txq);
}

static u16 net_rx_post(struct net_rx *rx, const struct vireo_net_rx *e)
{
	struct net_buf *buf = &rx->buf[rx->tail & (rx->q->entries - 1)];
	u64 gpa = le64_to_cpu(e->seg[0].gpa);
	u32 len = le32_to_cpu(e->seg[0].len);
	const u64 *word = (const void *)e;	/* one segment, a tag, and zeros */
	int n;

	if ((word[0] & ~(0xffffULL << 32)) != 1 << 16 || word[1] || e->seg[0].reserved ||
	    (word[4] | word[5] | word[6] | word[7]) ||
	    len < VIREO_NET_RX_MIN || len > PAGE_SIZE || offset_in_page(gpa) + len > PAGE_SIZE)
		return VIREO_COMP_INVALID;
	n = vireo_mem_pin(&rx->q->vm->mem, gpa, len, true, &buf->bv, rx->q->leaf);
	if (n < 0)
		return n == -ENOMEM ? VIREO_COMP_RETRY : VIREO_COMP_INVALID;
	buf->tag = e->tag;
	rx->tail++;
	/* release: the buffer, then its bytes */
	smp_store_release(&rx->in, rx->in + len);
	return VIREO_COMP_OK;
}

/* Lets the sender look again if buffers have come; if none has for too long, it drops. */
static void net_rx_wake(struct net_rx *rx, bool posted)
{
	struct net_if *net = rx->q->dev;
	u32 i = rx->q->index / 2;
	bool stopped, late;

	smp_mb();	/* pairs with net_rx_short(): the bytes, then the look at the queue */
	stopped = netif_tx_queue_stopped(netdev_get_tx_queue(net->dev, i));
	/* Read behind that: it was written before the queue was stopped. */
	late = time_after(jiffies, READ_ONCE(rx->since) + NET_PATIENCE);
	if (posted ? stopped || !net->rx[i] : stopped && late)
		net_rx_set(rx->q, posted ? rx : NULL);
	else if (stopped)
		vireo_queue_defer(rx->q, NET_POLL);
}

static u32 net_rx_kick(struct vireo_queue *q)
{
	struct net_rx *rx = q->room;
	/* acquire: the sender has read the slots */
	u32 room = q->entries - (rx->tail - smp_load_acquire(&rx->head)), tail = rx->tail;
	struct vireo_net_rx e;
	bool waits = false;
	unsigned int n;

	for (n = 0; !waits && n < min_t(u32, room, QUEUE_BATCH) && vireo_queue_take(q, &e); n++) {
		struct vireo_comp comp = {
			.tag = e.tag, .status = cpu_to_le16(net_rx_post(rx, &e)),
		};

		/* One that is no buffer.  Completions come in the order of posting. */
		waits = comp.status && vireo_queue_in_flight(q) > 1;
		if (waits)
			vireo_queue_untake(q, 1);
		else if (comp.status)
			vireo_queue_complete(q, &comp, 1);
	}
	net_rx_wake(rx, rx->tail != tail);
	if (waits)	/* until the sender is short of buffers, or somebody rings */
		return q->entries;
	/*
	 * The next doorbell: when half of what is there now has been put again.  So it
	 * comes before the last buffer is used, and in any case if the driver puts as
	 * many as before.
	 */
	return n == QUEUE_BATCH ? 0 : (rx->tail - READ_ONCE(rx->head)) / 2;
}

/* ---- Queues --------------------------------------------------------------------------------- */

static int net_start(struct vireo_queue *q)
{
	struct net_if *net = q->dev;
	struct net_rx *rx;

	rx = kvzalloc(q->index & 1 ? sizeof(struct net_tx) : struct_size(rx, buf, q->entries),
		      GFP_KERNEL_ACCOUNT);
	if (!rx)
		return -ENOMEM;
	q->room = rx;
	if (test_and_set_bit(q->index, &net->served))
		return -EBUSY;
	if (!(q->index & 1)) {
		rx->q = q;
		net_rx_set(q, rx);
	}
	return 0;
}

/* Nothing more is sent.  The buffers that were not used stay in the ring, not taken. */
static void net_stop(struct vireo_queue *q)
{
	struct net_if *net = q->dev;
	struct net_rx *rx = q->room;

	if (!(q->index & 1)) {
		net_rx_set(q, NULL);
		net_rx_flush(rx);
		vireo_queue_untake(q, rx->tail - rx->head);
		for (; rx->head != rx->tail; rx->head++)
			put_page(rx->buf[rx->head & (q->entries - 1)].bv.bv_page);
	}
	clear_bit(q->index, &net->served);
}

static u32 net_kick(struct vireo_queue *q)
{
	return q->index & 1 ? net_tx_kick(q) : net_rx_kick(q);
}

static const struct vireo_queue_ops net_queue_ops = {
	.start = net_start,
	.kick = net_kick,
	.stop = net_stop,
};

/* ---- The interface, as the host sees it ----------------------------------------------------- */

static int net_init(struct net_device *dev)
{
	dev->tstats = netdev_alloc_pcpu_stats(struct pcpu_sw_netstats);
	return dev->tstats ? 0 : -ENOMEM;
}

/* Nobody uses it any more. */
static void net_gone(struct net_device *dev)
{
	struct net_if *net = netdev_priv(dev);

	free_percpu(dev->tstats);
	complete(&net->gone);
}

/* What the driver does not take the stack does before. */
static netdev_features_t net_fix_features(struct net_device *dev, netdev_features_t features)
{
	const struct net_if *net = netdev_priv(dev);

	if (!(net->accepted & VIREO_NET_F_RX_CSUM))
		features &= ~NETIF_F_HW_CSUM;
	if (!(net->accepted & VIREO_NET_F_RX_TSO))
		features &= ~NETIF_F_ALL_TSO;
	return features;
}

static const struct net_device_ops net_ops = {
	.ndo_init = net_init,
	.ndo_start_xmit = net_xmit,
	.ndo_fix_features = net_fix_features,
	.ndo_get_stats64 = dev_get_tstats64,
	.ndo_set_mac_address = eth_mac_addr,
	.ndo_validate_addr = eth_validate_addr,
};

/*
 * With them an interface ends with its network namespace instead of moving to
 * the first one, and unloading the module waits for that.  Without "setup" and
 * "dellink" user space makes none and deletes none.
 */
struct rtnl_link_ops vireo_net_link_ops = {
	.kind = "vireo",
};

/* No queue is left: each has held the fd. */
static void net_destroy(struct net_if *net)
{
	rtnl_lock();
	if (net->dev->reg_state == NETREG_REGISTERED)
		unregister_netdevice(net->dev);
	rtnl_unlock();
	wait_for_completion(&net->gone);	/* also of a namespace that is just ending */
	vireo_vm_put(net->device.vm);
	free_netdev(net->dev);
}

/* ---- The fd --------------------------------------------------------------------------------- */

static long net_properties(void *object, unsigned int cmd, void *arg)
{
	struct net_if *net = ((struct file *)object)->private_data;
	struct net_device *dev = net->dev;
	struct vireo_net *n = arg;
	u64 a = n->accepted;
	int err = 0;

	if (n->pairs > net->device.queues / 2 || a & ~NET_ACCEPTED ||
	    (a & VIREO_NET_F_TSO && !(a & VIREO_NET_F_CSUM)) ||
	    (a & VIREO_NET_F_RX_TSO && !(a & VIREO_NET_F_RX_CSUM)))
		return -EINVAL;
	rtnl_lock();
	if (dev->reg_state != NETREG_REGISTERED) {
		err = -ENODEV;
	} else if (cmd == VIREO_SET_NET) {
		WRITE_ONCE(net->accepted, a);
		netdev_update_features(dev);
		err = netif_set_real_num_tx_queues(dev, n->pairs ?: 1);
		if (n->pairs)
			netif_carrier_on(dev);
		else
			netif_carrier_off(dev);
	} else {
		strscpy(n->name, dev->name, sizeof(n->name));
		n->ifindex = dev->ifindex;
		n->pairs = netif_carrier_ok(dev) ? dev->real_num_tx_queues : 0;
		n->peer_up = !!(dev->flags & IFF_UP);
		n->mtu = dev->mtu;
		n->accepted = net->accepted;
	}
	rtnl_unlock();
	return err;
}

static const struct vireo_call net_calls[] = {
	{ VIREO_GET_NET, net_properties },
	{ VIREO_SET_NET, net_properties },
	{ VIREO_CREATE_QUEUE, vireo_queue_create, VIREO_QUEUE_RESUME },
	{}
};

DEFINE_VIREO_FD(net, file, net_destroy);

static void net_setup(struct net_device *dev)
{
	ether_setup(dev);
	dev->netdev_ops = &net_ops;
	dev->rtnl_link_ops = &vireo_net_link_ops;
	dev->priv_destructor = net_gone;
	dev->priv_flags &= ~IFF_TX_SKB_SHARING;
	dev->priv_flags |= IFF_LIVE_ADDR_CHANGE;
	dev->features = NET_FEATURES;
	dev->hw_features = NET_FEATURES;
	dev->vlan_features = NET_FEATURES;
	dev->min_mtu = ETH_MIN_MTU;
	dev->max_mtu = NET_MAX_MTU;
	eth_hw_addr_random(dev);
	netif_carrier_off(dev);
}

/**
 * vireo_net_create() - VIREO_CREATE_NET
 * @vm: the VM
 * @cmd: the call
 * @arg: struct vireo_create_net, unchecked
 * Context: May sleep.
 * Return: The interface's fd, or -EPERM, -EINVAL, -EEXIST, -ENOMEM, -EMFILE...
 */
long vireo_net_create(void *vm, unsigned int cmd, void *arg)
{
	const struct vireo_create_net *args = arg;
	struct net_device *dev;
	struct net_if *net;
	int err;

	if (!ns_capable(current->nsproxy->net_ns->user_ns, CAP_NET_ADMIN))
		return -EPERM;
	if (strnlen(args->name, sizeof(args->name)) == sizeof(args->name) ||
	    !is_valid_ether_addr(args->mac) || !args->pairs || args->pairs > NET_MAX_PAIRS ||
	    args->mtu < ETH_MIN_MTU || args->mtu > NET_MAX_MTU)
		return -EINVAL;
	dev = alloc_netdev_mqs(sizeof(*net), args->name,
			       strchr(args->name, '%') ? NET_NAME_ENUM : NET_NAME_USER,
			       net_setup, args->pairs, args->pairs);
	if (!dev)
		return -ENOMEM;
	dev->mtu = args->mtu;
	dev_net_set(dev, current->nsproxy->net_ns);
	net = netdev_priv(dev);
	net->device = (struct vireo_device) {
		.vm = vm, .ops = &net_queue_ops, .queues = 2 * args->pairs,
	};
	net->dev = dev;
	init_completion(&net->gone);
	ether_addr_copy(net->mac, args->mac);
	net->filter = args->flags & VIREO_NET_FILTER;
	rtnl_lock();
	err = register_netdevice(dev);
	if (err)
		free_netdev(dev);
	rtnl_unlock();
	if (err)
		return err;
	kref_get(&net->device.vm->ref);
	err = anon_inode_getfd("vireo-net", &net_fops, net, O_RDWR | O_CLOEXEC);
	if (err < 0)
		net_destroy(net);
	return err;
}
