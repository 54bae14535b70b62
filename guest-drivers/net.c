// SPDX-License-Identifier: GPL-2.0
/*
 * vireo_net: network interfaces.
 *
 * Two rings, one to receive and one to transmit, are a pair with one NAPI
 * context and one interrupt.  The receive ring is NAPI's alone, the transmit
 * ring belongs to who holds the queue's transmit lock.  The device works while
 * the interface is up, and is reset when it is not; RTNL is held by whoever
 * changes that.
 *
 * VIREO_NET_F_MAC_FILTER is not accepted: an interface that may be put in
 * promiscuous mode any time, or be given another address, needs all packets.
 */
#include <linux/dma-mapping.h>
#include <linux/etherdevice.h>
#include <linux/ethtool.h>
#include <linux/interrupt.h>
#include <linux/module.h>
#include <linux/rtnetlink.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <net/busy_poll.h>

#include "../uapi/vireo_net.h"
#include "compat.h"
#include "ring.h"

#define RX_PAD		64U	/* ahead of a packet, as NET_SKB_PAD */
#define RX_TAIL		SKB_DATA_ALIGN(sizeof(struct skb_shared_info))
#define RX_COPY		256	/* a packet up to this is copied, its page used again */
#define RX_HEAD		(SKB_DATA_ALIGN(RX_PAD + RX_COPY) + RX_TAIL)	/* to so many bytes */
#define RX_BATCH	16U	/* buffers, before the device is told of more */
#define TX_SEGS		(MAX_SKB_FRAGS + 1)
#define TX_LIST		roundup_pow_of_two(TX_SEGS)	/* so that no list crosses a page */
#define GSO_HEADROOM	(VLAN_ETH_HLEN)
#define REFILL_DELAY	(HZ / 20)

static_assert(TX_SEGS <= VIREO_RING_INDIRECT);
static_assert(sizeof(struct vireo_net_tx) == VIREO_RING_ENTRY);
static_assert(sizeof(struct vireo_net_rx) == VIREO_RING_ENTRY);
static_assert(sizeof(struct vireo_net_info) == sizeof_field(struct vireo_comp, info));
/* The longest packet of all, in one skb */
static_assert((PAGE_SIZE - RX_PAD - RX_TAIL) * (MAX_SKB_FRAGS + 1) >= 65535 + VLAN_ETH_HLEN);

static unsigned int entries = 256;
module_param(entries, uint, 0444);
MODULE_PARM_DESC(entries, "entries of a queue at first, a power of two (256)");

/* What a transmit entry stands for; the addresses are not where the device sees them. */
struct tx_buf {
	struct sk_buff *skb;		/* or */
	struct xdp_frame *frame;	/* whose page is mapped by its pool */
	unsigned int len;
	unsigned int count;
	struct {
		dma_addr_t addr;
		u32 len;
	} map[TX_SEGS];
};

struct pair_stats {
	u64 rx_packets;
	u64 rx_bytes;
	u64 rx_errors;
	u64 rx_dropped;
	u64 rx_xdp;
	u64 tx_packets;
	u64 tx_bytes;
	u64 tx_dropped;
	u64 tx_xdp;
	u64 doorbells;
	u64 interrupts;
};

static const char stat_names[][ETH_GSTRING_LEN] = {
	"rx_packets", "rx_bytes", "rx_errors", "rx_dropped", "rx_xdp",
	"tx_packets", "tx_bytes", "tx_dropped", "tx_xdp", "doorbells", "interrupts",
};

static_assert(sizeof(struct pair_stats) == ARRAY_SIZE(stat_names) * sizeof(u64));

/**
 * struct net_pair - a receive and a transmit queue
 * @napi: of both
 * @nif: the interface
 * @index: number of the pair
 * @rx: receive queue; its cookies are pages
 * @pool: where these come from
 * @heads: pages whose parts small packets are copied to
 * @xdp_rxq: for XDP programs
 * @skb: (n) packet of which more is to come
 * @info: (n) what was said of it
 * @skip: (n) the rest of a packet is to be dropped
 * @datagrams: (n) packets for the stack when the ring is empty
 * @posted: (n) tag of the next buffer
 * @next: (n) tag of the next completion, as they come in order
 * @refill: try again to get memory for buffers
 * @tx: transmit queue; its cookies are struct tx_buf
 * @bufs: (t) of each tag
 * @free: (t) stack of tags not in use
 * @nfree: (t) its height
 * @lists: lists of segments, one for each tag
 * @lists_dma: their address
 * @stats: each written where its ring is used
 * @name: of the interrupt
 *
 * (n) NAPI, (t) transmit lock
 */
struct net_pair {
	struct napi_struct napi;
	struct net_if *nif;
	unsigned int index;

	struct vireo_queue rx;
	struct page_pool *pool;
	struct page_pool *heads;
	struct xdp_rxq_info xdp_rxq;
	struct sk_buff *skb;
	struct vireo_net_info info;
	bool skip;
	struct list_head datagrams;
	u32 posted;
	u32 next;
	struct delayed_work refill;

	struct vireo_queue tx ____cacheline_aligned;
	struct tx_buf *bufs;
	u16 *free;
	u32 nfree;
	struct vireo_seg *lists;
	dma_addr_t lists_dma;

	struct pair_stats stats;
	char name[IFNAMSIZ + 16];
} ____cacheline_aligned;

/**
 * struct net_if - an interface
 * @vd: its PCI function
 * @dev: the network device
 * @npairs: how many there are
 * @vectors: for pairs; 0: all share vector 0
 * @rx_entries: of a receive queue; the device may allow less
 * @tx_entries: of a transmit queue; likewise
 * @features: in use
 * @up: queues are enabled
 * @stuck: the transmit timeout struck
 * @pad: bytes ahead of a packet in its buffer
 * @room: bytes for it there
 * @xdp: the program, if any
 * @config_work: the config part changed
 * @reset_work: something is wrong with the device
 * @pairs: the pairs
 */
struct net_if {
	struct vireo_dev vd;
	struct net_device *dev;
	unsigned int npairs;
	unsigned int vectors;
	u32 rx_entries;
	u32 tx_entries;
	u64 features;
	bool up;
	bool stuck;
	unsigned int pad;
	unsigned int room;
	struct bpf_prog __rcu *xdp;
	struct work_struct config_work;
	struct work_struct reset_work;
	struct net_pair *pairs;
};

static struct netdev_queue *pair_txq(struct net_pair *pair)
{
	return netdev_get_tx_queue(pair->nif->dev, pair->index);
}

static struct device *pair_dev(struct net_pair *pair)
{
	return &pair->nif->vd.pci->dev;
}

/* The ring of @q was found broken, or is now. */
static void queue_broke(struct net_pair *pair, struct vireo_queue *q, const char *why)
{
	vireo_ring_break(&q->ring, why);
	vireo_queue_report(q);
	schedule_work(&pair->nif->reset_work);
}

static void pair_kick(struct net_pair *pair, struct vireo_queue *q)
{
	pair->stats.doorbells++;
	vireo_queue_kick(q);
}

/* ---- Transmit ---------------------------------------------------------------------------- */

