// SPDX-License-Identifier: Apache-2.0

package redirect

// The numbers and names that mark our state on the host. [Cleanup] finds it by them alone.
const (
	// routeProtocol marks every route and rule of ours. It is neither among the kernel's RTPROT_ constants nor in
	// iproute2's rt_protos.
	routeProtocol = 116

	// tproxyMark is the one bit that says "deliver to this host", mask and value. Bit 12 is free of kube-proxy (14, 15),
	// the CNI port map (13), Tailscale (16-23), Calico (16-31), wg-quick's 0xca6c and Istio's 0x539, all of which
	// set or match bits of the same word. The mark steers and is never an identity: any process with CAP_NET_RAW can set it.
	tproxyMark = 0x1000

	// tproxyTable holds one route: everything is local. Its number is above 255, where administrators rarely choose one, and
	// differs from Tailscale's 52, wg-quick's 51820, and Cilium's 2004 and 2005.
	tproxyTable = 11600

	// tproxyPriority comes after the local table (0) and before the rules of VPNs, which begin at 5210 (Tailscale)
	// and would route marked packets out of the host.
	tproxyPriority = 1160

	// chainPrefix, followed by the name of the built-in chain that jumps to it, is the name of a chain of ours in any table.
	chainPrefix = "TACIT-"

	tableLocal = 255 // RT_TABLE_LOCAL

	// blackholeMetric is the lowest preference: a local route for the same range wins.
	blackholeMetric = 1<<32 - 1

	// metric6 is the metric that the kernel gives to an IPv6 route without one. Plans have it so that the kernel reports what
	// was planned.
	metric6 = 1024

	dnsPort = 53
)
