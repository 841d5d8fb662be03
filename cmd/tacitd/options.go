// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/pflag"

	"tacit/node"
)

// options are the flags' values; config turns them into a node.Config.
type options struct {
	file           string
	cfg            node.Config
	range4, range6 string
	logFormat      string
	logLevel       string
	log            *output
}

func (o *options) bind(f *pflag.FlagSet) {
	c := &o.cfg
	f.StringVar(&o.file, "config", "", "config file, HCL or JSON; flags override it")
	f.StringVar(&c.Node, "node", node.HostName(), "this node's name")
	f.StringVar(&c.StateDir, "state-dir", "/var/lib/tacit", "keys, certificates, records")
	f.StringVar(&c.RunDir, "run-dir", "/run/tacit", "the CLI's socket")
	f.StringVar(&c.Address, "address", "", "IP address at which other nodes reach this one (default: the source address of the default route)")
	f.StringVar(&c.Cgroup, "cgroup", "", "root of the cgroup v2 tree to hook (default: from the mount table)")
	f.StringVar(&c.BPFDir, "bpffs-dir", "/sys/fs/bpf/tacit", "where programs and maps are pinned; bpffs is mounted when missing")
	f.StringVar(&c.ServicesDir, "services-dir", "/etc/tacit/services.d", "service definitions")
	f.BoolVar(&c.Bootstrap, "bootstrap", false, "create the mesh, its authority and its operator key; ignored if this node is a member")
	f.StringSliceVar(&c.Join, "join", nil, "address of a member to join by; ignored if this node is a member")
	f.StringVar(&c.TokenFile, "token-file", "", "file with the join token (tacit token create, on a member)")
	f.BoolVar(&c.Alone, "alone", false, "sign as operator and authority without having heard from another member since the start: only if the others are gone for good")
	f.StringVar(&c.TrustDomain, "trust-domain", "tacit.local", "SPIFFE trust domain of a new mesh")
	f.StringVar(&c.Default, "default-intention", "deny", "verdict where no intention matches: allow or deny")
	f.StringSliceVar(&c.Domains, "domain", []string{"mesh"}, "DNS domains of the mesh; consul is always one")
	f.StringSliceVar(&c.Search, "search", nil, "a `SUFFIX` below which the bare names of services are the mesh's, such as corp.example; repeatable."+
		" (Without it, a name below a search suffix of resolv.conf stays what it is.)")
	f.StringVar(&c.Datacenter, "datacenter", "dc1", "what the mesh is called in Consul's names, as in web.service.dc1.consul")
	f.BoolVar(&c.ForwardConsul, "forward-consul", true, "send names below consul that the mesh doesn't have to the resolver that was asked, where a Consul agent may answer")
	f.StringVar(&c.Zone, "zone", "", "where this node is, such as a rack or an availability zone; callers prefer instances of their own zone")
	f.StringVar(&c.Redirect, "redirect", "auto", "auto: socket hooks, and TPROXY for other network namespaces; sockets: hooks alone; tproxy: no hooks, with fewer guarantees, for hosts where none can be attached")
	f.Uint16Var(&c.GossipPort, "gossip-port", 7946, "port for gossip, UDP and TCP")
	f.Uint16Var(&c.LanePort, "lane-port", 7947, "port for lanes and enrolment, TCP")
	f.StringVar(&c.Metrics, "metrics", "", "where Prometheus gets metrics: a loopback `ADDRESS:PORT`, or unix for /metrics on the CLI's socket (default: nowhere)")
	f.StringVar(&o.range4, "virtual-range4", "240.64.0.0/12", "virtual IPv4 addresses")
	f.StringVar(&o.range6, "virtual-range6", "fd7a:ac17::/32", "virtual IPv6 addresses")
	f.DurationVar(&c.LeafTTL, "leaf-ttl", time.Hour, "lifetime of the certificates that this node's authority issues")
	f.Uint32Var(&c.Limits.MaxIntentions, "max-intentions", 1<<18, "maximum number of intentions in the kernel")
	f.Uint32Var(&c.Limits.MaxWorkloads, "max-workloads", 1<<14, "maximum number of workload cgroups in the kernel")
	f.Uint32Var(&c.Limits.MaxConnecting, "max-connecting", 1<<16, "maximum number of captured connections on their way to the daemon; one workload may have a quarter")
	f.StringVar(&c.ResolvConf, "resolv-conf", "/etc/resolv.conf", "the file that names the host's resolvers")
	f.DurationVar(&c.Confirm, "confirm", 0, "undo the start after this time unless tacit confirm is run; 0: never")
	f.BoolVar(&c.TakeOver, "take-over", false, "take over the work of the tacitd that runs here, without a failed connection; where none runs, an ordinary start")
	f.DurationVar(&c.Drain, "drain", 10*time.Minute, "how long this daemon carries its live streams to their ends once another has taken over")
	bindExclude(f, &c.Exclude)
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
}

// config merges flags and config file, flags first, and parses every value.
func (o *options) config(f *pflag.FlagSet) (node.Config, error) {
	at := map[string]string{}
	if o.file != "" {
		var err error
		if at, err = applyFile(o.file, f); err != nil {
			return node.Config{}, err
		}
	}
	c := o.cfg
	c.Exclude.At = excludedAt(at, f)
	c.Version = version
	if c.Address == "" {
		c.Address = ownAddress()
	}
	var err error
	if c.Range4, err = netip.ParsePrefix(o.range4); err != nil {
		return c, fmt.Errorf("--virtual-range4: %w", err)
	}
	if c.Range6, err = netip.ParsePrefix(o.range6); err != nil {
		return c, fmt.Errorf("--virtual-range6: %w", err)
	}
	o.log = newOutput()
	c.Log = o.log.logger(os.Stderr)
	return c, o.log.set(o.logFormat, o.logLevel)
}

// ownAddress is the source address of packets to the Internet, or "" without a
// route. Connecting a UDP socket sends nothing.
func ownAddress() string {
	for _, probe := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} { // RFC 5737, RFC 3849
		conn, err := net.Dial("udp", probe)
		if err != nil {
			continue
		}
		defer conn.Close()
		if at, err := netip.ParseAddrPort(conn.LocalAddr().String()); err == nil {
			return at.Addr().String()
		}
	}
	return ""
}