static void tx_unmap(struct net_pair *pair, struct tx_buf *buf)
{
	unsigned int i;

	if (!buf->skb)
		return;
	for (i = 0; i < buf->count; i++) {
		/* Piece 0 is the linear part, where the skb has one. */
		if (i == 0 && skb_headlen(buf->skb))
			dma_unmap_single(pair_dev(pair), buf->map[i].addr, buf->map[i].len,
					 DMA_TO_DEVICE);
		else
			dma_unmap_page(pair_dev(pair), buf->map[i].addr, buf->map[i].len,
				       DMA_TO_DEVICE);
	}
}

/* The packet is through, or will never be. */
static void tx_end(struct net_pair *pair, struct tx_buf *buf, int budget)
{
	tx_unmap(pair, buf);
	if (buf->skb)
		napi_consume_skb(buf->skb, budget);
	else
		xdp_return_frame(buf->frame);
	buf->skb = NULL;
	buf->frame = NULL;
	pair->free[pair->nfree++] = buf - pair->bufs;
}

static int tx_map_skb(struct net_pair *pair, struct tx_buf *buf, struct sk_buff *skb)
{
	struct device *dev = pair_dev(pair);
	unsigned int i, len;
	dma_addr_t addr;

	buf->skb = skb;
	buf->count = 0;
	len = skb_headlen(skb);
	if (len) {
		addr = dma_map_single(dev, skb->data, len, DMA_TO_DEVICE);
		if (dma_mapping_error(dev, addr))
			goto err;
		buf->map[0].addr = addr;
		buf->map[buf->count++].len = len;
	}
	for (i = 0; i < skb_shinfo(skb)->nr_frags; i++) {
		const skb_frag_t *frag = &skb_shinfo(skb)->frags[i];

		len = skb_frag_size(frag);
		if (!len)
			continue;
		addr = skb_frag_dma_map(dev, frag, 0, len, DMA_TO_DEVICE);
		if (dma_mapping_error(dev, addr))
			goto err;
		buf->map[buf->count].addr = addr;
		buf->map[buf->count++].len = len;
	}
	return 0;
err:
	tx_unmap(pair, buf);
	buf->skb = NULL;
	return -ENOMEM;
}

static void tx_offloads(struct vireo_net_tx *entry, struct sk_buff *skb)
{
	const struct skb_shared_info *shinfo = skb_shinfo(skb);

	if (skb->ip_summed != CHECKSUM_PARTIAL)
		return;
	entry->flags |= VIREO_NET_CSUM;
	entry->csum_start = cpu_to_le16(skb_checksum_start_offset(skb));
	entry->csum_offset = cpu_to_le16(skb->csum_offset);
	if (!shinfo->gso_size)
		return;
	entry->gso_type = shinfo->gso_type & SKB_GSO_TCPV6 ? VIREO_NET_GSO_TCPV6 :
							     VIREO_NET_GSO_TCPV4;
	if (shinfo->gso_type & SKB_GSO_TCP_ECN)
		entry->gso_type |= VIREO_NET_GSO_ECN;
	entry->gso_size = cpu_to_le16(shinfo->gso_size);
	entry->hdr_len = cpu_to_le16(skb_tcp_all_headers(skb));
}

/* Puts an entry for a mapped buffer.  It has a tag, and so the ring has room. */
static int tx_put(struct net_pair *pair, struct vireo_net_tx *entry, struct tx_buf *buf)
{
	u32 tag = buf - pair->bufs;
	struct vireo_seg *seg = entry->seg;
	unsigned int i;

	if (buf->count > VIREO_RING_SEGS) {
		seg = pair->lists + tag * TX_LIST;
		entry->flags |= VIREO_SUB_INDIRECT;
		entry->seg[0].gpa = cpu_to_le64(pair->lists_dma +
						tag * TX_LIST * sizeof(*seg));
		entry->seg[0].len = cpu_to_le32(buf->count * sizeof(*seg));
	}
	for (i = 0; i < buf->count; i++)
		seg[i] = (struct vireo_seg) {
			.gpa = cpu_to_le64(buf->map[i].addr),
			.len = cpu_to_le32(buf->map[i].len),
		};
	entry->nsegs = cpu_to_le16(buf->count);
	entry->tag = cpu_to_le16(tag);
	return vireo_ring_put(&pair->tx.ring, entry, tag, buf);
}

/* Takes back what was sent. */
static void tx_reap(struct net_pair *pair, int budget)
{
	struct vireo_ring *r = &pair->tx.ring;
	unsigned int packets = 0, bytes = 0;
	struct netdev_queue *txq = pair_txq(pair);
	struct vireo_comp comp;
	struct tx_buf *buf;

	if (r->broken)
		return;
	while ((buf = vireo_ring_take(r, &comp))) {
		if (comp.status)
			pair->stats.tx_dropped++;
		if (buf->skb) {
			packets++;
			bytes += buf->len;
		}
		tx_end(pair, buf, budget);
	}
	vireo_ring_release(r);
	if (r->broken)
		queue_broke(pair, &pair->tx, NULL);
	netdev_tx_completed_queue(txq, packets, bytes);
	if (netif_tx_queue_stopped(txq) && pair->nfree >= r->entries / 4 && !r->broken &&
	    READ_ONCE(pair->nif->up))
		netif_tx_wake_queue(txq);
}

/* ... and asks to hear of the rest, when most of it is there. */
static void tx_settle(struct net_pair *pair, int budget)
{
	struct vireo_ring *r = &pair->tx.ring;
	u32 left;

	do {
		tx_reap(pair, budget);
		left = vireo_ring_outstanding(r);
	} while (left && !r->broken && vireo_ring_arm(r, left - left / 4));
}

/*
 * Shows the device what was put.  Whatever it sends before the hypercall returns
 * is taken back here, without an interrupt.
 */
static void tx_flush(struct net_pair *pair)
{
	struct vireo_ring *r = &pair->tx.ring;

	if (vireo_ring_publish(r)) {
		vireo_ring_silence(r);
		pair_kick(pair, &pair->tx);
	}
	tx_settle(pair, 0);
}

static int tx_skb(struct net_pair *pair, struct sk_buff *skb)
{
	struct vireo_net_tx entry = {};
	struct tx_buf *buf;

	buf = &pair->bufs[pair->free[pair->nfree - 1]];
	if (tx_map_skb(pair, buf, skb))
		return -ENOMEM;
	buf->len = skb->len;
	tx_offloads(&entry, skb);
	if (tx_put(pair, &entry, buf)) {
		tx_unmap(pair, buf);
		buf->skb = NULL;
		return -EIO;
	}
	pair->nfree--;
	return 0;
}

