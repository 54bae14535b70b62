/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR BSD-2-Clause */
/*
 * Vireo: what stands on the rings of a network device.
 *
 * Queue 2 n receives and queue 2 n + 1 transmits, as the guest sees it.
 */
#ifndef _UAPI_VIREO_NET_H
#define _UAPI_VIREO_NET_H

#include "vireo_ring.h"

#define VIREO_NET_CSUM		0x01U	/* of what follows csum_start, to be put at + csum_offset */
#define VIREO_NET_VALID		0x02U	/* received: the checksums are right */
#define VIREO_NET_MORE		0x04U	/* received: goes on in the next completion */

enum {				/* gso_type; the numbers are those of virtio */
	VIREO_NET_GSO_NONE,
	VIREO_NET_GSO_TCPV4,
	VIREO_NET_GSO_TCPV6 = 4,
};

#define VIREO_NET_GSO_ECN	0x80U	/* with either: the first segment has CWR set */

/**
 * struct vireo_net_tx - a packet to send
 * @gso_type: VIREO_NET_GSO_*
 * @flags: VIREO_NET_CSUM, VIREO_SUB_INDIRECT
 * @nsegs: segments: 1 to VIREO_RING_SEGS inline, to VIREO_RING_INDIRECT in a list
 * @tag: comes back in the completion, when the memory is the guest's again
 * @gso_size: bytes of payload in each segment
 * @csum_start: offset in the packet
 * @csum_offset: from there
 * @hdr_len: bytes of all headers, a hint
 * @reserved: 0
 * @seg: the packet from the Ethernet header on
 */
struct vireo_net_tx {
	__u8 gso_type;
	__u8 flags;
	__le16 nsegs;
	__le16 tag;
	__le16 gso_size;
	__le16 csum_start;
	__le16 csum_offset;
	__le16 hdr_len;
	__le16 reserved;
	struct vireo_seg seg[VIREO_RING_SEGS];
};

/**
 * struct vireo_net_rx - a buffer to receive into
 * @zero: 0
 * @flags: 0
 * @nsegs: 1
 * @tag: comes back in the completion
 * @reserved: 0
 * @seg: the first is the buffer, at least VIREO_NET_RX_MIN bytes, within one
 *	4 KiB page; the others are 0
 */
struct vireo_net_rx {
	__u8 zero;
	__u8 flags;
	__le16 nsegs;
	__le16 tag;
	__le16 reserved[5];
	struct vireo_seg seg[VIREO_RING_SEGS];
};

#define VIREO_NET_RX_MIN	256U

/**
 * struct vireo_net_info - vireo_comp.info of a received buffer
 * @flags: VIREO_NET_*; all but VIREO_NET_MORE are those of a packet's first
 * @gso_type: of the first buffer
 * @gso_size: likewise
 * @csum_start: likewise
 * @csum_offset: likewise
 */
struct vireo_net_info {
	__u8 flags;
	__u8 gso_type;
	__le16 gso_size;
	__le16 csum_start;
	__le16 csum_offset;
};

/* Features (struct vireo_pci_regs); without one its flag or type is not used */
#define VIREO_NET_F_CSUM	(1ULL << 0)	/* driver may send VIREO_NET_CSUM */
#define VIREO_NET_F_TSO		(1ULL << 1)	/* ... and GSO types */
#define VIREO_NET_F_RX_CSUM	(1ULL << 2)	/* driver takes VIREO_NET_CSUM and _VALID */
#define VIREO_NET_F_RX_TSO	(1ULL << 3)	/* ... and GSO types */
#define VIREO_NET_F_MAC_FILTER	(1ULL << 4)	/* the host drops what is not for @mac */

#define VIREO_NET_LINK_UP	1U

/**
 * struct vireo_net_config - the device's part of BAR 0
 * @mac: its address; may change, with an interrupt, when the guest becomes a clone
 * @pad: 0
 * @mtu: 68 to 65521
 * @link: VIREO_NET_LINK_UP or 0; may change, with an interrupt
 * @max_packet: longest packet with GSO, bytes
 */
struct vireo_net_config {
	__u8 mac[6];
	__u8 pad[2];
	__le32 mtu;
	__le32 link;
	__le32 max_packet;
};

#endif /* _UAPI_VIREO_NET_H */
