// Package getopt reads command lines as the C library's getopt_long does.
//
// Options may be combined ("-id"), carry their value attached ("-ofile", "--file=x") or as the next argument, long ones
// may be cut as long as they stay unique, and what is no option is passed over. Complaints have the library's words,
// which scripts know.
package getopt

import (
	"fmt"
	"iter"
	"strings"
)

// Option is one that a program knows.
type Option struct {
	Letter byte   // 0: there is a long form only
	Name   string // "": there is a short form only
	Valued bool
}

// Found is an option that was given.
type Found struct {
	Option *Option
	Value  string
}

// All returns the options of a command line, args[0] being the program, in their order. At the first one that is
// wrong it yields an error and ends.
func All(args []string, known []Option) iter.Seq2[Found, error] {
	return func(yield func(Found, error) bool) {
		s := &state{args: args, known: known}
		for {
			f, err := s.next()
			if err != nil {
				yield(Found{}, fmt.Errorf("%s: %w", args[0], err))
				return
			}
			if f.Option == nil || !yield(f, nil) {
				return
			}
		}
	}
}

// state is how far a command line was read.
type state struct {
	args  []string
	known []Option
	at    int
	group string // letters of the current argument that are left
}

// next returns the next option, none at the end.
func (s *state) next() (Found, error) {
	if s.group != "" {
		return s.short()
	}
	for s.at++; s.at < len(s.args); s.at++ {
		arg := s.args[s.at]
		if arg == "--" {
			break
		}
		if name, ok := strings.CutPrefix(arg, "--"); ok {
			return s.long(name)
		}
		if len(arg) > 1 && arg[0] == '-' {
			s.group = arg[1:]
			return s.short()
		}
	}
	return Found{}, nil
}

func (s *state) short() (Found, error) {
	letter := s.group[0]
	s.group = s.group[1:]
	for i := range s.known {
		o := &s.known[i]
		if o.Letter != letter || letter == 0 {
			continue
		}
		if !o.Valued {
			return Found{Option: o}, nil
		}
		value := s.group
		s.group = ""
		if value == "" && !s.argument(&value) {
			return Found{}, fmt.Errorf("option requires an argument -- '%c'", letter)
		}
		return Found{o, value}, nil
	}
	return Found{}, fmt.Errorf("invalid option -- '%c'", letter)
}

func (s *state) long(text string) (Found, error) {
	name, value, attached := strings.Cut(text, "=")
	var o *Option
	var all []string
	for i := range s.known {
		k := &s.known[i]
		if k.Name == "" || !strings.HasPrefix(k.Name, name) {
			continue
		}
		if k.Name == name {
			o, all = k, nil
			break
		}
		o = k
		all = append(all, "'--"+k.Name+"'")
	}
	switch {
	case o == nil:
		return Found{}, fmt.Errorf("unrecognized option '--%s'", text)
	case len(all) > 1:
		return Found{}, fmt.Errorf("option '--%s' is ambiguous; possibilities: %s", text, strings.Join(all, " "))
	case !o.Valued && attached:
		return Found{}, fmt.Errorf("option '--%s' doesn't allow an argument", o.Name)
	case o.Valued && !attached && !s.argument(&value):
		return Found{}, fmt.Errorf("option '--%s' requires an argument", o.Name)
	}
	return Found{o, value}, nil
}

// argument takes the next argument, whatever it looks like.
func (s *state) argument(value *string) bool {
	if s.at+1 >= len(s.args) {
		return false
	}
	s.at++
	*value = s.args[s.at]
	return true
}
