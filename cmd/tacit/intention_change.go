// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"tacit/cmd/tacit/cli"
	"tacit/cmd/tacit/show"
	"tacit/cmd/tacit/table"
	"tacit/cmd/tacit/text"
	"tacit/cmd/tacit/usage"
	"tacit/node/api"
)

func (e *env) intentionChange(action api.Change, short string) *cobra.Command {
	r := api.IntentionChange{Action: action}
	verb := string(action)
	cmd := &cobra.Command{
		Use:   verb + " SRC DST",
		Short: short,
		Long: text.UpperFirst(short) + ".\nThis needs a node that holds an operator key; others refuse, and name those that do.\n\n" +
			"Exit status: 0 done, 1 refused or not in force where --wait or --live wants it, 2 error.",
		Example: "  tacit intention " + verb + " web db\n" +
			"  tacit intention " + verb + " web db --wait\n" +
			"  tacit intention " + verb + " '*' db --dry-run",
		Args: usage.Takes("SRC", "DST"), ValidArgsFunction: e.CompleteServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Source, r.Destination = api.Name(args[0]), api.Name(args[1])
			r.Wait = r.Wait || r.Live
			if err := checkTimeout(r.Timeout); err != nil {
				return err
			}
			return e.change(cmd.Context(), r)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&r.Wait, "wait", false, "return when it is in force on every member, reached or not")
	f.BoolVar(&r.Live, "live", false, "like --wait, for the members that answer")
	f.DurationVar(&r.Timeout, "timeout", api.DefaultWait, "how long --wait and --live wait")
	f.BoolVar(&r.DryRun, "dry-run", false, "only print what would change")
	if action != api.ChangeDelete {
		f.StringVar(&r.Description, "description", "", "why, in one line")
	}
	usage.Exclusive(cmd, "wait", "dry-run")
	usage.Exclusive(cmd, "live", "dry-run")
	return cmd
}

func (e *env) change(ctx context.Context, r api.IntentionChange) error {
	stop := func() {}
	if r.Wait {
		stop = e.progress(ctx, r.Live, r.Source, r.Destination)
	}
	out, err := e.Daemon().ChangeIntention(ctx, r)
	stop()
	if err != nil {
		return err
	}
	e.Warn(out.Warnings)
	if err := e.Print(out, func(w io.Writer) { printChange(w, r, out) }); err != nil {
		return err
	}
	if r.Wait && len(out.Waiting) > 0 {
		return cli.ExitStatus(cli.ExitNo)
	}
	return nil
}

func printChange(w io.Writer, r api.IntentionChange, out *api.ChangeResult) {
	pair := table.OneLine(fmt.Sprintf("%s -> %s", r.Source, r.Destination))
	switch {
	case r.DryRun && verdict(out.Before) == verdict(out.After):
		fmt.Fprintf(w, "dry run: %s stays %s\n", pair, verdict(out.After))
	case r.DryRun:
		fmt.Fprintf(w, "dry run: %s would change from %s to %s\n", pair, verdict(out.Before), verdict(out.After))
	case !out.Applied && !r.Wait:
		fmt.Fprintf(w, "%s: no change, %s\n", pair, verdict(out.After))
	case !r.Wait:
		fmt.Fprintf(w, "%s: %s\n", pair, verdict(out.After))
	}
	printReach(w, r.Wait, r.DryRun, out.LiveAffected, out.Reach)
}

// printReach says what a change cuts, and where it is in force.
func printReach(w io.Writer, wait, dryRun bool, cut int, out api.Reach) {
	if dryRun && cut > 0 {
		fmt.Fprintf(w, "%s would be cut\n", text.Plural(cut, "live connection"))
	} else if cut > 0 {
		fmt.Fprintf(w, "%s cut\n", text.Plural(cut, "live connection"))
	}
	if wait {
		show.Reach(w, "in force", "not in force", out.InForce, out.Counted)
	}
}

func checkTimeout(d time.Duration) error {
	if d <= 0 || d > api.MaxWait {
		return fmt.Errorf("--timeout %s: must be positive and at most %s", d, api.MaxWait)
	}
	return nil
}

// progress prints on standard error, every second until stop is called, which
// nodes a change still waits for.
func (e *env) progress(ctx context.Context, live bool, source, destination api.Name) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		began := time.Now()
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				fmt.Fprintf(e.Stderr, "waiting%s (%s)\n", e.laggards(ctx, live, source, destination), text.Elapsed(time.Since(began)))
			}
		}
	}()
	return func() { cancel(); <-done }
}

// laggards returns " for host3, host4", the nodes that count where the change isn't
// in force; "" when they aren't known.
func (e *env) laggards(ctx context.Context, live bool, source, destination api.Name) string {
	x, err := e.Daemon().ExplainIntention(ctx, source, destination)
	if err != nil {
		return "" // explain takes no *; the change reports its own errors
	}
	var out []api.Name
	for _, n := range x.Nodes {
		if (n.Alive || !live) && !n.InForce {
			out = append(out, n.Name)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return " for " + table.OneLine(text.List(out))
}
