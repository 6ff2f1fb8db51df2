package vmtest

import (
	"path"
	"slices"
	"testing"
)

// brief is what -short keeps of the whole, by test: each kind of loss once, and what only our programs promise.
var brief = map[string][]string{
	"TestTenure": {
		"cut", "freeze", "freeze-i6300esb-check", "freeze-i6300esb-timer", "errors-polite", "errors-stubborn", "hang-polite",
		"hang-stuck", "hang-stuck-i6300esb", "unplug-stuck", "sanlock-killed", "sanlock-stopped", "wdmd-killed", "wdmd-stopped",
		"both-killed",
	},
	"TestTenureSurvives":            {"cut", "hang-stuck"},
	"TestLeasesOverDebianWatchdog":  {"hang-stuck", "wdmd-killed"},
	"TestWatchdogUnderDebianLeases": {"hang-stuck", "sanlock-killed"},
	"TestStoppedClock":              {"pause"},
	"TestOneOfTwoLockspaces":        {"tenure-errors", "tenure-hang"},
	"TestOverlap":                   {"disks", "wdmd"},
}

// inBrief skips a subtest that -short leaves out.
func inBrief(t *testing.T) {
	t.Helper()
	test, scenario := path.Split(t.Name())
	if testing.Short() && !slices.Contains(brief[path.Clean(test)], scenario) {
		t.Skip("left out by -short")
	}
}

// TestBriefIsOfTheWhole: a scenario that is kept by name exists.
func TestBriefIsOfTheWhole(t *testing.T) {
	var all []string
	for _, s := range faults() {
		all = append(all, s.name)
	}
	if slices.Sort(all); len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Errorf("a name twice: %q", all)
	}
	for _, test := range []string{
		"TestTenure", "TestTenureSurvives", "TestLeasesOverDebianWatchdog", "TestWatchdogUnderDebianLeases",
	} {
		if len(brief[test]) == 0 {
			t.Errorf("nothing is left of %s", test)
		}
		for _, name := range brief[test] {
			if !slices.Contains(all, name) {
				t.Errorf("%s keeps %q, which is none of %q", test, name, all)
			}
		}
	}
}
