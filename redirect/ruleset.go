// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// usesLegacy says whether iptables or ip6tables uses the legacy backend, which sends no notices of changes.
func usesLegacy() bool {
	for _, program := range []string{"iptables", "ip6tables"} {
		version, err := exec.Command(program, "--version").Output()
		if err == nil && !strings.Contains(string(version), "nf_tables") {
			return true
		}
	}
	return false
}

// ruleset identifies a state of the rules: two that differ have different rules. The reverse need not hold.
type ruleset struct {
	generation uint32 // of nftables; 0: unknown, or the kernel has no nftables
	legacy     string // number and size of the rules per table of the legacy backend
}

// Numbers of nftables' netlink protocol (linux/netfilter/nf_tables.h).
const (
	nfGetGeneration    = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN
	nfGenerationNumber = 1 // NFTA_GEN_ID, in network order
)

func readRuleset(legacy bool) ruleset {
	out := ruleset{generation: generation()}
	if legacy {
		out.legacy = legacySizes()
	}
	return out
}

// nfHeader is struct nfgenmsg: no family, version 0.
type nfHeader struct{}

func (nfHeader) Len() int          { return 4 }
func (nfHeader) Serialize() []byte { return make([]byte, 4) }

func generation() uint32 {
	request := nl.NewNetlinkRequest(nfGetGeneration, 0)
	request.AddData(nfHeader{})
	messages, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		attrs, err := nl.ParseRouteAttr(m[min(4, len(m)):])
		if err != nil {
			continue
		}
		for _, a := range attrs {
			if a.Attr.Type == nfGenerationNumber && len(a.Value) == 4 {
				return uint32(a.Value[0])<<24 | uint32(a.Value[1])<<16 | uint32(a.Value[2])<<8 | uint32(a.Value[3])
			}
		}
	}
	return 0
}
