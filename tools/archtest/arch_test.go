package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

const module = "github.com/tenurelock/tenure/"

// floor is the table of ARCHITECTURE.md: a package may import only packages of a lower floor.
var floor = map[string]int{
	"paxos": 1, "leases": 0, "leases/ondisk": 1, "leases/monotime": 0, "leases/timeouts": 0,
	"watchdog": 0, "daemon/sanlockwire": 1, "daemon/lvmwire": 1, "watchdog/wdmdwire": 0,
	"lockspace/hosts": 2, "watchdog/mux": 2,
	"leases/device": 2, "watchdog/chardev": 2, "watchdog/client": 2, "daemon/client": 2, "daemon/peer": 2,
	"daemon/config": 2, "daemon/place": 2,
	"leases/delta": 3, "leases/resource": 3, "leases/rindex": 4, "leases/device/memdisk": 3,
	"leases/device/faulty": 3, "watchdog/memdog": 2, "watchdog/wdmd": 3, "daemon/lvmlock": 3, "daemon/helper": 3,
	"lockspace": 4, "daemon/lvmlock/native": 4, "daemon/lvmlock/dlm": 4, "daemon/lvmlock/fake": 4,
	"daemon/sanlockd": 5, "daemon/lvmlockd": 5, "daemon/sim": 6,
	"tools/rig/wire": 6, "tools/rig/record": 6, "tools/rig/guest": 7, "tools/rig/vm": 7, "tools/rig/dlmshell": 7,
	"tools/rig": 8, "tools/vmtest": 8,
	"tools/need": 6, "tools/getopt": 6, "tools/archtest": 7,
	"tools/sanlockcli": 7, "tools/wdmdcli": 7, "tools/lvmlockd": 7, "tools/lvmlockctl": 7,
	"tools/interop": 8, "tools/bench": 8, "tools/tenure": 8,
}

// pure packages may import nothing that reaches outside of the process.
var pure = []string{
	"paxos", "leases", "leases/ondisk", "leases/timeouts", "watchdog", "daemon/sanlockwire", "daemon/lvmwire",
	"watchdog/wdmdwire", "lockspace/hosts", "watchdog/mux",
}

// forbidden says what a pure package may not import, and the few exceptions.
var forbidden = []string{"os", "net", "syscall", "log", "golang.org/x/sys", "github.com/rs/zerolog", "math/rand", "unsafe"}

// loggers are the only packages that may import a logger.
var loggers = map[string]bool{
	"lockspace": true, "daemon/sanlockd": true, "daemon/lvmlockd": true, "daemon/helper": true,
	"daemon/lvmlock": true, "watchdog/wdmd": true, "daemon/sim": true, "daemon/lvmlock/native": true, "daemon/lvmlock/dlm": true,
}

type source struct {
	path string // relative to the root, with slashes
	dir  string
	file *ast.File
	set  *token.FileSet
	test bool
}

func sources(t *testing.T) []source {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var all []source
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "bin" || strings.HasPrefix(d.Name(), ".git")) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		all = append(all, source{rel, filepath.ToSlash(filepath.Dir(rel)), f, set, strings.HasSuffix(rel, "_test.go")})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("found only %d Go files: the walk is broken", len(all))
	}
	return all
}

func imports(s source) []string {
	var out []string
	for _, i := range s.file.Imports {
		out = append(out, strings.Trim(i.Path.Value, `"`))
	}
	return out
}

func TestFloors(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		mine, ok := floor[s.dir]
		if !ok {
			t.Errorf("%s: package has no floor; add it here and in ARCHITECTURE.md", s.path)
			continue
		}
		for _, imp := range imports(s) {
			dep, ok := strings.CutPrefix(imp, module)
			if !ok {
				continue
			}
			if theirs, known := floor[dep]; !known || theirs >= mine {
				t.Errorf("%s (floor %d) imports %s (floor %d)", s.path, mine, dep, theirs)
			}
		}
	}
}

func TestPureStaysPure(t *testing.T) {
	isPure := map[string]bool{}
	for _, p := range pure {
		isPure[p] = true
	}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for _, imp := range imports(s) {
			if imp == "C" {
				t.Errorf("%s uses cgo", s.path)
			}
			if isPure[s.dir] {
				for _, bad := range forbidden {
					if imp == bad || strings.HasPrefix(imp, bad+"/") {
						t.Errorf("%s is pure and imports %s", s.path, imp)
					}
				}
			}
			if strings.Contains(imp, "zerolog") && !loggers[s.dir] && !strings.HasPrefix(s.dir, "tools/") {
				t.Errorf("%s imports a logger", s.path)
			}
		}
	}
}

func TestPackageComments(t *testing.T) {
	comments := map[string][]string{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		if _, ok := comments[s.dir]; !ok {
			comments[s.dir] = nil
		}
		if s.file.Doc != nil {
			comments[s.dir] = append(comments[s.dir], s.path)
			first := s.file.Doc.Text()
			if !strings.HasPrefix(first, "Package "+s.file.Name.Name+" ") && !strings.HasPrefix(first, "Command ") {
				t.Errorf("%s: package comment starts %.40q", s.path, first)
			}
		}
	}
	for dir, where := range comments {
		if len(where) != 1 {
			t.Errorf("package %s has %d package comments: %v", dir, len(where), where)
		}
	}
}

// longest is the ratchet: no function may be longer than this many lines, tests included in the second.
const (
	longest     = 70
	longestTest = 120
)

func TestFunctionLength(t *testing.T) {
	type long struct {
		where string
		lines int
	}
	var found []long
	for _, s := range sources(t) {
		limit := longest
		if s.test {
			limit = longestTest
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			lines := s.set.Position(f.End()).Line - s.set.Position(f.Pos()).Line + 1
			if lines > limit {
				found = append(found, long{fmt.Sprintf("%s:%s", s.path, f.Name.Name), lines})
			}
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].lines > found[j].lines })
	for _, f := range found {
		t.Errorf("%s has %d lines", f.where, f.lines)
	}
}

// TestDependencies holds go.mod's direct requirements to the list that ARCHITECTURE.md explains.
func TestDependencies(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	arch, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mod)) {
		fields := strings.Fields(strings.TrimPrefix(line, "require "))
		if len(fields) == 2 && strings.HasPrefix(fields[1], "v") && !strings.Contains(string(arch), fields[0]) {
			t.Errorf("go.mod requires %s, which ARCHITECTURE.md does not explain", fields[0])
		}
		if strings.HasPrefix(line, "replace ") {
			t.Errorf("go.mod replaces a module: %s", line)
		}
	}
}

// TestCommandLineIsAClient: what `sanlock client` does goes through daemon/client, so that whatever it can do
// a program can do too. Its package may not speak to a socket itself, nor reach into a daemon.
func TestCommandLineIsAClient(t *testing.T) {
	asks := false
	for _, s := range sources(t) {
		if s.test || s.dir != "tools/sanlockcli" {
			continue
		}
		for _, imp := range imports(s) {
			asks = asks || imp == module+"daemon/client"
			if imp == "net" || imp == module+"daemon/sanlockd" || imp == module+"lockspace" {
				t.Errorf("%s imports %s; ask by daemon/client", s.path, imp)
			}
		}
	}
	if !asks {
		t.Error("tools/sanlockcli does not import daemon/client: the test looks at the wrong place")
	}
}