static netdev_tx_t net_xmit(struct sk_buff *skb, struct net_device *dev)
{
	struct net_if *nif = netdev_priv(dev);
	struct net_pair *pair = &nif->pairs[skb_get_queue_mapping(skb)];
	struct netdev_queue *txq = pair_txq(pair);
	unsigned int len = skb->len;
	bool more = netdev_xmit_more();

	if (unlikely(!READ_ONCE(nif->up))) {	/* it did not come up again */
		dev_kfree_skb_any(skb);
		return NETDEV_TX_OK;
	}
	if (unlikely(!pair->nfree)) {
		netif_tx_stop_queue(txq);
		tx_flush(pair);
		return NETDEV_TX_BUSY;
	}
	skb_tx_timestamp(skb);
	if (unlikely(tx_skb(pair, skb))) {
		pair->stats.tx_dropped++;
		dev_kfree_skb_any(skb);
		if (!more)
			tx_flush(pair);
		return NETDEV_TX_OK;
	}
	pair->stats.tx_packets++;
	pair->stats.tx_bytes += len;
	if (!pair->nfree)
		netif_tx_stop_queue(txq);
	if (__netdev_tx_sent_queue(txq, len, more))
		tx_flush(pair);
	return NETDEV_TX_OK;
}

/* XDP_TX: the page goes out as it came in. */
static int tx_frame(struct net_pair *pair, struct xdp_buff *xdp, struct page *page)
{
	struct netdev_queue *txq = pair_txq(pair);
	struct vireo_net_tx entry = {};
	struct xdp_frame *frame;
	struct tx_buf *buf;
	int err = -ENOSPC;
	u32 offset;

	frame = xdp_convert_buff_to_frame(xdp);
	if (!frame)
		return -ENOSPC;
	offset = frame->data - page_address(page);
	__netif_tx_lock(txq, smp_processor_id());
	if (pair->nfree) {
		buf = &pair->bufs[pair->free[pair->nfree - 1]];
		buf->skb = NULL;
		buf->frame = frame;
		buf->len = frame->len;
		buf->count = 1;
		buf->map[0].addr = page_pool_get_dma_addr(page) + offset;
		buf->map[0].len = frame->len;
		dma_sync_single_for_device(pair_dev(pair), buf->map[0].addr, frame->len,
					   DMA_BIDIRECTIONAL);
		err = tx_put(pair, &entry, buf);
		if (!err) {
			pair->nfree--;
			pair->stats.tx_xdp++;
		}
	}
	__netif_tx_unlock(txq);
	return err;
}

/* ---- Receive ----------------------------------------------------------------------------- */

/* Posts a page as a buffer, or lets go of it.  The device is told by rx_refill(). */
static bool rx_post(struct net_pair *pair, struct page *page)
{
	struct vireo_net_rx entry = {
		.nsegs = cpu_to_le16(1),
		.tag = cpu_to_le16(pair->posted),
		.seg[0].gpa = cpu_to_le64(page_pool_get_dma_addr(page) + pair->nif->pad),
		.seg[0].len = cpu_to_le32(pair->nif->room),
	};

	if (vireo_ring_put(&pair->rx.ring, &entry, pair->posted, page)) {
		page_pool_put_full_page(pair->pool, page, true);
		return false;
	}
	pair->posted = (pair->posted + 1) & (pair->rx.entries - 1);
	return true;
}

/* Posts buffers, if it is worth it.  Returns whether the device has any. */
static bool rx_refill(struct net_pair *pair)
{
	struct vireo_ring *r = &pair->rx.ring;
	u32 room = vireo_ring_room(r);
	struct page *page;

	if (r->broken)
		return true;	/* there is nothing to be done here */
	/* What was copied has been posted again. */
	if (room + (r->sub_tail - r->sub_told) < min(RX_BATCH, r->entries / 4))
		return true;
	while (room--) {
		page = page_pool_dev_alloc_pages(pair->pool);
		if (!page || !rx_post(pair, page))
			break;
	}
	if (vireo_ring_publish(r))
		pair_kick(pair, &pair->rx);
	return vireo_ring_outstanding(r);
}

/* There was no memory for buffers, and so no interrupt will call for more. */
static void refill_work(struct work_struct *work)
{
	struct net_pair *pair = container_of(work, struct net_pair, refill.work);

	local_bh_disable();
	napi_schedule(&pair->napi);
	local_bh_enable();
}

/* What the first completion said of a packet that is complete now. */
static bool rx_offloads(struct net_pair *pair, struct sk_buff *skb)
{
	const struct vireo_net_info *info = &pair->info;
	u16 start = le16_to_cpu(info->csum_start), offset = le16_to_cpu(info->csum_offset);
	u16 gso = le16_to_cpu(info->gso_size);
	u64 features = pair->nif->features;
	u8 type = info->gso_type & ~VIREO_NET_GSO_ECN;

	if (!(features & VIREO_NET_F_RX_CSUM))
		return true;
	if (info->flags & VIREO_NET_CSUM) {
		if (start < ETH_HLEN || !skb_partial_csum_set(skb, start, offset))
			return false;
	} else if (info->flags & VIREO_NET_VALID) {
		skb->ip_summed = CHECKSUM_UNNECESSARY;
	}
	if (type == VIREO_NET_GSO_NONE || !(features & VIREO_NET_F_RX_TSO))
		return true;
	if (!(info->flags & VIREO_NET_CSUM) || !gso ||
	    (type != VIREO_NET_GSO_TCPV4 && type != VIREO_NET_GSO_TCPV6) ||
	    offset != offsetof(struct tcphdr, check) ||
	    start + sizeof(struct tcphdr) > skb_headlen(skb))
		return false;
	if (skb->len - start - sizeof(struct tcphdr) <= gso)
		return true;	/* one segment; nothing to be cut */
	skb_shinfo(skb)->gso_size = gso;
	/* The stack checks the headers before it cuts. */
	skb_shinfo(skb)->gso_type = SKB_GSO_DODGY |
		(type == VIREO_NET_GSO_TCPV6 ? SKB_GSO_TCPV6 : SKB_GSO_TCPV4) |
		(info->gso_type & VIREO_NET_GSO_ECN ? SKB_GSO_TCP_ECN : 0);
	return true;
}

static void rx_deliver(struct net_pair *pair)
{
	struct sk_buff *skb = pair->skb;

	pair->skb = NULL;
	if (!rx_offloads(pair, skb)) {
		pair->stats.rx_errors++;
		dev_kfree_skb_any(skb);
		return;
	}
	pair->stats.rx_packets++;
	pair->stats.rx_bytes += skb->len;
	skb_record_rx_queue(skb, pair->index);
	skb->protocol = eth_type_trans(skb, pair->nif->dev);
	/* A datagram that comes from the host itself: there is nothing to put together. */
	if (skb->ip_summed == CHECKSUM_PARTIAL &&
	    skb->csum_offset == offsetof(struct udphdr, check)) {
		skb_mark_napi_id(skb, &pair->napi);
		list_add_tail(&skb->list, &pair->datagrams);
	} else {
		napi_gro_receive(&pair->napi, skb);
	}
}

/*
 * Runs the program on a packet.  Returns whether the page is still ours; the
 * packet is at @offset then.  XDP does without offloads and without
 * packets in several buffers, see net_features().
 */
