package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tenurelock/tenure/tools/need"
)

// coverage is the table of COVERAGE.md: the programs that use a function or constant of a library.
func coverage(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("COVERAGE.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		name, ok := strings.CutPrefix(strings.TrimSpace(cells[0]), "`")
		if !ok || len(cells) < 2 {
			continue
		}
		for program := range strings.SplitSeq(cells[len(cells)-1], ",") {
			key := strings.TrimSuffix(name, "`")
			rows[key] = append(rows[key], strings.TrimSpace(program))
		}
	}
	return rows
}

// TestCoverage: every function that the libraries have is in COVERAGE.md, and every program that is named
// there uses it and is run by a test.
func TestCoverage(t *testing.T) {
	rows := coverage(t)
	run := map[string]bool{"texts.c": true}
	for _, p := range clientPrograms {
		run[p.source] = true
	}
	for name, programs := range rows {
		for _, program := range programs {
			source, err := os.ReadFile(filepath.Join("testdata", program))
			if err != nil || !run[program] {
				t.Errorf("%s: %q is no program that a test runs: %v", name, program, err)
				continue
			}
			if !uses(string(source), name) {
				t.Errorf("%s does not use %s", program, name)
			}
		}
	}
	wanted := append(declared(t), pythonNames(t)...)
	for _, name := range wanted {
		if rows[name] == nil {
			t.Errorf("COVERAGE.md has no row for %s", name)
		}
		delete(rows, name)
	}
	for name := range rows {
		t.Errorf("COVERAGE.md has a row for %s, which no library has", name)
	}
}

// listsConstants is how client.py prints every constant of its module.
const listsConstants = "for n in sorted(dir(sanlock)) if n.isupper()"

// uses reports whether the source of a program uses a name of its library.
func uses(source, name string) bool {
	if strings.HasPrefix(name, "sanlock_") {
		return regexp.MustCompile(`\b` + name + `\(`).MatchString(source)
	}
	isConstant := strings.ToUpper(name) == name
	return regexp.MustCompile(`\bsanlock\.`+name+`\b`).MatchString(source) ||
		isConstant && strings.Contains(source, listsConstants)
}

var (
	comment     = regexp.MustCompile(`(?s)/\*.*?\*/`)
	declaration = regexp.MustCompile(`\b(sanlock_\w+)\(`)
)

// declared returns the functions that the installed headers declare.
func declared(t *testing.T) []string {
	t.Helper()
	need.Program(t, "cc")
	headers, err := filepath.Glob("/usr/include/sanlock*.h")
	if err != nil || len(headers) == 0 {
		need.Unmet(t, "sanlock", "no headers (libsanlock-dev) on this machine")
	}
	var names []string
	for _, path := range headers {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range declaration.FindAllStringSubmatch(comment.ReplaceAllString(string(text), ""), -1) {
			names = append(names, m[1])
		}
	}
	if len(names) < 40 {
		t.Fatalf("the headers declare only %v", names)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// pythonNames returns what the module of python3-sanlock has.
func pythonNames(t *testing.T) []string {
	t.Helper()
	list := exec.Command(need.Program(t, "python3"), "-c", "import sanlock; print(*dir(sanlock))")
	out, err := list.Output()
	if err != nil {
		need.Unmet(t, "python", "module sanlock is not installed")
	}
	var names []string
	for name := range strings.FieldsSeq(string(out)) {
		if !strings.HasPrefix(name, "_") {
			names = append(names, name)
		}
	}
	return names
}
