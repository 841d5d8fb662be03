// SPDX-License-Identifier: Apache-2.0

package node

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
	Node        string   // this node's name, a DNS label; the host name by default
	StateDir    string   // keys, certificates, records; mode 0700
	RunDir      string   // the CLI's socket
	Address     string   // this node's IP as others reach it; by default that of the default route's interface
	Cgroup      string   // root of the cgroup v2 tree to hook; "": the whole tree
	BPFDir      string   // where programs and maps are pinned; bpffs is mounted when missing
	ServicesDir string   // service definitions
	Bootstrap   bool     // create the mesh
	Join        []string // addresses of members: host or host:lane-port
	TokenFile   string   // the join token

	TrustDomain string   // of a new mesh
	Default     string   // where no intention matches: allow or deny
	Domains     []string // DNS domains that the mesh answers, besides consul
	Redirect    string   // auto: socket hooks, and TPROXY for other network namespaces; sockets: hooks alone; tproxy: no hooks (docs/redirect-tproxy.md)
	GossipPort  uint16
	LanePort    uint16
	Range4      netip.Prefix // virtual addresses
	Range6      netip.Prefix
	LeafTTL     time.Duration // life of the certificates that this node's authority issues
	ResolvConf  string        // whose name servers are captured
	Exclude     Exclude       // what is left alone
	Confirm     time.Duration // a start is undone after it unless tacit confirm comes; 0: it stays

	// Room in the kernel's maps. What doesn't fit is refused, and status says so.
	MaxIntentions, MaxWorkloads, MaxConnecting uint32

	Version string
	Log     *slog.Logger
}

// minLeafTTL leaves time for a renewal at half life to fail and be tried again.
const minLeafTTL = 8 * time.Second

// settled is a Config after its texts have been understood.
type settled struct {
	Config
	name   identity.Name
	addr   netip.Addr
	action policy.Action // Default, understood
}

// settle checks every field before anything on the host is touched. Errors
// name the setting.
func (c Config) settle() (*settled, error) {
	s := &settled{Config: c}
	var err error
	if s.name, err = identity.ParseName(c.Node); err != nil {
		return nil, fmt.Errorf("--node: %w", err)
	}
	if s.addr, err = netip.ParseAddr(c.Address); err != nil {
		return nil, fmt.Errorf("--address %q: not an IP address; give the one that other nodes reach", c.Address)
	}
	if s.action, err = policy.ParseAction(c.Default); err != nil {
		return nil, fmt.Errorf("--default-intention: %w", err)
	}
	if s.Cgroup, err = c.tree(); err != nil {
		return nil, err
	}
	if _, err := identity.ParseTrustDomain(c.TrustDomain); err != nil {
		return nil, fmt.Errorf("--trust-domain: %w", err)
	}
	if s.addr = s.addr.Unmap(); s.addr.IsUnspecified() || s.addr.IsMulticast() || s.addr.Zone() != "" {
		return nil, fmt.Errorf("--address %s: give one address that other nodes reach", c.Address)
	}
	if err := c.checkRanges(); err != nil {
		return nil, err
	}
	if s.Exclude, err = c.Exclude.settle(s.Cgroup, c.Range4, c.Range6); err != nil {
		return nil, err
	}
	return s, c.checkModes()
}

// tree is the root to hook: the one given, or the whole tree.
func (c Config) tree() (string, error) {
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
	if !slices.Contains([]string{"auto", "sockets", redirectTPROXY}, c.Redirect) {
		return fmt.Errorf("--redirect %q: give auto, sockets or tproxy", c.Redirect)
	}
	if c.Bootstrap && len(c.Join) > 0 {
		return errors.New("--bootstrap creates a mesh and --join enters one: give only one of them")
	}
	if c.Confirm != 0 && c.Confirm < time.Second {
		return fmt.Errorf("--confirm %s: too short; 1s at least, or 0 to need no confirmation", c.Confirm)
	}
	if c.LeafTTL < minLeafTTL {
		return fmt.Errorf("--leaf-ttl %s: too short; %s at least", c.LeafTTL, minLeafTTL)
	}
	return nil
}

func (c Config) path(parts ...string) string {
	return filepath.Join(append([]string{c.StateDir}, parts...)...)
}

// SocketPath is where the CLI finds the daemon.
func (c Config) SocketPath() string { return filepath.Join(c.RunDir, "tacit.sock") }

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
