// SPDX-License-Identifier: Apache-2.0

// lookup NAME…: what Go's own resolver resolves each name to, and each address to.
package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
)

func main() {
	r := &net.Resolver{PreferGo: true}
	for _, name := range os.Args[1:] {
		out := name
		if _, err := netip.ParseAddr(name); err == nil {
			if found, err := r.LookupAddr(context.Background(), name); err == nil {
				out += " " + strings.TrimSuffix(found[0], ".")
			}
			fmt.Println(out)
			continue
		}
		found, _ := r.LookupNetIP(context.Background(), "ip", name)
		var texts []string
		for _, a := range found {
			texts = append(texts, " "+a.Unmap().String())
		}
		slices.Sort(texts)
		fmt.Println(out + strings.Join(texts, ""))
	}
}
