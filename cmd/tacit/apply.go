// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"tacit/cmd/tacit/cli"
	"tacit/cmd/tacit/show"
	"tacit/cmd/tacit/table"
	"tacit/cmd/tacit/text"
	"tacit/cmd/tacit/usage"
	"tacit/node/api"
	"tacit/node/entries"
)

func (e *env) applyCommand() *cobra.Command {
	var r api.ApplyRequest
	var skip bool
	cmd := &cobra.Command{
		Use:   "apply FILE...",
		Short: "make the intentions and resolvers of files, all of them or none",
		Long: "Make what files hold, HCL or JSON: blocks intention { source destination action\n" +
			"description } and service_resolver NAME { subset split failover }, and Consul's\n" +
			"config entries (Kind = \"service-intentions\", service-resolver, service-splitter).\n" +
			"FILE is a file, a folder (its *.hcl and *.json files) or - for standard input.\n" +
			"Everything that can't be taken over is listed with its line; see docs/apply.md.\n" +
			"All changes are made in one transaction. What no file names stays, unless\n" +
			"--prune is given. This needs a node that holds an operator key.\n\n" +
			"Exit status: 0 done, 1 refused or not in force where --wait or --live wants it, 2 error.",
		Example: "  tacit apply intentions.hcl --dry-run\n" +
			"  tacit apply policy/ --prune --wait\n" +
			"  tacit apply - < entries.json",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage.Takes("FILE")(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Wait = r.Wait || r.Live
			if err := checkTimeout(r.Timeout); err != nil {
				return err
			}
			found := entries.Read(args, e.Stdin)
			if err := e.complain(found, skip); err != nil {
				return err
			}
			r.Intentions, r.Resolvers = found.Intentions, found.Resolvers
			return e.apply(cmd.Context(), r)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&r.DryRun, "dry-run", false, "only print the plan")
	f.BoolVar(&r.Prune, "prune", false, "delete the intentions and resolvers that no file names")
	f.BoolVar(&r.Yes, "yes", false, "even if --prune deletes more than a tenth of them")
	f.BoolVar(&skip, "skip-unsupported", false, "leave out the settings that have no meaning here")
	f.BoolVar(&r.Wait, "wait", false, "return when it is in force on every member, reached or not")
	f.BoolVar(&r.Live, "live", false, "like --wait, for the members that answer")
	f.DurationVar(&r.Timeout, "timeout", api.DefaultWait, "how long --wait and --live wait")
	usage.Exclusive(cmd, "wait", "dry-run")
	usage.Exclusive(cmd, "live", "dry-run")
	return cmd
}

// complain lists all that is wrong with the files.
func (e *env) complain(found entries.Result, skip bool) error {
	for _, err := range found.Errors {
		fmt.Fprintln(e.Stderr, "tacit:", table.OneLine(err.Error()))
	}
	word := "tacit: not supported:"
	if skip {
		word = "left out:"
	}
	for _, err := range found.Unsupported {
		fmt.Fprintln(e.Stderr, word, table.OneLine(err.Error()))
	}
	switch {
	case len(found.Errors) > 0:
		fmt.Fprintf(e.Stderr, "tacit: %s: nothing was changed\n", text.Plural(len(found.Errors), "error"))
		return cli.ExitStatus(cli.ExitError)
	case len(found.Unsupported) > 0 && !skip:
		fmt.Fprintf(e.Stderr, "tacit: %s not supported: nothing was changed\n  leave them out with --skip-unsupported\n", text.Plural(len(found.Unsupported), "setting"))
		return cli.ExitStatus(cli.ExitError)
	}
	return nil
}

func (e *env) apply(ctx context.Context, r api.ApplyRequest) error {
	stop := func() {}
	if r.Wait {
		stop = e.progress(ctx, r.Live, "any", "any") // any pair tells which policy a node has
	}
	out, err := e.Daemon().Apply(ctx, r)
	stop()
	if err != nil {
		return err
	}
	e.Warn(out.Warnings)
	if err := e.Print(out, func(w io.Writer) { e.printApplied(w, r, out) }); err != nil {
		return err
	}
	if r.Wait && len(out.Waiting) > 0 {
		return cli.ExitStatus(cli.ExitNo)
	}
	return nil
}

func (e *env) printApplied(w io.Writer, r api.ApplyRequest, out *api.ApplyResult) {
	count := map[api.Operation]int{}
	t := table.New()
	for _, p := range out.Plan {
		count[p.Operation]++
		t.Row(planned(p)...)
	}
	for _, p := range out.Resolvers {
		count[p.Operation]++
		t.Row(show.PlannedRules(p)...)
	}
	t.Print(w, e.Width)
	prefix := ""
	if r.DryRun {
		prefix = "dry run: "
	}
	fmt.Fprintf(w, "%s%d added, %d changed, %d removed, %d unchanged\n", prefix,
		count[api.OperationAdd], count[api.OperationChange], count[api.OperationRemove], out.Unchanged)
	printReach(w, r.Wait, r.DryRun, out.LiveAffected, out.Reach)
}

// planned is one row of a plan.
func planned(p api.Planned) []any {
	switch p.Operation {
	case api.OperationAdd:
		return []any{"+", rule(*p.After), p.From}
	case api.OperationRemove:
		return []any{"-", rule(*p.Before), ""}
	}
	what := rule(*p.After)
	switch {
	case p.Before.Action != p.After.Action:
		what += fmt.Sprintf(" (was %s)", p.Before.Action)
	case p.Before.Conflict:
		what += " (was in conflict)"
	default:
		what += " (description)"
	}
	return []any{"~", what, p.From}
}
