// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"tacit/cmd/tacit/cli"
	"tacit/cmd/tacit/show"
	"tacit/cmd/tacit/table"
	"tacit/cmd/tacit/text"
	"tacit/cmd/tacit/usage"
	"tacit/node/api"
)

// registration is an api.Registration and the flags that are parsed into it.
type registration struct {
	api.Registration
	upstreams []string
	uid       int64
}

func (e *env) serviceRegister() *cobra.Command {
	var r registration
	cmd := &cobra.Command{
		Use:   "register NAME",
		Short: "register an instance of a service on this node",
		Long: "Register an instance of a service on this node; it stays until deregistered.\n" +
			"Without a workload flag, the workload is the processes of `tacit run NAME` and of\n" +
			"the unit NAME.service. The port then refuses plain connections; existing ones\n" +
			"are cut and listed. Your own session is never cut. If it uses the port, --yes is\n" +
			"needed, since your next session will be refused. --yes also puts a definition\n" +
			"from a service file in force that waits for it (tacit status).",
		Example: "  tacit service register db --port 5432 --systemd-unit postgresql.service\n" +
			"  tacit service register web --port 8080 --upstream db=5432",
		Args: usage.Takes("NAME"), ValidArgsFunction: e.CompleteServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := r.parse(args[0], cmd.Flags().Changed("uid")); err != nil {
				return err
			}
			if r.Timeout <= 0 || r.Timeout > api.MaxWait {
				return fmt.Errorf("--timeout %s: must be positive and at most %s", r.Timeout, api.MaxWait)
			}
			if r.Wait = r.Wait || r.Live; !r.Wait {
				r.Timeout = 0
			}
			out, err := e.Daemon().Register(cmd.Context(), r.Registration)
			if err != nil {
				return err
			}
			e.Warn(out.Warnings)
			if err := e.Print(out, func(w io.Writer) { printRegistered(w, out) }); err != nil {
				return err
			}
			if out.Spread != nil && len(out.Spread.Waiting) > 0 {
				return cli.ExitStatus(cli.ExitNo)
			}
			return nil
		},
	}
	r.bind(cmd)
	return cmd
}

func (r *registration) bind(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Var((*usage.Port)(&r.Port), "port", "port that the program listens on; none if it only calls others")
	f.StringVar(&r.ID, "id", "", "id of the instance on this node (default the name)")
	f.StringVar(&r.Address, "address", "", "IP address of the instance (default the node's)")
	f.StringSliceVar(&r.Tags, "tag", nil, "a tag; repeatable")
	f.StringToStringVar(&r.Meta, "meta", nil, "key=value; repeatable")
	f.StringVar(&r.Workload.Cgroup, "cgroup", "", "workload: a cgroup, by path")
	f.StringVar(&r.Workload.SystemdUnit, "systemd-unit", "", "workload: a systemd unit")
	f.StringVar(&r.Workload.Container, "container", "", "workload: a container, by id")
	f.StringVar(&r.Workload.NetNS, "netns", "", "workload: a network namespace, by name or path")
	f.StringVar(&r.Workload.Interface, "interface", "", "workload: a guest, by the host's interface that leads only to it")
	f.Int64Var(&r.uid, "uid", 0, "workload: every process of a user, by number")
	f.StringSliceVar(&r.upstreams, "upstream", nil, "NAME=PORT or NAME=ADDRESS:PORT: local port for a service; repeatable")
	f.StringSliceVar(&r.Outside, "outside", nil, "host or address outside of the mesh that the service is; repeatable")
	f.BoolVar(&r.Anywhere, "reach-any", false, "with --outside: each node connects by itself, not only this one")
	f.BoolVar(&r.Permissive, "permissive", false, "accept plain connections to the port as well, during a migration")
	f.StringVar(&r.ClientAddress, "client-address", "", "what programs see: service, client, loopback, proxy_protocol")
	f.BoolVar(&r.Yes, "yes", false, "register even if the port carries your own session")
	f.BoolVar(&r.Wait, "wait", false, "return when every member resolves the service")
	f.BoolVar(&r.Live, "live", false, "like --wait, for the members that answer")
	f.DurationVar(&r.Timeout, "timeout", api.DefaultWait, "how long --wait and --live wait")
	usage.Exclusive(cmd, "cgroup", "systemd-unit", "container", "netns", "interface", "uid")
}

func (r *registration) parse(name string, uidGiven bool) error {
	r.Name = api.Name(name)
	if uidGiven {
		if r.uid < 0 || r.uid >= 1<<32-1 { // 2^32-1 is no valid user ID
			return fmt.Errorf("--uid %d: must be 0 to %d", r.uid, uint32(1<<32-2))
		}
		uid := uint32(r.uid)
		r.Workload.UID = &uid
	}
	for _, text := range r.upstreams {
		u, err := usage.Upstream(text)
		if err != nil {
			return fmt.Errorf("--upstream %q: %w", text, err)
		}
		r.Upstreams = append(r.Upstreams, u)
	}
	return nil
}

func printRegistered(w io.Writer, r *api.RegisterResult) {
	fmt.Fprintf(w, "registered %s", r.Service.Name)
	if a := text.Addresses(r.Service.Virtual4, r.Service.Virtual6); a != "" {
		fmt.Fprintf(w, ", reached at %s", a)
	}
	fmt.Fprintln(w)
	if r.GrantSigned {
		fmt.Fprintf(w, "granted %s to this node with its operator key\n", r.Service.Name)
	}
	if s := r.Spread; s != nil {
		show.Reach(w, "resolves", "doesn't resolve", s.Resolves, s.Counted)
	}
	for _, note := range r.Notes {
		fmt.Fprintln(w, table.OneLine(note))
	}
}
