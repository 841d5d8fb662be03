// SPDX-License-Identifier: Apache-2.0

package policy

// Reason is why a connection was allowed, refused or ended. The same string
// stands in the log, the metric, `tacit explain` and the flow record. The list
// is closed: Reasons returns all of them.
type Reason string

// Verdicts.
const (
	ReasonAllowed    Reason = "allowed"
	ReasonSelf       Reason = "self"
	ReasonPermissive Reason = "permissive"
	ReasonIntention  Reason = "intention"
	ReasonDefault    Reason = "default"
)

// Refusals: who the caller is, and what it asked for.
const (
	ReasonIdentity    Reason = "identity"
	ReasonCreator     Reason = "creator"
	ReasonDepth       Reason = "depth"
	ReasonDestination Reason = "destination"
	ReasonPort        Reason = "port"
	ReasonInstance    Reason = "instance"
	ReasonUDP         Reason = "udp"
	ReasonGuard       Reason = "guard"
	ReasonTag         Reason = "tag"
	ReasonListener    Reason = "listener"
	ReasonDial        Reason = "dial"
	ReasonDaemon      Reason = "daemon"
	ReasonLimit       Reason = "limit"
	ReasonDevice      Reason = "device"
	ReasonDiverted    Reason = "diverted"
	ReasonName        Reason = "name"
)

// Refusals between nodes.
const (
	ReasonMember   Reason = "member"
	ReasonGrant    Reason = "grant"
	ReasonProof    Reason = "proof"
	ReasonLane     Reason = "lane"
	ReasonProtocol Reason = "protocol"
	ReasonRevoked  Reason = "revoked"
	ReasonExpired  Reason = "expired"
)

// Ends of connections that had been allowed.
const (
	ReasonChanged Reason = "changed"
	ReasonClosed  Reason = "closed"
	ReasonReset   Reason = "reset"
	ReasonIdle    Reason = "idle"
	ReasonDrain   Reason = "drain"
)

// reasons is the closed list, in the order in which people read about it.
var reasons = []struct {
	reason  Reason
	explain string
}{
	{ReasonAllowed, "An intention allows it, or no intention matches and the default is allow."},
	{ReasonSelf, "A service may always call itself on its own node."},
	{ReasonPermissive, "A plain connection, let in because the service is registered as permissive."},
	{ReasonIntention, "An intention denies it."},
	{ReasonDefault, "No intention matches, and the default is deny."},
	{ReasonIdentity, "The caller isn't a workload of any service on this node."},
	{ReasonCreator, "The socket was made by another workload than the one that uses it."},
	{ReasonDepth, "The caller's cgroup lies more than 16 levels below the hooked root."},
	{ReasonDestination, "The address or name asked for belongs to no service."},
	{ReasonPort, "The service has no such port."},
	{ReasonInstance, "The service has no healthy instance."},
	{ReasonUDP, "UDP to a service isn't carried."},
	{ReasonGuard, "A plain connection to the port of a strict service; only the mesh may bring one there."},
	{ReasonTag, "The daemon's own socket named no source service, so it may not reach a service's port."},
	{ReasonListener, "What listens on the service's port isn't that service's workload."},
	{ReasonDial, "The program didn't accept the connection."},
	{ReasonDaemon, "The daemon isn't running on this node."},
	{ReasonLimit, "A limit of this workload or of the daemon is reached."},
	{ReasonDevice, "The socket is bound to a device; only loopback leads to the mesh from this host."},
	{ReasonDiverted, "A rule or route of this host turned the connection away from the mesh; look at iptables -t nat -S."},
	{ReasonName, "A query for a name of the mesh was on its way to another resolver."},
	{ReasonMember, "The other node isn't a member of this mesh."},
	{ReasonGrant, "The node holds no grant for the service."},
	{ReasonProof, "The service wasn't proven on this lane."},
	{ReasonLane, "There is no lane to the node that runs the service."},
	{ReasonProtocol, "The other node didn't follow the lane protocol."},
	{ReasonRevoked, "The node's key or the service's key is revoked."},
	{ReasonExpired, "A certificate is outside its time; check the clocks and that an authority can be reached."},
	{ReasonChanged, "Policy changed while the connection lived, and it was cut."},
	{ReasonClosed, "Both sides had finished."},
	{ReasonReset, "One side reset the connection."},
	{ReasonIdle, "Nothing was sent for longer than the idle limit."},
	{ReasonDrain, "The daemon was stopping."},
}

// Reasons returns every reason, for metrics and documentation.
func Reasons() []Reason {
	all := make([]Reason, len(reasons))
	for i, r := range reasons {
		all[i] = r.reason
	}
	return all
}

// Explain returns one sentence for people.
func (r Reason) Explain() string {
	for _, e := range reasons {
		if e.reason == r {
			return e.explain
		}
	}
	return "Unknown reason " + string(r) + "."
}
