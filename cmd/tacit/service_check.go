// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tacit/cmd/tacit/table"
	"tacit/cmd/tacit/text"
	"tacit/cmd/tacit/usage"
	"tacit/node/api"
)

func (e *env) serviceCheck() *cobra.Command {
	var r api.CheckReport
	words := map[string]string{"pass": api.CheckPassing, "warn": api.CheckWarning, "fail": api.CheckCritical}
	cmd := &cobra.Command{
		Use:   "check pass|warn|fail ID",
		Short: "tell the status of a ttl check of this node",
		Long: "Tell the status of a ttl check of this node, by the check's ID, or INSTANCE/ID\n" +
			"where several instances use it. It counts for the check's ttl, and then the check\n" +
			"is critical until the next report. This stands for Consul's HTTP API for ttl checks.",
		Example: "  tacit service check pass service:batch\n" +
			"  tacit service check warn service:batch --note \"took 40 s\"",
		Args: usage.Takes("pass|warn|fail", "ID"), ValidArgs: []string{"pass", "warn", "fail"},
		RunE: func(cmd *cobra.Command, args []string) error {
			var known bool
			if r.Status, known = words[args[0]]; !known {
				return fmt.Errorf("%q: must be pass, warn or fail", args[0])
			}
			r.ID = args[1]
			out, err := e.Daemon().ReportCheck(cmd.Context(), r)
			if err != nil {
				return err
			}
			return e.Print(out, func(w io.Writer) { fmt.Fprintf(w, "%s is %s\n", table.OneLine(out.ID), table.OneLine(out.Status)) })
		},
	}
	cmd.Flags().StringVar(&r.Note, "note", "", "one line of explanation, shown by tacit service show")
	return cmd
}

// printHealthChecks prints two lines or more for each check: its status, and where it
// is defined with the last line of its output.
func (e *env) printHealthChecks(w io.Writer, s *api.Service) {
	t := table.New("CHECK", "INSTANCE", "KIND", "STATUS", "FOR", "LAST RUN")
	var below []string
	for _, i := range s.Instances {
		for _, c := range i.Checks {
			t.Row(c.Name, i.ID, c.Kind, c.Status, text.Elapsed(time.Since(c.Since)), text.Ago(c.Ran))
			below = append(below, c.Source+": "+said(c))
		}
	}
	if len(below) == 0 {
		return
	}
	var rows bytes.Buffer
	t.Print(&rows, e.Width)
	fmt.Fprintln(w)
	for n, row := range strings.Split(strings.TrimSpace(rows.String()), "\n") {
		fmt.Fprintln(w, row)
		if n > 0 {
			e.wrap(w, "  ", below[n-1])
		}
	}
}

func said(c api.HealthCheck) string {
	text := strings.TrimSpace(c.Output)
	if line := text[strings.LastIndexByte(text, '\n')+1:]; line != "" {
		return line
	}
	if c.Ran.IsZero() {
		return "no result yet"
	}
	return "no output"
}

// printSettings names what the service files of this node's instances say, and
// what of it has no meaning.
func (e *env) printSettings(w io.Writer, s *api.Service) {
	var settings, ignored []string
	for _, i := range s.Instances {
		for _, one := range i.Settings {
			settings = append(settings, fmt.Sprintf("%s: %s = %s", one.Source, one.Key, one.Value))
		}
		ignored = append(ignored, i.Ignored...)
	}
	e.printLines(w, "settings:", settings)
	e.printLines(w, "read, but without a meaning here:", ignored)
}

func (e *env) printLines(w io.Writer, title string, lines []string) {
	if len(lines) > 0 {
		fmt.Fprintln(w, "\n"+title)
	}
	for _, line := range lines {
		e.wrap(w, "  ", line)
	}
}

// wrap prints a line in as many as a terminal needs, so that no failure is cut.
func (e *env) wrap(w io.Writer, indent, line string) {
	line = table.OneLine(line)
	if e.Width == 0 {
		fmt.Fprintln(w, indent+line)
		return
	}
	for _, part := range table.Wrap(line, e.Width-len(indent)-2) {
		fmt.Fprintln(w, indent+part)
		indent = "    "
	}
}
