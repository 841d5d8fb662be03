// SPDX-License-Identifier: Apache-2.0

// Package config holds everything that a daemon can be told, and checks it
// before anything on the host is touched. It must not start, open or change
// anything.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"tacit/identity"
	"tacit/node/workload"
	"tacit/policy"
)

// Config is everything a daemon can be told; each field is a flag and a
// config key of cmd/tacitd by the same name.
type Config struct {
	Node    string // this node's name, a DNS label; the host name by default
	Address string // this node's IP as other nodes reach it; by default that of the default route's interface
	Cgroup  string // root of the cgroup v2 tree to hook; "": the whole tree
	Paths
	Membership
	Naming
	Start
	Zone       string // where this node is; callers prefer instances of their own zone; "": nowhere
	Default    string // verdict where no intention matches: allow or deny
	Redirect   string // Auto, Sockets or TPROXY
	GossipPort uint16
	LanePort   uint16
	Metrics    string       // where Prometheus gets metrics: a loopback address and port, MetricsSocket, or "": nowhere
	Range4     netip.Prefix // virtual IPv4 addresses
	Range6     netip.Prefix // virtual IPv6 addresses
	Exclude    Exclude
	Limits     Limits
	Version    string
	Log        *slog.Logger
	Reload     Reload
}

// Reload is how a running daemon is told to read its files again.
type Reload struct {
	Asked  <-chan os.Signal   // nil: never
	Config func(*slog.Logger) // reads the config file again, puts in force what can change live, and logs the rest
}

// Paths are the files and folders that a daemon reads and writes.
type Paths struct {
	StateDir    string // keys, certificates, records; mode 0700
	RunDir      string // the CLI's socket
	BPFDir      string // pinned programs and maps; bpffs is mounted there when missing
	ServicesDir string // service definitions
	ResolvConf  string // names the resolvers whose queries are captured
}

// Membership says how a node that is in no mesh yet becomes a member of one.
type Membership struct {
	Bootstrap   bool          // create the mesh
	Join        []string      // addresses of members: host or host:lane-port
	TokenFile   string        // the join token
	Alone       bool          // sign without having heard from another member since the start
	TrustDomain string        // of a new mesh
	LeafTTL     time.Duration // lifetime of the certificates that this node's authority issues
}

// Start says what a start does to what runs already, and how it may be undone.
type Start struct {
	Confirm  time.Duration // it is undone after it unless tacit confirm comes; 0: it stays
	TakeOver bool          // take over the work of a daemon that runs
	Drain    time.Duration // how long a daemon carries its streams once another has taken over
}

// Naming says which DNS names are the mesh's.
type Naming struct {
	Domains       []string // that the mesh answers, besides consul
	Search        []string // suffixes below which bare service names are the mesh's
	Datacenter    string   // what the mesh is called in Consul's names; "": names with a datacenter aren't the mesh's
	ForwardConsul bool     // names below consul that the mesh doesn't have go to the resolver that was asked
}

// Limits are the sizes of kernel maps. An entry that doesn't fit is refused,
// and status says so.
type Limits struct {
	MaxIntentions, MaxWorkloads, MaxConnecting uint32
}

// Values of Config.Redirect.
const (
	Auto    = "auto"    // socket hooks, and TPROXY for programs in other network namespaces
	Sockets = "sockets" // socket hooks alone
	TPROXY  = "tproxy"  // no hooks: docs/redirect-tproxy.md says which guarantees are lost
)

// minLeafTTL leaves time for a renewal at half life to fail and be tried again.
const minLeafTTL = 8 * time.Second

// Settled is a Config whose texts have been parsed and checked.
type Settled struct {
	Config
	Name      identity.Name
	Addr      netip.Addr
	Action    policy.Action  // Default, parsed
	MetricsAt netip.AddrPort // Metrics, parsed; invalid without a port
}