static bool rx_xdp(struct net_pair *pair, struct bpf_prog *prog, struct page *page, u32 *offset,
		   u32 *len, bool *redirected)
{
	struct net_device *dev = pair->nif->dev;
	struct xdp_buff xdp;
	u32 act;

	xdp_init_buff(&xdp, PAGE_SIZE, &pair->xdp_rxq);
	xdp_prepare_buff(&xdp, page_address(page), *offset, *len, false);
	pair->stats.rx_xdp++;
	act = bpf_prog_run_xdp(prog, &xdp);
	switch (act) {
	case XDP_PASS:
		*offset = xdp.data - page_address(page);
		*len = xdp.data_end - xdp.data;
		return true;
	case XDP_TX:
		if (!tx_frame(pair, &xdp, page))
			return false;
		break;
	case XDP_REDIRECT:
		if (!xdp_do_redirect(dev, &xdp, prog)) {
			*redirected = true;
			return false;
		}
		break;
	case XDP_DROP:
		page_pool_recycle_direct(pair->pool, page);
		return false;
	default:
		bpf_warn_invalid_xdp_action(dev, prog, act);
		break;
	case XDP_ABORTED:
		break;
	}
	pair->stats.rx_dropped++;
	page_pool_recycle_direct(pair->pool, page);
	return false;
}

/* A small packet, copied.  Its page comes back to its pool, and is not cleared each time. */
static struct sk_buff *rx_copy(struct net_pair *pair, const void *data, u32 len)
{
	struct sk_buff *skb;
	struct page *page;
	unsigned int at;

	page = page_pool_dev_alloc_frag(pair->heads, &at, RX_HEAD);
	if (!page)
		return NULL;
	skb = napi_build_skb(page_address(page) + at, RX_HEAD);
	if (!skb) {
		page_pool_put_full_page(pair->heads, page, true);
		return NULL;
	}
	skb_mark_for_recycle(skb);
	skb_reserve(skb, RX_PAD);
	skb_put_data(skb, data, len);
	return skb;
}

/* The first buffer of a packet, or all of it.  The page changes hands. */
static struct sk_buff *rx_skb(struct net_pair *pair, struct page *page, u32 offset, u32 len,
			      bool more)
{
	struct sk_buff *skb;

	if (len <= RX_COPY && !more) {
		skb = rx_copy(pair, page_address(page) + offset, len);
		dma_sync_single_range_for_device(pair_dev(pair), page_pool_get_dma_addr(page),
						 pair->nif->pad, len,
						 page_pool_get_dma_dir(pair->pool));
		rx_post(pair, page);
		return skb;
	}
	skb = napi_build_skb(page_address(page), PAGE_SIZE);
	if (!skb) {
		page_pool_recycle_direct(pair->pool, page);
		return NULL;
	}
	skb_mark_for_recycle(skb);
	skb_reserve(skb, offset);
	skb_put(skb, len);
	return skb;
}

/* A packet's first buffer */
static void rx_first(struct net_pair *pair, struct page *page, u32 len,
		     const struct vireo_net_info *info, bool *redirected)
{
	bool more = info->flags & VIREO_NET_MORE;
	struct bpf_prog *prog = rcu_dereference_bh(pair->nif->xdp);
	u32 offset = pair->nif->pad;

	if (len < ETH_HLEN || (prog && more)) {
		pair->stats.rx_errors++;
		pair->skip = more;
		page_pool_recycle_direct(pair->pool, page);
		return;
	}
	if (prog && !rx_xdp(pair, prog, page, &offset, &len, redirected))
		return;
	pair->info = *info;
	pair->skb = rx_skb(pair, page, offset, len, more);
	if (!pair->skb) {
		pair->stats.rx_dropped++;
		pair->skip = more;
	} else if (!more) {
		rx_deliver(pair);
	}
}

static void rx_next(struct net_pair *pair, struct page *page, u32 len, bool more)
{
	struct sk_buff *skb = pair->skb;

	if (!pair->skip && (!len || skb_shinfo(skb)->nr_frags == MAX_SKB_FRAGS)) {
		pair->stats.rx_errors++;
		dev_kfree_skb_any(skb);
		pair->skb = NULL;
		pair->skip = true;
	}
	if (pair->skip) {
		page_pool_recycle_direct(pair->pool, page);
		pair->skip = more;
		return;
	}
	skb_add_rx_frag(skb, skb_shinfo(skb)->nr_frags, page, pair->nif->pad, len, PAGE_SIZE);
	if (!more)
		rx_deliver(pair);
}

/* One completion.  Returns whether a packet ended, or NAPI's work is otherwise to be counted. */
static bool rx_buffer(struct net_pair *pair, struct page *page, const struct vireo_comp *comp,
		      bool *redirected)
{
	struct vireo_net_info info;
	u32 len = le32_to_cpu(comp->len);
	bool ok = le16_to_cpu(comp->status) == VIREO_COMP_OK;

	memcpy(&info, &comp->info, sizeof(info));
	if (le16_to_cpu(comp->tag) != pair->next || len > pair->nif->room) {
		queue_broke(pair, &pair->rx, len > pair->nif->room ?
			    "a completion longer than its buffer" : "completions out of order");
		page_pool_recycle_direct(pair->pool, page);
		return true;
	}
	pair->next = (pair->next + 1) & (pair->rx.entries - 1);
	if (!ok) {
		pair->stats.rx_errors++;
		page_pool_recycle_direct(pair->pool, page);
		return true;
	}
	dma_sync_single_range_for_cpu(pair_dev(pair), page_pool_get_dma_addr(page),
				      pair->nif->pad, len, page_pool_get_dma_dir(pair->pool));
	if (pair->skb || pair->skip)
		rx_next(pair, page, len, info.flags & VIREO_NET_MORE);
	else
		rx_first(pair, page, len, &info, redirected);
	return !(info.flags & VIREO_NET_MORE);
}

static int rx_poll(struct net_pair *pair, int budget)
{
	struct vireo_ring *r = &pair->rx.ring;
	bool broken = r->broken, redirected = false;
	u64 sent = pair->stats.tx_xdp;
	struct vireo_comp comp;
	struct page *page;
	int done = 0;

	INIT_LIST_HEAD(&pair->datagrams);
	while (done < budget && (page = vireo_ring_take(r, &comp)))
		done += rx_buffer(pair, page, &comp, &redirected);
	netif_receive_skb_list(&pair->datagrams);
	if (r->broken && !broken)
		queue_broke(pair, &pair->rx, NULL);
	if (!r->broken)
		vireo_ring_release(r);
	if (redirected)
		xdp_do_flush();
	if (pair->stats.tx_xdp != sent) {
		__netif_tx_lock(pair_txq(pair), smp_processor_id());
		tx_flush(pair);
		__netif_tx_unlock(pair_txq(pair));
	}
	if (!rx_refill(pair))
		schedule_delayed_work(&pair->refill, REFILL_DELAY);
	return done;
}

/* ---- NAPI and interrupts ----------------------------------------------------------------- */

static int net_poll(struct napi_struct *napi, int budget)
{
	struct net_pair *pair = container_of(napi, struct net_pair, napi);
	struct vireo_ring *r = &pair->rx.ring;
	int done = 0;

	if (READ_ONCE(pair->nfree) != pair->tx.entries) {
		__netif_tx_lock(pair_txq(pair), smp_processor_id());
		tx_settle(pair, budget);
		__netif_tx_unlock(pair_txq(pair));
	}
	if (budget)
		done = rx_poll(pair, budget);
	if (done >= budget || !napi_complete_done(napi, done))
		return done;
	if (!r->broken && vireo_ring_arm(r, 1) && napi_schedule_prep(napi)) {
		vireo_ring_silence(r);
		__napi_schedule(napi);
	}
	return done;
}

