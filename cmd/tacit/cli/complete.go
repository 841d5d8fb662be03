// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

const completionTime = time.Second // how long a shell waits for names

// CompleteServices completes every argument with the names of services.
func (e *Env) CompleteServices(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	services, err := e.Daemon().Services(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	out := make([]string, len(services))
	for i, s := range services {
		out[i] = string(s.Name)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// CompleteNodes completes every argument with the names of nodes.
func (e *Env) CompleteNodes(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	nodes, err := e.Daemon().Nodes(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	out := make([]string, len(nodes))
	for i, n := range nodes {
		out[i] = string(n.Name)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
