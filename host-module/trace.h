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

DECLARE_EVENT_CLASS(vireo_vcpu,
	TP_PROTO(const struct vireo_vcpu *v, int what),
	TP_ARGS(v, what),
	TP_STRUCT__entry(
		__field(unsigned int, vcpu)
		__field(int, what)
		__field(u32, event)
		__field(u64, rip)
		__field(u64, code)
		__field(u64, gpa)
		__field(bool, write)
	),
	TP_fast_assign(
		__entry->vcpu = v->id;
		__entry->what = what;
		__entry->event = v->inject.info;
		__entry->rip = v->rip;
		__entry->code = v->exit.code;
		__entry->gpa = v->exit.gpa;
		__entry->write = v->exit.write;
	),
	TP_printk("vcpu %u rip 0x%llx event 0x%x what %d code 0x%llx gpa 0x%llx write %d",
		  __entry->vcpu, __entry->rip, __entry->event, __entry->what, __entry->code,
		  __entry->gpa, __entry->write)
);

DEFINE_EVENT(vireo_vcpu, vireo_entry,
	TP_PROTO(const struct vireo_vcpu *v, int unused), TP_ARGS(v, unused));

DEFINE_EVENT(vireo_vcpu, vireo_exit,
	TP_PROTO(const struct vireo_vcpu *v, int kind), TP_ARGS(v, kind));

DEFINE_EVENT(vireo_vcpu, vireo_fault,
	TP_PROTO(const struct vireo_vcpu *v, int err), TP_ARGS(v, err));

#endif /* VIREO_TRACE_H */

#undef TRACE_INCLUDE_PATH
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
