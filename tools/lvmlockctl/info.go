package lvmlockctl

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// holder is a client of the daemon, as info tells of it.
type holder struct{ pid, name string }

// printer turns the daemon's lines into those that people read.
type printer struct {
	out     io.Writer
	clients map[string]holder // by id
	spaces  int
	name    string // of the resource whose holders come next
	kind    string
}

// printInfo prints what the info text tells, of both versions.
func printInfo(out io.Writer, text string) {
	p := &printer{out: out, clients: map[string]holder{"0": {"0", "none"}}}
	for line := range strings.Lines(text) {
		p.line(strings.TrimSuffix(line, "\n"))
	}
}

// values are the words of a line, by key.
func values(line string) map[string]string {
	v := map[string]string{}
	words := bufio.NewScanner(strings.NewReader(line))
	words.Split(bufio.ScanWords)
	for words.Scan() {
		key, value, _ := strings.Cut(words.Text(), "=")
		if _, ok := v[key]; !ok {
			v[key] = value
		}
	}
	return v
}

func (p *printer) line(line string) {
	v := values(line)
	switch v["info"] {
	case "structs":
	case "client":
		p.clients[v["id"]] = holder{v["pid"], v["name"]}
	case "ls":
		if p.spaces++; p.spaces > 1 {
			fmt.Fprintln(p.out)
		}
		fmt.Fprintf(p.out, "VG %s lock_type=%s %s\n", v["vg_name"], v["lm_type"], v["vg_uuid"])
		fmt.Fprintf(p.out, "LS %s %s\n", v["lm_type"], v["ls_name"])
	case "ls_action":
		c := p.client(v)
		fmt.Fprintf(p.out, "OP %s pid %s (%s)\n", v["op"], c.pid, c.name)
	case "r":
		p.resource(v)
	case "lk":
		p.lock("LK", p.kind, v)
	case "r_action", "r_fence_wait_action":
		p.lock("LW", v["rt"], v)
	case "blocked":
		p.blocked(v)
	case "":
		if line != "" {
			fmt.Fprintf(p.out, "UN %s\n", line)
		}
	default:
		fmt.Fprintf(p.out, "UN %s\n", line)
	}
}

func (p *printer) client(v map[string]string) holder {
	if c, ok := p.clients[v["client_id"]]; ok {
		return c
	}
	return holder{"0", ""}
}

// resource prints one that nobody holds; of others its holders are printed.
func (p *printer) resource(v map[string]string) {
	p.name, p.kind = v["name"], v["type"]
	if v["mode"] != "un" {
		return
	}
	if p.kind == "lv" {
		fmt.Fprintf(p.out, "LK LV un %s\n", p.name)
		return
	}
	fmt.Fprintf(p.out, "LK %s un ver %s\n", strings.ToUpper(p.kind), v["version"])
}

func (p *printer) lock(what, kind string, v map[string]string) {
	if kind == "lv" {
		fmt.Fprintf(p.out, "%s LV %s %s\n", what, v["mode"], p.name)
		return
	}
	c := p.client(v)
	fmt.Fprintf(p.out, "%s %s %s ver %s pid %s (%s)\n", what, strings.ToUpper(kind), v["mode"], v["version"], c.pid, c.name)
}

// blocked prints who stands in the way of a lock; only our daemon tells.
func (p *printer) blocked(v map[string]string) {
	what := fmt.Sprintf("BL %s %s %s", strings.ToUpper(v["type"]), v["mode"], v["name"])
	if v["by"] != "host" {
		fmt.Fprintf(p.out, "%s waits for pid %s (%s), which holds %s\n", what, v["pid"], v["cmd"], v["holds"])
		return
	}
	fmt.Fprintf(p.out, "%s refused %s times, %s s ago: held by host %s (%s) generation %s, %s", what, v["refused"],
		v["ago_s"], v["owner_host_id"], v["owner_name"], v["owner_generation"], v["owner_state"])
	if s := v["free_in_s"]; s != "" && s != "0" {
		fmt.Fprintf(p.out, ", free in %s s if that host stays away", s)
	}
	fmt.Fprintln(p.out)
}
