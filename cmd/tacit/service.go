// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
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

func (e *env) servicesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "services",
		Short: "the catalog: services, their virtual addresses and where they run",
		Example: "  tacit services\n" +
			"  tacit services --json",
		Args: usage.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			services, err := e.Daemon().Services(cmd.Context())
			if err != nil {
				return err
			}
			return e.PrintList("services", services, func(w io.Writer) {
				t := table.New("SERVICE", "ADDRESS", "PORTS", "HEALTHY", "NODES")
				for _, s := range services {
					t.Row(s.Name, text.OrDash(text.Addresses(s.Virtual4)), show.Ports(s), show.Healthy(s), show.Nodes(s))
				}
				t.Print(w, e.Width)
			})
		},
	}
}

func (e *env) serviceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "service",
		Short:   "show, register or deregister a service, or report its health",
		Example: "  tacit service show db",
		Args:    cobra.ArbitraryArgs,
		RunE:    cli.NeedVerb,
	}
	cmd.AddCommand(e.serviceShow(), e.serviceRegister(), e.serviceDeregister(), e.serviceCheck())
	return cmd
}

func (e *env) serviceShow() *cobra.Command {
	return &cobra.Command{
		Use:     "show NAME",
		Short:   "one service with all its instances",
		Example: "  tacit service show db",
		Args:    usage.Takes("NAME"), ValidArgsFunction: e.CompleteServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := e.Daemon().Service(cmd.Context(), api.Name(args[0]))
			if err != nil {
				return err
			}
			return e.Print(s, func(w io.Writer) { e.printService(w, s) })
		},
	}
}

func (e *env) serviceDeregister() *cobra.Command {
	var r api.Deregistration
	cmd := &cobra.Command{
		Use:   "deregister NAME",
		Short: "remove instances of a service that were registered on this node by command",
		Example: "  tacit service deregister db\n" +
			"  tacit service deregister db --id db-2",
		Args: usage.Takes("NAME"), ValidArgsFunction: e.CompleteServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Name = api.Name(args[0])
			out, err := e.Daemon().Deregister(cmd.Context(), r)
			if err != nil {
				return err
			}
			return e.Print(out, func(w io.Writer) {
				fmt.Fprintln(w, "removed:", table.OneLine(text.List(out.Removed)))
				for _, note := range out.Notes {
					fmt.Fprintln(w, table.OneLine(note))
				}
			})
		},
	}
	cmd.Flags().StringVar(&r.ID, "id", "", "only this instance")
	return cmd
}

func (e *env) printService(w io.Writer, s *api.Service) {
	t := table.New()
	t.Field("service", s.Name)
	t.Field("id", s.ID)
	t.Field("addresses", text.Addresses(s.Virtual4, s.Virtual6))
	if !s.Name.IsIngress() {
		t.Field("balance", cmp.Or(s.Balance, "least"))
		t.Field("retry", cmp.Or(s.Retry, "unanswered"))
		show.Resolver(t, s.Resolver)
	}
	t.Print(w, e.Width)
	if len(s.Instances) == 0 {
		return
	}
	fmt.Fprintln(w)
	t = table.New("INSTANCE", "NODE", "ADDRESS", "HEALTHY", "LISTENER", "MODE", "DEFINED IN")
	for _, i := range s.Instances {
		t.Row(i.ID, i.Node, show.Address(i), show.Health(i), text.OrDash(string(i.Listener)), show.Mode(i), text.OrDash(i.Source))
	}
	t.Print(w, e.Width)
	printClientAddresses(w, s.Instances)
	printEjected(w, s.Instances)
	e.printHealthChecks(w, s)
	e.printSettings(w, s)
}

// printClientAddresses prints what the programs here see of their callers, where
// that isn't the default.
func printClientAddresses(w io.Writer, instances []api.Instance) {
	for _, i := range instances {
		if i.ClientAddress != "" && i.ClientAddress != "service" {
			fmt.Fprintf(w, "%s on %s: client_address = %s\n", i.ID, i.Node, i.ClientAddress)
		}
	}
}

func printEjected(w io.Writer, instances []api.Instance) {
	for _, i := range instances {
		if i.Ejected != nil {
			fmt.Fprintf(w, "%s on %s is left out by this node until %s: %d connections in a row failed\n", i.ID, i.Node,
				i.Ejected.Until.Format(time.TimeOnly), i.Ejected.Failures)
		}
	}
}
