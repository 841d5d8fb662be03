// SPDX-License-Identifier: Apache-2.0

// Package usage says what is wrong with a command line: which argument is missing,
// which values a flag takes, which word was probably meant. It must not ask the daemon.
package usage

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tacit/node/api"
)

// Takes checks the arguments of a command, which are called names in its usage.
func Takes(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return fmt.Errorf("%s is required: %s", names[len(args)], of(cmd))
		}
		if len(args) > len(names) {
			return fmt.Errorf("unexpected argument %.40q: %s", args[len(names)], of(cmd))
		}
		return nil
	}
}

// of is "tacit intention allow SRC DST".
func of(cmd *cobra.Command) string {
	words := strings.Fields(cmd.Use)
	return strings.Join(append([]string{cmd.CommandPath()}, words[1:]...), " ")
}

// FlagError says which values a flag takes, or which flag was meant.
func FlagError(cmd *cobra.Command, err error) error {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		name := unknown.GetSpecifiedName()
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, "--"+f.Name) })
		if unknown.GetSpecifiedShortnames() != "" {
			return fmt.Errorf("unknown flag -%s; see %s --help", name, cmd.CommandPath())
		}
		return fmt.Errorf("unknown flag --%s%s; see %s --help", name, api.Nearest("--"+name, known), cmd.CommandPath())
	}
	if missing, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return fmt.Errorf("--%s needs a value: %s", missing.GetFlag().Name, missing.GetFlag().Usage)
	}
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return fmt.Errorf("--%s %.40s: must be %s", bad.GetFlag().Name, bad.GetValue(), valuesOf(bad.GetFlag()))
	}
	return err
}

// valuesOf describes the values of a flag.
func valuesOf(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "uint16":
		return "1–65535"
	case "int64":
		return "a whole number"
	case "duration":
		return "a duration, such as 30s, 15m or 1h"
	case "bool":
		return "true or false"
	case "stringToString":
		return "KEY=VALUE"
	}
	return "a " + f.Value.Type()
}

// before adds a check that runs before a command, and so before the daemon is asked.
func before(cmd *cobra.Command, check func() error) {
	earlier := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if earlier != nil {
			if err := earlier(cmd, args); err != nil {
				return err
			}
		}
		return check()
	}
}

// Required marks a flag as required; it panics if the command has no such flag.
func Required(cmd *cobra.Command, flag string) {
	if err := cmd.MarkFlagRequired(flag); err != nil { // for completion in a shell
		panic(err)
	}
	before(cmd, func() error {
		if f := cmd.Flags().Lookup(flag); !f.Changed {
			return fmt.Errorf("--%s NAME is required: %s", flag, f.Usage)
		}
		return nil
	})
}

// Exclusive lets only one of the flags be given.
func Exclusive(cmd *cobra.Command, flags ...string) {
	before(cmd, func() error {
		first := ""
		for _, name := range flags {
			switch changed := cmd.Flags().Changed(name); {
			case changed && first != "":
				return fmt.Errorf("--%s and --%s exclude each other: give only one of them", first, name)
			case changed:
				first = name
			}
		}
		return nil
	})
}

// Port is a flag's value: 1 to 65535.
type Port uint16

// String is the port as pflag shows it: none is the default.
func (p *Port) String() string {
	if *p == 0 {
		return ""
	}
	return strconv.Itoa(int(*p))
}

// Type is what pflag calls the value.
func (p *Port) Type() string { return "uint16" }

// Set parses a port.
func (p *Port) Set(text string) error {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return errors.New("must be 1–65535")
	}
	*p = Port(n)
	return nil
}