static irqreturn_t pair_irq(int irq, void *data)
{
	struct net_pair *pair = data;

	/* While NAPI is scheduled, the events are NAPI's. */
	if (napi_schedule_prep(&pair->napi)) {
		pair->stats.interrupts++;
		vireo_ring_silence(&pair->rx.ring);
		__napi_schedule_irqoff(&pair->napi);
	}
	return IRQ_HANDLED;
}

static irqreturn_t config_irq(int irq, void *data)
{
	struct net_if *nif = data;
	unsigned int i;

	schedule_work(&nif->config_work);
	for (i = 0; !nif->vectors && i < nif->npairs; i++)
		pair_irq(irq, &nif->pairs[i]);	/* one that is down has no NAPI */
	return IRQ_HANDLED;
}

/* ---- Memory of a pair -------------------------------------------------------------------- */

static struct page_pool *heads_create(struct net_pair *pair)
{
	struct page_pool_params params = {
		.flags = PP_FLAG_PAGE_FRAG,
		.pool_size = pair->rx.entries,
		.nid = dev_to_node(pair_dev(pair)),
	};

	return page_pool_create(&params);
}

static int rx_create(struct net_pair *pair)
{
	struct net_if *nif = pair->nif;
	struct page_pool_params params = {
		.flags = PP_FLAG_DMA_MAP | PP_FLAG_DMA_SYNC_DEV,
		.nid = dev_to_node(pair_dev(pair)),
		.dev = pair_dev(pair),
		.dma_dir = rcu_access_pointer(nif->xdp) ? DMA_BIDIRECTIONAL : DMA_FROM_DEVICE,
		.offset = nif->pad,
		.max_len = nif->room,
	};
	int err;

	err = vireo_queue_alloc(&pair->rx, &nif->vd, 2 * pair->index, nif->rx_entries);
	if (err)
		return err;
	/* Pages that waited for a slow reader come back together; the kernel clears new ones. */
	params.pool_size = 4 * pair->rx.entries;
	pair->pool = page_pool_create(&params);
	if (IS_ERR(pair->pool)) {
		err = PTR_ERR(pair->pool);
		goto err_queue;
	}
	pair->heads = heads_create(pair);
	if (IS_ERR(pair->heads)) {
		err = PTR_ERR(pair->heads);
		goto err_pool;
	}
	err = xdp_rxq_info_reg(&pair->xdp_rxq, nif->dev, pair->index, pair->napi.napi_id);
	if (err)
		goto err_heads;
	err = xdp_rxq_info_reg_mem_model(&pair->xdp_rxq, MEM_TYPE_PAGE_POOL, pair->pool);
	if (err)
		goto err_rxq;
	return 0;

err_rxq:
	xdp_rxq_info_unreg(&pair->xdp_rxq);
err_heads:
	page_pool_destroy(pair->heads);
err_pool:
	page_pool_destroy(pair->pool);
err_queue:
	pair->pool = NULL;
	vireo_queue_free(&pair->rx);
	return err;
}

static void rx_destroy(struct net_pair *pair)
{
	if (!pair->pool)
		return;
	xdp_rxq_info_unreg(&pair->xdp_rxq);
	page_pool_destroy(pair->heads);
	page_pool_destroy(pair->pool);	/* pages that the stack has come back to it */
	pair->pool = NULL;
	vireo_queue_free(&pair->rx);
}

static int tx_create(struct net_pair *pair)
{
	u32 n, i;
	int err;

	err = vireo_queue_alloc(&pair->tx, &pair->nif->vd, 2 * pair->index + 1,
				pair->nif->tx_entries);
	if (err)
		return err;
	n = pair->tx.entries;
	pair->bufs = kvcalloc(n, sizeof(*pair->bufs), GFP_KERNEL);
	pair->free = kvcalloc(n, sizeof(*pair->free), GFP_KERNEL);
	pair->lists = dma_alloc_coherent(pair_dev(pair), n * TX_LIST * sizeof(*pair->lists),
					 &pair->lists_dma, GFP_KERNEL);
	if (!pair->bufs || !pair->free || !pair->lists)
		return -ENOMEM;
	for (i = 0; i < n; i++)
		pair->free[i] = n - 1 - i;
	pair->nfree = n;
	return 0;
}

static void tx_destroy(struct net_pair *pair)
{
	u32 n = pair->tx.entries;

	if (pair->lists)
		dma_free_coherent(pair_dev(pair), n * TX_LIST * sizeof(*pair->lists),
				  pair->lists, pair->lists_dma);
	pair->lists = NULL;
	kvfree(pair->free);
	pair->free = NULL;
	kvfree(pair->bufs);
	pair->bufs = NULL;
	vireo_queue_free(&pair->tx);
}

/* The device was reset: what was in flight has no end but this. */
static void pair_drain(struct net_pair *pair)
{
	struct tx_buf *buf;
	struct page *page;
	u32 tag = 0;

	vireo_ring_break(&pair->rx.ring, "down");
	vireo_ring_break(&pair->tx.ring, "down");
	while ((page = vireo_ring_abandon(&pair->rx.ring, &tag)))
		page_pool_put_full_page(pair->pool, page, false);
	tag = 0;
	while ((buf = vireo_ring_abandon(&pair->tx.ring, &tag)))
		tx_end(pair, buf, 0);
	dev_kfree_skb_any(pair->skb);
	pair->skb = NULL;
	pair->skip = false;
	netdev_tx_reset_queue(pair_txq(pair));
}

/* ---- Down and up; RTNL is held ----------------------------------------------------------- */

static void pairs_destroy(struct net_if *nif)
{
	unsigned int i;

	for (i = 0; i < nif->npairs; i++) {
		rx_destroy(&nif->pairs[i]);
		tx_destroy(&nif->pairs[i]);
	}
}

/* XDP sees packets whole, as they are on a wire. */
static u64 net_features(struct net_if *nif)
{
	u64 features = nif->vd.offered & (VIREO_NET_F_CSUM | VIREO_NET_F_RX_CSUM);

	if (features & VIREO_NET_F_CSUM)
		features |= nif->vd.offered & VIREO_NET_F_TSO;
	if (rcu_access_pointer(nif->xdp))
		return features & ~VIREO_NET_F_RX_CSUM;
	if (features & VIREO_NET_F_RX_CSUM)
		features |= nif->vd.offered & VIREO_NET_F_RX_TSO;
	return features;
}

static unsigned int xdp_room(void)
{
	return PAGE_SIZE - XDP_PACKET_HEADROOM - RX_TAIL;
}

static int pair_enable(struct net_pair *pair)
{
	unsigned int vector = pair->nif->vectors ? pair->index + 1 : 0;
	int err;

	pair->posted = 0;
	pair->next = 0;
	err = vireo_queue_enable(&pair->rx, vector);
	if (!err)
		err = vireo_queue_enable(&pair->tx, vector);
	return err;
}

static void read_link(struct net_if *nif);

