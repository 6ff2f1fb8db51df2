package archtest

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// testName finds the tests that a text names.
var testName = regexp.MustCompile(`\b(?:Test|Fuzz|Example)[A-Z]\w*`)

// TestDifferencesAreTested: each deliberate difference names a test, and every test that COMPATIBILITY.md
// names exists.
func TestDifferencesAreTested(t *testing.T) {
	exists := map[string]bool{}
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && s.test {
				exists[f.Name.Name] = true
			}
		}
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "COMPATIBILITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, differences, found := strings.Cut(string(text), "\n## Deliberate differences\n")
	if !found {
		t.Fatal("COMPATIBILITY.md has no deliberate differences")
	}
	rows := 0
	for line := range strings.Lines(differences) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| ---") || strings.HasPrefix(line, "| stock ") {
			continue
		}
		rows++
		if !testName.MatchString(line) {
			t.Errorf("a difference names no test: %s", line)
		}
	}
	if rows < 40 {
		t.Errorf("only %d differences were found", rows)
	}
	for _, name := range testName.FindAllString(string(text), -1) {
		if !exists[name] {
			t.Errorf("COMPATIBILITY.md names %s, which does not exist", name)
		}
	}
}
