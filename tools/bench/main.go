package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// config is the command line.
type config struct {
	tenure, stock string
	json          bool
	only          string
}

// section is one of the measurements.
type section struct {
	name string
	run  func(*bench) error
}

var sections = []section{
	{"acquire", (*bench).acquireSection},
	{"throughput", (*bench).throughputSection},
	{"contention", (*bench).contentionSection},
	{"many", (*bench).manySection},
	{"vglocks", (*bench).vglocksSection},
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit code: 0, 1 when a limit is not kept or the benchmark could not run, 2 for a wrong
// command line.
func run(args []string, stdout, stderr io.Writer) int {
	var c config
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&c.tenure, "tenure", "bin/tenure", "our `program`")
	flags.StringVar(&c.stock, "stock", "/usr/sbin/sanlock", "Debian's `program`")
	flags.BoolVar(&c.json, "json", false, "print JSON in place of the table")
	flags.StringVar(&c.only, "only", "", "comma separated `sections`: "+names())
	if err := flags.Parse(args); err != nil {
		return 2
	}
	r, err := measure(c, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	if c.json {
		err = r.printJSON(stdout)
	} else {
		err = r.printTable(stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	if !r.kept() {
		return 1
	}
	return 0
}

func names() string {
	var all []string
	for _, s := range sections {
		all = append(all, s.name)
	}
	return strings.Join(all, ",")
}

// bench is what the sections share.
type bench struct {
	config
	dir      string // for sockets, images and logs
	report   *report
	progress io.Writer
}

// measure runs the sections in a directory of its own, which it removes.
func measure(c config, progress io.Writer) (r *report, err error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	defer func() {
		if rm := os.RemoveAll(dir); err == nil {
			err = rm
		}
	}()
	if c.tenure, err = filepath.Abs(c.tenure); err != nil {
		return nil, err
	}
	b := &bench{config: c, dir: dir, report: &report{}, progress: progress}
	for _, s := range sections {
		if c.only != "" && !strings.Contains(","+c.only+",", ","+s.name+",") {
			continue
		}
		if err := s.run(b); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return b.report, nil
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, format+"\n", args...)
}