// Settle parses and checks every field. Errors name the setting.
func (c Config) Settle() (*Settled, error) {
	s := &Settled{Config: c}
	var err error
	if s.Name, err = identity.ParseName(c.Node); err != nil {
		return nil, fmt.Errorf("--node: %w", err)
	}
	if s.Addr, err = c.address(); err != nil {
		return nil, err
	}
	if s.Action, err = policy.ParseAction(c.Default); err != nil {
		return nil, fmt.Errorf("--default-intention: %w", err)
	}
	if s.Cgroup, err = c.Tree(); err != nil {
		return nil, err
	}
	if _, err := identity.ParseTrustDomain(c.TrustDomain); err != nil {
		return nil, fmt.Errorf("--trust-domain: %w", err)
	}
	if err := c.checkRanges(); err != nil {
		return nil, err
	}
	if err := c.Naming.check(); err != nil {
		return nil, err
	}
	if s.MetricsAt, err = c.metricsAt(); err != nil {
		return nil, err
	}
	if s.Exclude, err = c.Exclude.settle(s.Cgroup, c.Range4, c.Range6); err != nil {
		return nil, err
	}
	return s, c.checkModes()
}

func (c Config) address() (netip.Addr, error) {
	addr, err := netip.ParseAddr(c.Address)
	if err != nil {
		return addr, fmt.Errorf("--address %q: not an IP address; give the one that other nodes reach", c.Address)
	}
	if addr = addr.Unmap(); addr.IsUnspecified() || addr.IsMulticast() || addr.Zone() != "" {
		return addr, fmt.Errorf("--address %s: give one address that other nodes reach", c.Address)
	}
	return addr, nil
}

// Tree is the root of the cgroup tree to hook: the given one, or the whole tree.
func (c Config) Tree() (string, error) {
	if c.Cgroup != "" {
		return c.Cgroup, nil
	}
	return workload.Root()
}

func (c Config) checkRanges() error {
	if !c.Range4.Addr().Is4() || c.Range4.Bits() > 24 {
		return fmt.Errorf("--virtual-range4 %s: not an IPv4 range of /24 or larger", c.Range4)
	}
	if !c.Range6.Addr().Is6() || c.Range6.Bits() > 96 {
		return fmt.Errorf("--virtual-range6 %s: not an IPv6 range of /96 or larger", c.Range6)
	}
	if c.GossipPort == 0 || c.LanePort == 0 {
		return errors.New("--gossip-port and --lane-port: must not be 0")
	}
	return nil
}

func (c Config) checkModes() error {
	if !slices.Contains([]string{Auto, Sockets, TPROXY}, c.Redirect) {
		return fmt.Errorf("--redirect %q: give auto, sockets or tproxy", c.Redirect)
	}
	if c.Bootstrap && len(c.Join) > 0 {
		return errors.New("--bootstrap creates a mesh and --join enters one: give only one of them")
	}
	if c.Confirm != 0 && c.Confirm < time.Second {
		return fmt.Errorf("--confirm %s: too short; 1s at least, or 0 to need no confirmation", c.Confirm)
	}
	if c.Confirm != 0 && c.TakeOver {
		return errors.New("--take-over leaves no state of the host to go back to: --confirm can't be given with it")
	}
	if c.Drain < 0 {
		return fmt.Errorf("--drain %s: must not be negative", c.Drain)
	}
	if _, err := identity.ParseName(c.Zone); c.Zone != "" && err != nil {
		return fmt.Errorf("--zone %.64q: %w", c.Zone, err)
	}
	if c.LeafTTL < minLeafTTL {
		return fmt.Errorf("--leaf-ttl %s: too short; %s at least", c.LeafTTL, minLeafTTL)
	}
	return nil
}

// State is the path of a file in the state directory.
func (p Paths) State(name string) string { return filepath.Join(p.StateDir, name) }

// Socket is the path of the CLI's socket.
func (p Paths) Socket() string { return filepath.Join(p.RunDir, "tacit.sock") }

// HostName is the default for Node: the first label of the host's name.
func HostName() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	for i := range name {
		if name[i] == '.' {
			return name[:i]
		}
	}
	return name
}
