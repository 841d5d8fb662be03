// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

// addCompletion creates cobra's own commands early, to give them examples.
func addCompletion(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Example = "  tacit help intention allow"
		case "completion":
			cmd.Example = "  tacit completion bash > /etc/bash_completion.d/tacit"
			for _, shell := range cmd.Commands() {
				shell.Example = "  tacit completion " + shell.Name()
			}
		}
	}
}

const completionTime = time.Second // how long a shell waits for names

// completeServices completes every argument with the names of services.
func (e *env) completeServices(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	services, err := e.daemon().Services(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	out := make([]string, len(services))
	for i, s := range services {
		out[i] = string(s.Name)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (e *env) completeNodes(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	nodes, err := e.daemon().Nodes(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	out := make([]string, len(nodes))
	for i, n := range nodes {
		out[i] = string(n.Name)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
