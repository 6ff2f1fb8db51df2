package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// The limits that `bench` holds us to.
const (
	limitStock      = 0.5 // acquire+release, 2000 slots: our median over Debian's
	limitBare       = 1.5 // acquire+release: our median over that of the bare transfers
	limitThroughput = 2.0 // grants per second of 16 clients: ours over Debian's, at least
	limitContention = 1.0 // grants per second of hosts that fight for one lease: ours over Debian's, at least
	limitFairness   = 0.5 // what the client that gets least gets of a fair share, at least
	limitLVLock     = 1.0 // lock and unlock of an LV over Debian's
	limitSearch     = 10  // Debian's search for a slot over ours
	limitJoin       = 2.0 // seconds that 200 joins at once may take longer than one
	limitRSS        = 100 // MB with 200 lockspaces
	limitThreads    = 40  // with 200 lockspaces
)

// row is one measured quantity of one program.
type row struct {
	Section string  `json:"section"`
	What    string  `json:"what"`
	Who     string  `json:"who"`
	Unit    string  `json:"unit"`
	Min     float64 `json:"min"`
	Median  float64 `json:"median"`
	Max     float64 `json:"max"`
	N       int     `json:"n"`
}

// verdict compares a number with a limit.
type verdict struct {
	Section string  `json:"section"`
	What    string  `json:"what"`
	Got     float64 `json:"got"`
	Rule    string  `json:"rule"`
	Pass    bool    `json:"pass"`
}

type report struct {
	Rows     []row     `json:"rows"`
	Verdicts []verdict `json:"verdicts"`
}

// add books values, in any order, and returns their median.
func (r *report) add(section, what, who, unit string, values []float64) float64 {
	v := slices.Clone(values)
	slices.Sort(v)
	if len(v) == 0 {
		return 0
	}
	r.Rows = append(r.Rows, row{section, what, who, unit, v[0], v[len(v)/2], v[len(v)-1], len(v)})
	return v[len(v)/2]
}

// atMost and atLeast book a verdict.
func (r *report) atMost(section, what string, got, limit float64) {
	r.Verdicts = append(r.Verdicts, verdict{section, what, got, fmt.Sprintf("<= %g", limit), got <= limit})
}

func (r *report) atLeast(section, what string, got, limit float64) {
	r.Verdicts = append(r.Verdicts, verdict{section, what, got, fmt.Sprintf(">= %g", limit), got >= limit})
}

// note books a number without a limit.
func (r *report) note(section, what string, got float64) {
	r.Verdicts = append(r.Verdicts, verdict{section, what, got, "", true})
}

func (r *report) kept() bool {
	return !slices.ContainsFunc(r.Verdicts, func(v verdict) bool { return !v.Pass })
}

func (r *report) printJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

func (r *report) printTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	section := ""
	for _, x := range r.Rows {
		if x.Section != section {
			section = x.Section
			fmt.Fprintf(t, "\n%s\t\tmin\tmedian\tmax\tn\n", strings.ToUpper(section))
		}
		fmt.Fprintf(t, "%s, %s\t%s\t%.4g\t%.4g\t%.4g\t%d\n", x.What, x.Unit, x.Who, x.Min, x.Median, x.Max, x.N)
	}
	fmt.Fprintln(t)
	for _, v := range r.Verdicts {
		word := "    "
		if v.Rule != "" {
			word = map[bool]string{true: "PASS", false: "FAIL"}[v.Pass]
		}
		fmt.Fprintf(t, "%s\t%s: %s\t%.3g\t%s\n", word, v.Section, v.What, v.Got, v.Rule)
	}
	return t.Flush()
}
