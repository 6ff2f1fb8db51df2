package getopt

import (
	"fmt"
	"strings"
	"testing"
)

// TestAsTheLibrary gives command lines that were given to lvmlockd and lvmlockctl 2.03.16.
func TestAsTheLibrary(t *testing.T) {
	known := []Option{
		{'h', "help", false},
		{'T', "test", false},
		{0, "host-id", true},
		{'F', "host-id-file", true},
		{'A', "adopt", true},
		{0, "adopt-file", true},
		{'D', "", false},
	}
	for line, want := range map[string]string{
		"":                       "",
		"-T -D":                  "T D",
		"-TD":                    "T D",
		"extra -T extra":         "T",
		"-- -T":                  "",
		"-":                      "",
		"-A1 -A 0 -TA 1":         "A=1 A=0 T A=1",
		"-A -T":                  "A=-T",
		"--adopt 1":              "A=1",
		"--adopt=1 --adopt-f=/x": "A=1 adopt-file=/x",
		"--te":                   "T",
		"--host-id=":             "host-id=",
		"-Ti":                    "T, then x: invalid option -- 'i'",
		"-A":                     "then x: option requires an argument -- 'A'",
		"--adopt-file":           "then x: option '--adopt-file' requires an argument",
		"--test=1":               "then x: option '--test' doesn't allow an argument",
		"--zzz=3":                "then x: unrecognized option '--zzz=3'",
		"--h": "then x: option '--h' is ambiguous; possibilities: '--help' '--host-id' " +
			"'--host-id-file'",
	} {
		var got []string
		for f, err := range All(append([]string{"x"}, strings.Fields(line)...), known) {
			switch {
			case err != nil:
				got = append(got, fmt.Sprintf("then %v", err))
			case f.Option.Letter != 0 && f.Option.Valued:
				got = append(got, fmt.Sprintf("%c=%s", f.Option.Letter, f.Value))
			case f.Option.Letter != 0:
				got = append(got, string(f.Option.Letter))
			default:
				got = append(got, f.Option.Name+"="+f.Value)
			}
		}
		if s := strings.ReplaceAll(strings.Join(got, " "), " then", ", then"); s != want {
			t.Errorf("%q: %q, want %q", line, s, want)
		}
	}
}
