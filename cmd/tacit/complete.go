// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

// addCompletion lets cobra make its own commands now, to give them examples.
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

// required panics for a flag that the command doesn't have, which the first
// test finds.
func required(cmd *cobra.Command, flag string) {
	if err := cmd.MarkFlagRequired(flag); err != nil {
		panic(err)
	}
}

const completionTime = time.Second // a shell waits no longer for names

// completeServices offers services, as often as the command takes arguments.
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
