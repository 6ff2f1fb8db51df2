package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestRunPicksTheProgram(t *testing.T) {
	for _, c := range []struct {
		name     string
		args     []string
		code     int
		out, err string // what must be in stdout and stderr
	}{
		{"by link", []string{"/usr/sbin/wdmd", "-V"}, 0, "wdmd version 3.8.5", ""},
		{"by argument", []string{"tenure", "lvmlockctl"}, 0, "lvmlockctl options", ""},
		{"link wins over argument", []string{"lvmlockd", "demo", "-V"}, 0, "lvmlockd version: ", ""},
		{"usage", []string{"tenure"}, 0, "programs (also by a link", ""},
		{"help", []string{"tenure", "--help"}, 0, "sanlock", ""},
		{"unknown", []string{"tenure", "frob"}, 1, "", `no command "frob"`},
		{"version", []string{"tenure", "version"}, 0, "tenure ", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, err bytes.Buffer
			if got, want := run(c.args, &out, &err), c.code; got != want {
				t.Errorf("exit code %d, want %d", got, want)
			}
			if !strings.Contains(out.String(), c.out) {
				t.Errorf("stdout %q has no %q", out.String(), c.out)
			}
			if !strings.Contains(err.String(), c.err) {
				t.Errorf("stderr %q has no %q", err.String(), c.err)
			}
		})
	}
}