static int net_up(struct net_if *nif)
{
	unsigned int n = nif->dev->real_num_tx_queues, i;
	int err = 0;

	nif->pad = rcu_access_pointer(nif->xdp) ? XDP_PACKET_HEADROOM : RX_PAD;
	nif->room = PAGE_SIZE - nif->pad - RX_TAIL;
	nif->features = net_features(nif);
	for (i = 0; !err && i < n; i++) {
		err = rx_create(&nif->pairs[i]);
		if (!err)
			err = tx_create(&nif->pairs[i]);
	}
	if (!err)
		err = vireo_dev_accept(&nif->vd, nif->features, 0);
	for (i = 0; !err && i < n; i++)
		err = pair_enable(&nif->pairs[i]);
	if (err) {
		vireo_dev_reset(&nif->vd);
		pairs_destroy(nif);
		return err;
	}
	for (i = 0; i < n; i++) {
		napi_enable(&nif->pairs[i].napi);
		refill_work(&nif->pairs[i].refill.work);	/* posts the first buffers */
	}
	WRITE_ONCE(nif->up, true);
	netif_tx_start_all_queues(nif->dev);
	read_link(nif);
	return 0;
}

static void net_down(struct net_if *nif)
{
	unsigned int n = nif->dev->real_num_tx_queues, i;

	if (!nif->up)
		return;
	netif_carrier_off(nif->dev);
	/* Who has a transmit lock from here on sees it, and wakes no queue. */
	WRITE_ONCE(nif->up, false);
	netif_tx_disable(nif->dev);
	for (i = 0; i < n; i++) {
		/* NAPI may order the work, and the work NAPI. */
		cancel_delayed_work_sync(&nif->pairs[i].refill);
		napi_disable(&nif->pairs[i].napi);
		cancel_delayed_work_sync(&nif->pairs[i].refill);
	}
	vireo_dev_reset(&nif->vd);
	for (i = 0; i < n; i++)
		pair_drain(&nif->pairs[i]);
	pairs_destroy(nif);
}

static int net_open(struct net_device *dev)
{
	struct net_if *nif = netdev_priv(dev);

	vireo_dev_reset(&nif->vd);
	return net_up(nif);
}

static int net_stop(struct net_device *dev)
{
	net_down(netdev_priv(dev));
	return 0;
}

/* Down, a change, and up.  If it does not come up, there is no link. */
static int net_restart(struct net_if *nif)
{
	int err;

	net_down(nif);
	err = net_up(nif);
	if (err)
		netdev_err(nif->dev, "does not come up again: %d\n", err);
	return err;
}

static bool any_broken(struct net_if *nif)
{
	unsigned int i;

	for (i = 0; nif->up && i < nif->dev->real_num_tx_queues; i++)
		if (nif->pairs[i].rx.ring.broken || nif->pairs[i].tx.ring.broken)
			return true;
	return false;
}

/*
 * Something is wrong.  A device that says so itself, or that takes too long, is
 * reset; one that lies stays down until somebody sets the interface up again.
 */
static void reset_work(struct work_struct *work)
{
	struct net_if *nif = container_of(work, struct net_if, reset_work);
	bool gone, failed;

	rtnl_lock();
	if (!nif->up)
		goto out;
	gone = vireo_dev_gone(&nif->vd);
	failed = !gone && vireo_dev_failed(&nif->vd);
	if (gone || (any_broken(nif) && !failed)) {
		netdev_err(nif->dev, "cannot be used any more\n");
		net_down(nif);
	} else if (failed || nif->stuck) {
		netdev_err(nif->dev, "is reset\n");
		net_restart(nif);
	}
	nif->stuck = false;
out:
	rtnl_unlock();
}

/* ---- The config part --------------------------------------------------------------------- */

static int read_config(struct net_if *nif, struct vireo_net_config *c)
{
	u32 mtu;
	int err;

	err = vireo_dev_config(&nif->vd, c, sizeof(*c));
	if (err)
		return err;
	mtu = le32_to_cpu(c->mtu);
	if (!is_valid_ether_addr(c->mac) || mtu < ETH_MIN_MTU || mtu > 65521) {
		dev_err(&nif->vd.pci->dev, "address %pM, MTU %u\n", c->mac, mtu);
		return -EINVAL;
	}
	return 0;
}

/* Another address than before: the guest is a clone, and this is another network. */
static void read_mac(struct net_device *dev, const u8 *mac)
{
	struct sockaddr sa = { .sa_family = dev->type };

	if (ether_addr_equal(dev->perm_addr, mac))
		return;
	netif_carrier_off(dev);
	ether_addr_copy(dev->perm_addr, mac);
	ether_addr_copy(sa.sa_data, mac);
	dev_set_mac_address(dev, &sa, NULL);
}

static void read_link(struct net_if *nif)
{
	struct net_device *dev = nif->dev;
	struct vireo_net_config c;
	u32 mtu;

	if (read_config(nif, &c))
		return;
	read_mac(dev, c.mac);
	if (le32_to_cpu(c.link) & VIREO_NET_LINK_UP)
		netif_carrier_on(dev);
	else
		netif_carrier_off(dev);
	mtu = le32_to_cpu(c.mtu);
	if (mtu == dev->max_mtu)
		return;
	dev->max_mtu = mtu;
	if (dev->mtu > mtu)
		dev_set_mtu(dev, mtu);
}

static void config_work(struct work_struct *work)
{
	struct net_if *nif = container_of(work, struct net_if, config_work);

	rtnl_lock();
	if (nif->up && vireo_dev_failed(&nif->vd))
		schedule_work(&nif->reset_work);
	else if (nif->up)
		read_link(nif);
	rtnl_unlock();
}

/* ---- What the stack asks for ------------------------------------------------------------- */

static void net_stats(struct net_device *dev, struct rtnl_link_stats64 *sum)
{
	struct net_if *nif = netdev_priv(dev);
	unsigned int i;

	for (i = 0; i < nif->npairs; i++) {
		const struct pair_stats *s = &nif->pairs[i].stats;

		sum->rx_packets += READ_ONCE(s->rx_packets);
		sum->rx_bytes += READ_ONCE(s->rx_bytes);
		sum->rx_errors += READ_ONCE(s->rx_errors);
		sum->rx_dropped += READ_ONCE(s->rx_dropped);
		sum->tx_packets += READ_ONCE(s->tx_packets);
		sum->tx_bytes += READ_ONCE(s->tx_bytes);
		sum->tx_dropped += READ_ONCE(s->tx_dropped);
	}
}

static void net_tx_timeout(struct net_device *dev, unsigned int index)
{
	struct net_if *nif = netdev_priv(dev);

	netdev_warn(dev, "queue %u is stuck\n", index);
	nif->stuck = true;
	schedule_work(&nif->reset_work);
}

static int net_change_mtu(struct net_device *dev, int mtu)
{
	struct net_if *nif = netdev_priv(dev);

	if (rtnl_dereference(nif->xdp) && mtu + VLAN_ETH_HLEN > xdp_room())
		return -EINVAL;
	WRITE_ONCE(dev->mtu, mtu);
	return 0;
}

