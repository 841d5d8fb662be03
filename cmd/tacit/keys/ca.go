// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"tacit/cmd/tacit/cli"
	"tacit/cmd/tacit/usage"
	"tacit/node/api"
)

func (e *env) caCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "take the root key off this machine",
		Long: "The root key signs for operators and authorities, and nothing works without trust in\n" +
			"it. No daemon needs it once the mesh is made: keep it offline.",
		Example: "  tacit ca export-root /media/usb/root.key",
		Args:    cobra.ArbitraryArgs,
		RunE:    cli.NeedVerb,
	}
	cmd.AddCommand(e.exportRoot(), e.forgetRoot())
	return cmd
}

func (e *env) exportRoot() *cobra.Command {
	return &cobra.Command{
		Use:   "export-root FILE|-",
		Short: "move the root key to a file",
		Long: "Write the root key to a new file that only its owner can read, compare the file, and\n" +
			"then remove the key from this machine. With -, print it and remove nothing: once the\n" +
			"copy is safe, tacit ca forget-root removes the key.",
		Example: "  tacit ca export-root /media/usb/root.key\n" +
			"  tacit ca export-root - | age -r RECIPIENT > root.key.age",
		Args: usage.Takes("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root, err := e.Daemon().ExportRoot(cmd.Context(), api.RootExport{})
			if err != nil {
				return err
			}
			if args[0] == "-" {
				_, err := io.WriteString(e.Stdout, root.PEM)
				fmt.Fprintln(e.Stderr, "the root key is still on this machine: tacit ca forget-root FILE removes it where FILE is its copy")
				return err
			}
			if err := writeNew(args[0], root.PEM); err != nil {
				return err
			}
			return e.forget(cmd, args[0])
		},
	}
}

func (e *env) forgetRoot() *cobra.Command {
	return &cobra.Command{
		Use:   "forget-root FILE|-",
		Short: "remove the root key from this machine, of which FILE is a copy",
		Example: "  tacit ca forget-root /media/usb/root.key\n" +
			"  tacit ca forget-root - < /media/usb/root.key",
		Args: usage.Takes("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error { return e.forget(cmd, args[0]) },
	}
}

// forget reads the copy back, and has the daemon compare it and remove its own.
func (e *env) forget(cmd *cobra.Command, file string) error {
	text, err := e.read(file)
	if err != nil {
		return err
	}
	r, err := e.Daemon().DropRoot(cmd.Context(), api.RootCopy{PEM: text})
	if err != nil {
		return err
	}
	return e.Print(r, func(w io.Writer) {
		fmt.Fprintf(w, "the root key %s is no longer on this machine; its copy is %s\n", r.ID[:12], file)
		fmt.Fprintln(w, "keep it offline, twice: it is needed to restore operators (--root-key)")
	})
}

// writeNew never overwrites a file: it could be the only copy of another key.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}
