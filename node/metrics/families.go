// SPDX-License-Identifier: Apache-2.0

package metrics

import "github.com/prometheus/client_golang/prometheus"

// family is one metric: what it is called, what it says, and its labels.
type family struct {
	name   string
	kind   prometheus.ValueType
	help   string
	labels []string
}

// The metrics' names; docs/metrics.md has them in the same order.
const (
	buildInfo        = "tacit_build_info"
	healthy          = "tacit_healthy"
	checkOK          = "tacit_check_ok"
	connections      = "tacit_connections_total"
	sentBytes        = "tacit_sent_bytes_total"
	receivedBytes    = "tacit_received_bytes_total"
	liveConnections  = "tacit_live_connections"
	kernelVerdicts   = "tacit_kernel_verdicts_total"
	lostReports      = "tacit_lost_reports_total"
	droppedFlows     = "tacit_dropped_flows_total"
	loopStalls       = "tacit_loop_stalls_total"
	lanes            = "tacit_lanes"
	lanesCut         = "tacit_lanes_cut_total"
	laneUnproven     = "tacit_lane_port_unproven_connections"
	laneRefused      = "tacit_lane_port_refused_total"
	rebindingAnswers = "tacit_rebinding_answers_total"
	revision         = "tacit_policy_revision"
	inForce          = "tacit_policy_in_force"
	unconfirmed      = "tacit_start_unconfirmed"
	members          = "tacit_members"
	membersInForce   = "tacit_members_in_force"
	certificateEnd   = "tacit_certificate_end_time_seconds"
	certificateRenew = "tacit_certificate_renewal_time_seconds"
	mapEntries       = "tacit_kernel_map_entries"
	mapLimit         = "tacit_kernel_map_max_entries"
)

func families() []family {
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	return []family{
		{buildInfo, gauge, "1; the labels say what runs.", []string{"version", "goversion"}},
		{healthy, gauge, "1 if every check of tacit status is good, else 0.", nil},
		{checkOK, gauge, "1 if this check of tacit status is good, else 0.", []string{"check"}},
		{connections, counter, "Connections that ended or were refused since the daemon's start, as tacit flows counts them.", []string{"direction", "verdict", "reason"}},
		{sentBytes, counter, "Bytes from sources to destinations since the daemon's start, those of live connections included.", []string{"direction"}},
		{receivedBytes, counter, "Bytes from destinations to sources since the daemon's start, those of live connections included.", []string{"direction"}},
		{liveConnections, gauge, "Connections that the daemon carries now.", []string{"direction"}},
		{kernelVerdicts, counter, "Verdicts of the kernel programs since their maps were made.", []string{"reason"}},
		{lostReports, counter, "Verdicts of the kernel programs that the daemon read too slowly to count as connections.", []string{"reason"}},
		{droppedFlows, counter, "Connections that tacit flows no longer lists because newer ones took their place.", nil},
		{loopStalls, counter, "Times that an event loop stood still for a second: a fault of the daemon.", nil},
		{lanes, gauge, "Lanes to or from another node.", []string{"peer", "direction"}},
		{lanesCut, counter, "Lanes of members that were refused or cut for what these did.", []string{"reason"}},
		{laneUnproven, gauge, "Connections to the lane port that have proven nothing yet.", nil},
		{laneRefused, counter, "Connections to the lane port that were refused.", []string{"reason"}},
		{rebindingAnswers, counter, "Answers of resolvers that were refused because they led to a virtual address.", nil},
		{revision, gauge, "Number of the policy in the kernel's maps; it grows with every change.", nil},
		{inForce, gauge, "1 if the kernel's maps hold the policy as a whole, else 0.", nil},
		{unconfirmed, gauge, "1 while the start is undone unless tacit confirm is run, else 0.", nil},
		{members, gauge, "Members of the mesh, by whether they answer this node.", []string{"state"}},
		{membersInForce, gauge, "Members that have signed that the policy of this node is in force on them, this node included.", nil},
		{certificateEnd, gauge, "When a certificate in use on this node ends, as Unix time.", []string{"id"}},
		{certificateRenew, gauge, "When a certificate in use on this node will be renewed, as Unix time.", []string{"id"}},
		{mapEntries, gauge, "Entries of a kernel map.", []string{"map"}},
		{mapLimit, gauge, "Entries for which a kernel map has room.", []string{"map"}},
	}
}

// desc is the family as the library wants it.
func (f family) desc() *prometheus.Desc { return prometheus.NewDesc(f.name, f.help, f.labels, nil) }
