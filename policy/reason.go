// SPDX-License-Identifier: Apache-2.0

package policy

// Reason is why a connection was allowed, refused or ended. Log, metrics, `tacit
// explain` and flow records all use this string. Reasons returns all of them.
type Reason string

// Verdicts.
const (
	ReasonAllowed    Reason = "allowed"
	ReasonSelf       Reason = "self"
	ReasonPermissive Reason = "permissive"
	ReasonIntention  Reason = "intention"
	ReasonDefault    Reason = "default"
)

// Refusals on the caller's node, by caller and destination.
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
	ReasonLate        Reason = "late"
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
	ReasonSlow     Reason = "slow"
)

// Refusals at the lane port.
const (
	ReasonShare     Reason = "share"
	ReasonHandshake Reason = "handshake"
	ReasonAuthority Reason = "authority"
	ReasonRequest   Reason = "request"
)

// Ends of allowed connections.
const (
	ReasonChanged Reason = "changed"
	ReasonClosed  Reason = "closed"
	ReasonReset   Reason = "reset"
	ReasonIdle    Reason = "idle"
	ReasonDrain   Reason = "drain"
)

// reasons is the complete list, in the order of the documentation.
var reasons = []struct {
	reason  Reason
	explain string
}{
	{ReasonAllowed, "An intention allows it, or no intention matches and the default is allow."},
	{ReasonSelf, "A service may always call itself on its own node."},
	{ReasonPermissive, "A plain connection was let in because the service is registered as permissive."},
	{ReasonIntention, "An intention denies it."},
	{ReasonDefault, "No intention matches, and the default is deny, as it always is for an ingress."},
	{ReasonIdentity, "The caller isn't a workload of any service on this node."},
	{ReasonCreator, "The socket was created by another workload than the one that connects with it."},
	{ReasonDepth, "The caller's cgroup is more than 16 levels below the hooked root."},
	{ReasonDestination, "The requested address or name belongs to no service."},
	{ReasonPort, "The service has no such port."},
	{ReasonInstance, "The service has no healthy instance."},
	{ReasonUDP, "The mesh doesn't carry UDP to services."},
	{ReasonGuard, "A plain connection to the port of a strict service was refused: only the mesh may connect there."},
	{ReasonTag, "The daemon's own socket has no tag with a source service, so it may not reach a service's port."},
	{ReasonListener, "The program that listens on the service's port isn't that service's workload."},
	{ReasonDial, "The program didn't accept the connection."},
	{ReasonDaemon, "The daemon isn't running on this node."},
	{ReasonLimit, "This workload or the daemon has reached a limit; tacit status says which."},
	{ReasonDevice, "The socket is bound to a device; on this host only loopback leads to the mesh."},
	{ReasonDiverted, "A firewall rule or route of this host redirected the connection away from the mesh; look at iptables -t nat -S."},
	{ReasonName, "A DNS query for a mesh name was about to leave the host for another resolver."},
	{ReasonLate, "A packet on loopback belongs to no connection: one that has just ended, or one that no program made by connect()."},
	{ReasonMember, "The other node isn't a member of this mesh."},
	{ReasonGrant, "The node holds no grant for the service."},
	{ReasonProof, "The node has not proven the service's identity on this lane."},
	{ReasonLane, "There is no lane to the node that runs the service."},
	{ReasonProtocol, "The other node didn't follow the lane protocol."},
	{ReasonRevoked, "The key of the node or of the service is revoked."},
	{ReasonExpired, "A certificate has expired or isn't valid yet; check the clocks and whether an authority can be reached."},
	{ReasonSlow, "The other end stopped in the middle of a handshake or of a message."},
	{ReasonShare, "An address or network that has proven nothing yet has too many connections to the lane port, or opens them too fast."},
	{ReasonHandshake, "A connection to the lane port ended without a TLS handshake."},
	{ReasonAuthority, "This node is no authority: it admits no nodes and issues no certificates."},
	{ReasonRequest, "The authority refused to admit a node or to issue a certificate; its log says why."},
	{ReasonChanged, "The connection was cut because policy changed."},
	{ReasonClosed, "Both sides closed the connection."},
	{ReasonReset, "One side reset the connection."},
	{ReasonIdle, "The connection was idle for longer than the idle limit."},
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

// Refuses says whether connections with this reason were refused; the other reasons allow
// one, end one that was allowed, or belong to none.
func (r Reason) Refuses() bool {
	switch r {
	case ReasonAllowed, ReasonSelf, ReasonPermissive, ReasonLate, ReasonChanged, ReasonClosed, ReasonReset, ReasonIdle, ReasonDrain:
		return false
	}
	return true
}

// Explain returns a sentence for users.
func (r Reason) Explain() string {
	for _, e := range reasons {
		if e.reason == r {
			return e.explain
		}
	}
	return "Unknown reason " + string(r) + "."
}