static int xdp_set(struct net_if *nif, struct bpf_prog *prog, struct netlink_ext_ack *extack)
{
	struct bpf_prog *old = rtnl_dereference(nif->xdp);
	int err = 0;

	if (prog && nif->dev->mtu + VLAN_ETH_HLEN > xdp_room()) {
		NL_SET_ERR_MSG_MOD(extack, "the MTU is too large for XDP");
		return -EOPNOTSUPP;
	}
	/* With the first program, and after the last, offloads and buffers change. */
	if (nif->up && !prog != !old) {
		net_down(nif);
		rcu_assign_pointer(nif->xdp, prog);
		err = net_up(nif);
		if (err)
			rcu_assign_pointer(nif->xdp, old);
		if (err && net_up(nif))
			netdev_err(nif->dev, "does not come up again\n");
	} else {
		rcu_assign_pointer(nif->xdp, prog);
	}
	if (!err && old)
		bpf_prog_put(old);
	return err;
}

static int net_bpf(struct net_device *dev, struct netdev_bpf *bpf)
{
	switch (bpf->command) {
	case XDP_SETUP_PROG:
		return xdp_set(netdev_priv(dev), bpf->prog, bpf->extack);
	default:
		return -EINVAL;
	}
}

static const struct net_device_ops net_ops = {
	.ndo_open = net_open,
	.ndo_stop = net_stop,
	.ndo_start_xmit = net_xmit,
	.ndo_get_stats64 = net_stats,
	.ndo_tx_timeout = net_tx_timeout,
	.ndo_change_mtu = net_change_mtu,
	.ndo_set_mac_address = eth_mac_addr,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_bpf = net_bpf,
};

/* ---- ethtool ----------------------------------------------------------------------------- */

static void get_drvinfo(struct net_device *dev, struct ethtool_drvinfo *info)
{
	struct net_if *nif = netdev_priv(dev);

	strscpy(info->driver, "vireo_net", sizeof(info->driver));
	strscpy(info->bus_info, pci_name(nif->vd.pci), sizeof(info->bus_info));
}

static int get_sset_count(struct net_device *dev, int set)
{
	struct net_if *nif = netdev_priv(dev);

	return set == ETH_SS_STATS ? nif->npairs * ARRAY_SIZE(stat_names) : -EOPNOTSUPP;
}

static void get_strings(struct net_device *dev, u32 set, u8 *data)
{
	struct net_if *nif = netdev_priv(dev);
	unsigned int i, k;

	for (i = 0; set == ETH_SS_STATS && i < nif->npairs; i++)
		for (k = 0; k < ARRAY_SIZE(stat_names); k++)
			ethtool_sprintf(&data, "%u_%s", i, stat_names[k]);
}

static void get_ethtool_stats(struct net_device *dev, struct ethtool_stats *stats, u64 *data)
{
	struct net_if *nif = netdev_priv(dev);
	unsigned int i;

	for (i = 0; i < nif->npairs; i++, data += ARRAY_SIZE(stat_names))
		memcpy(data, &nif->pairs[i].stats, sizeof(nif->pairs[i].stats));
}

static void get_channels(struct net_device *dev, struct ethtool_channels *channels)
{
	struct net_if *nif = netdev_priv(dev);

	channels->max_combined = nif->npairs;
	channels->combined_count = dev->real_num_tx_queues;
}

static int set_channels(struct net_device *dev, struct ethtool_channels *channels)
{
	struct net_if *nif = netdev_priv(dev);
	unsigned int n = channels->combined_count;
	bool up = nif->up;
	int err;

	if (!n || n > nif->npairs || channels->rx_count || channels->tx_count ||
	    channels->other_count)
		return -EINVAL;
	net_down(nif);
	err = netif_set_real_num_queues(dev, n, n);
	if (up && net_up(nif) && !err)
		err = -EIO;
	return err;
}

static void get_ringparam(struct net_device *dev, struct ethtool_ringparam *ring,
			  struct kernel_ethtool_ringparam *kernel, struct netlink_ext_ack *extack)
{
	struct net_if *nif = netdev_priv(dev);

	ring->rx_max_pending = VIREO_RING_MAX;
	ring->tx_max_pending = VIREO_RING_MAX;
	ring->rx_pending = nif->up ? nif->pairs[0].rx.entries : nif->rx_entries;
	ring->tx_pending = nif->up ? nif->pairs[0].tx.entries : nif->tx_entries;
}

static int set_ringparam(struct net_device *dev, struct ethtool_ringparam *ring,
			 struct kernel_ethtool_ringparam *kernel, struct netlink_ext_ack *extack)
{
	struct net_if *nif = netdev_priv(dev);
	u32 rx = nif->rx_entries, tx = nif->tx_entries;
	int err;

	if (ring->rx_pending < VIREO_RING_MIN || ring->tx_pending < VIREO_RING_MIN) {
		NL_SET_ERR_MSG_MOD(extack, "a ring has 16 entries or more");
		return -EINVAL;
	}
	nif->rx_entries = roundup_pow_of_two(ring->rx_pending);
	nif->tx_entries = roundup_pow_of_two(ring->tx_pending);
	if (!nif->up)
		return 0;
	net_down(nif);
	err = net_up(nif);
	if (!err)
		return 0;
	nif->rx_entries = rx;
	nif->tx_entries = tx;
	if (net_up(nif))
		netdev_err(dev, "does not come up again\n");
	return err;
}

static int get_link_ksettings(struct net_device *dev, struct ethtool_link_ksettings *link)
{
	link->base.speed = SPEED_UNKNOWN;	/* there is no wire */
	link->base.duplex = DUPLEX_FULL;
	link->base.port = PORT_OTHER;
	return 0;
}

static const struct ethtool_ops net_ethtool_ops = {
	.get_drvinfo = get_drvinfo,
	.get_link = ethtool_op_get_link,
	.get_sset_count = get_sset_count,
	.get_strings = get_strings,
	.get_ethtool_stats = get_ethtool_stats,
	.get_channels = get_channels,
	.set_channels = set_channels,
	.get_ringparam = get_ringparam,
	.set_ringparam = set_ringparam,
	.get_link_ksettings = get_link_ksettings,
	.get_ts_info = ethtool_op_get_ts_info,
};

/* ---- Life -------------------------------------------------------------------------------- */

static void free_irqs(struct net_if *nif, unsigned int count)
{
	while (count--) {
		int irq = pci_irq_vector(nif->vd.pci, count);

		irq_set_affinity_hint(irq, NULL);
		free_irq(irq, count ? (void *)&nif->pairs[count - 1] : nif);
	}
}

/* Pair by pair, one processor after the other */
static const struct cpumask *spread(struct pci_dev *pci, unsigned int i)
{
	return cpumask_of(cpumask_local_spread(i, dev_to_node(&pci->dev)));
}

static int request_irqs(struct net_if *nif)
{
	struct pci_dev *pci = nif->vd.pci;
	unsigned int i;
	int err;

	for (i = 0; i <= nif->vectors; i++) {
		struct net_pair *pair = &nif->pairs[i ? i - 1 : 0];
		int irq = pci_irq_vector(pci, i);

		if (i) {
			snprintf(pair->name, sizeof(pair->name), "vireo_net-%s-%u", pci_name(pci),
				 i - 1);
			err = request_irq(irq, pair_irq, 0, pair->name, pair);
		} else {
			err = request_irq(irq, config_irq, 0, "vireo_net", nif);
		}
		if (err) {
			free_irqs(nif, i);
			return err;
		}
		if (i)
			irq_set_affinity_and_hint(irq, spread(pci, i - 1));
	}
	return 0;
}

