/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints: /sys/kernel/tracing/events/vireo.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM vireo

#if !defined(VIREO_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define VIREO_TRACE_H

#include <linux/tracepoint.h>

#include "vireo.h"

TRACE_EVENT(vireo_entry,
	TP_PROTO(const struct vireo_vcpu *v),
	TP_ARGS(v),
	TP_STRUCT__entry(
		__field(unsigned int, vcpu)
		__field(u64, rip)
		__field(u32, event)
	),
	TP_fast_assign(
		__entry->vcpu = v->id;
		__entry->rip = v->rip;
		__entry->event = v->inject.info;
	),
	TP_printk("vcpu %u rip 0x%llx event 0x%x", __entry->vcpu, __entry->rip, __entry->event)
);

TRACE_EVENT(vireo_exit,
	TP_PROTO(const struct vireo_vcpu *v, unsigned int kind),
	TP_ARGS(v, kind),
	TP_STRUCT__entry(
		__field(unsigned int, vcpu)
		__field(unsigned int, kind)
		__field(u64, code)
		__field(u64, rip)
		__field(u64, gpa)
	),
	TP_fast_assign(
		__entry->vcpu = v->id;
		__entry->kind = kind;
		__entry->code = v->exit.code;
		__entry->rip = v->rip;
		__entry->gpa = v->exit.gpa;
	),
	TP_printk("vcpu %u kind %u code 0x%llx rip 0x%llx gpa 0x%llx", __entry->vcpu,
		  __entry->kind, __entry->code, __entry->rip, __entry->gpa)
);

TRACE_EVENT(vireo_fault,
	TP_PROTO(const struct vireo_vcpu *v, int err),
	TP_ARGS(v, err),
	TP_STRUCT__entry(
		__field(unsigned int, vcpu)
		__field(u64, gpa)
		__field(bool, write)
		__field(int, err)
	),
	TP_fast_assign(
		__entry->vcpu = v->id;
		__entry->gpa = v->exit.gpa;
		__entry->write = v->exit.write;
		__entry->err = err;
	),
	TP_printk("vcpu %u gpa 0x%llx write %d result %d", __entry->vcpu,
		  __entry->gpa, __entry->write, __entry->err)
);

#endif /* VIREO_TRACE_H */

#undef TRACE_INCLUDE_PATH
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