/* What the interface can do, from what the device offers */
static void set_features(struct net_if *nif, const struct vireo_net_config *c)
{
	struct net_device *dev = nif->dev;
	u64 features = net_features(nif);
	u32 max = le32_to_cpu(c->max_packet);

	dev->hw_features = NETIF_F_SG;
	if (features & VIREO_NET_F_CSUM)
		dev->hw_features |= NETIF_F_HW_CSUM;
	if (features & VIREO_NET_F_TSO && max > le32_to_cpu(c->mtu) + GSO_HEADROOM) {
		dev->hw_features |= NETIF_F_TSO | NETIF_F_TSO6 | NETIF_F_TSO_ECN;
		netif_set_tso_max_size(dev, min_t(u32, max - GSO_HEADROOM, GSO_LEGACY_MAX_SIZE));
	}
	dev->features = dev->hw_features | NETIF_F_HIGHDMA;
	/* The host may not look behind tags. */
	dev->vlan_features = dev->features & ~NETIF_F_ALL_TSO;
	if (features & VIREO_NET_F_RX_CSUM)
		dev->features |= NETIF_F_RXCSUM;
	compat_xdp_features(dev, NETDEV_XDP_ACT_BASIC | NETDEV_XDP_ACT_REDIRECT);
	dev->mtu = le32_to_cpu(c->mtu);
	dev->min_mtu = ETH_MIN_MTU;
	dev->max_mtu = le32_to_cpu(c->mtu);
}

static void init_pairs(struct net_if *nif)
{
	unsigned int i;

	for (i = 0; i < nif->npairs; i++) {
		struct net_pair *pair = &nif->pairs[i];

		pair->nif = nif;
		pair->index = i;
		INIT_DELAYED_WORK(&pair->refill, refill_work);
		netif_napi_add(nif->dev, &pair->napi, net_poll);
	}
}

/* With the device found: everything up to the interface */
static int net_setup(struct net_if *nif)
{
	struct net_device *dev = nif->dev;
	struct vireo_net_config c;
	int err;

	err = read_config(nif, &c);
	if (err)
		return err;
	err = vireo_dev_vectors(&nif->vd, nif->npairs, false);
	if (err < 0)
		return err;
	nif->vectors = err;
	if (nif->vectors)
		nif->npairs = min(nif->npairs, nif->vectors);
	eth_hw_addr_set(dev, c.mac);
	dev->priv_flags |= IFF_LIVE_ADDR_CHANGE;
	set_features(nif, &c);
	dev->netdev_ops = &net_ops;
	dev->ethtool_ops = &net_ethtool_ops;
	err = netif_set_real_num_queues(dev, nif->npairs, nif->npairs);
	if (err)
		return err;
	init_pairs(nif);
	netif_carrier_off(dev);
	return request_irqs(nif);
}

static void free_if(struct net_if *nif)
{
	struct net_pair *pairs = nif->pairs;
	unsigned int i;

	for (i = 0; pairs && i < nif->npairs; i++)
		if (pairs[i].nif)
			netif_napi_del(&pairs[i].napi);
	free_netdev(nif->dev);
	kvfree(pairs);
}

static int net_probe(struct pci_dev *pci, const struct pci_device_id *id)
{
	struct vireo_dev vd = {};
	struct net_device *dev;
	unsigned int npairs;
	struct net_if *nif;
	int err;

	err = vireo_dev_open(&vd, pci);
	if (err)
		return err;
	npairs = min(vd.nqueues / 2, num_possible_cpus());
	err = -EINVAL;
	if (!npairs)
		goto err_close;
	err = -ENOMEM;
	dev = alloc_etherdev_mqs(sizeof(*nif), npairs, npairs);
	if (!dev)
		goto err_close;
	SET_NETDEV_DEV(dev, &pci->dev);
	nif = netdev_priv(dev);
	nif->dev = dev;
	nif->pairs = kvcalloc(npairs, sizeof(*nif->pairs), GFP_KERNEL);
	if (!nif->pairs)
		goto err_dev;
	nif->vd = vd;
	nif->npairs = npairs;
	nif->rx_entries = entries;
	nif->tx_entries = entries;
	INIT_WORK(&nif->config_work, config_work);
	INIT_WORK(&nif->reset_work, reset_work);
	pci_set_drvdata(pci, nif);
	err = net_setup(nif);
	if (err)
		goto err_dev;
	err = register_netdev(dev);
	if (!err)
		return 0;

	free_irqs(nif, nif->vectors + 1);
	cancel_work_sync(&nif->config_work);
err_dev:
	free_if(nif);
err_close:
	vireo_dev_close(&vd);
	return err;
}

static void net_remove(struct pci_dev *pci)
{
	struct net_if *nif = pci_get_drvdata(pci);

	unregister_netdev(nif->dev);
	free_irqs(nif, nif->vectors + 1);
	cancel_work_sync(&nif->config_work);
	cancel_work_sync(&nif->reset_work);
	vireo_dev_close(&nif->vd);
	free_if(nif);
}

static int net_suspend(struct device *d)
{
	struct net_if *nif = dev_get_drvdata(d);

	rtnl_lock();
	netif_device_detach(nif->dev);
	net_down(nif);
	rtnl_unlock();
	return 0;
}

static int net_resume(struct device *d)
{
	struct net_if *nif = dev_get_drvdata(d);
	int err = 0;

	rtnl_lock();
	vireo_dev_reset(&nif->vd);
	if (netif_running(nif->dev))
		err = net_up(nif);
	netif_device_attach(nif->dev);
	rtnl_unlock();
	return err;
}

static DEFINE_SIMPLE_DEV_PM_OPS(net_pm_ops, net_suspend, net_resume);

static void net_shutdown(struct pci_dev *pci)
{
	net_suspend(&pci->dev);
}

/* Somebody resets the function by PCI's means (sysfs). */
static void net_reset_prepare(struct pci_dev *pci)
{
	net_suspend(&pci->dev);
}

static void net_reset_done(struct pci_dev *pci)
{
	net_resume(&pci->dev);
}

static const struct pci_error_handlers net_errors = {
	.reset_prepare = net_reset_prepare,
	.reset_done = net_reset_done,
};

static const struct pci_device_id net_ids[] = {
	{ PCI_DEVICE(VIREO_PCI_VENDOR, VIREO_PCI_NET) },
	{}
};
MODULE_DEVICE_TABLE(pci, net_ids);

static struct pci_driver net_driver = {
	.name = "vireo_net",
	.id_table = net_ids,
	.probe = net_probe,
	.remove = net_remove,
	.shutdown = net_shutdown,
	.driver.pm = pm_sleep_ptr(&net_pm_ops),
	.err_handler = &net_errors,
};
module_pci_driver(net_driver);

MODULE_DESCRIPTION("Vireo guest drivers: network interfaces");
MODULE_LICENSE("GPL");
