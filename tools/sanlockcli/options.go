package sanlockcli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/tenurelock/tenure/daemon/config"
	"github.com/tenurelock/tenure/daemon/sanlockwire"
)

// Program is which of sanlock's three programs a command line asks for.
type Program uint8

// The programs.
const (
	Client Program = iota
	Daemon
	Direct
)

// Options is a command line taken apart. Every option is accepted with every action; those that an action has
// no use for are ignored, as in stock.
type Options struct {
	Program Program
	Action  string // of client and direct
	Area    string // PATH[:OFFSET[:SIZE]] behind direct dump and next_free, as written
	Debug   bool   // -D

	// Config is the configuration file, changed by the options that have a key there.
	Config config.Config

	Lockspace sanlockwire.Lockspace  // -s
	Resources []sanlockwire.Resource // -r, up to 8
	Rindex    sanlockwire.Rindex     // -x
	Entry     sanlockwire.REntry     // -e of the actions on a resource index

	Sort       string   // -o of status
	ShowHosts  bool     // -h of gets and read
	All        bool     // -a of release
	Wait       bool     // -w of shutdown
	WaitNumber int      // the same as it was written
	Force      int      // -f
	Clear      bool     // -z, with any value
	Orphan     Toggle   // -O
	Used       Toggle   // -u
	Persistent bool     // -P
	PID        int      // -p, -1 if not given
	NumHosts   int      // -n
	MaxHosts   int      // -m
	HostID     uint64   // -i
	Generation uint64   // -g of client and direct
	HostName   string   // -e, elsewhere than on a resource index
	Event      uint64   // the same as a number, 0x… and 0… included
	EventData  uint64   // -d
	File       string   // -F
	SectorSize int      // -Z, bytes; 0 if not given
	AlignSize  int      // -A, bytes; 0 if not given
	Command    []string // -c: the program and all that follows it
}

// Toggle is an option that may be left out, switched off or switched on.
type Toggle uint8

// The positions of a Toggle.
const (
	Unset Toggle = iota
	Off
	On
)

// IOTimeout returns -o, or what the configuration file has, in seconds.
func (o *Options) IOTimeout() uint32 { return uint32(o.Config.IOTimeout) }

// SizeFlags returns -Z and -A as the protocol's flags.
func (o *Options) SizeFlags() uint32 {
	var flags uint32
	switch o.SectorSize {
	case 512:
		flags |= sanlockwire.Sector512
	case 4096:
		flags |= sanlockwire.Sector4K
	}
	switch o.AlignSize {
	case 1 << 20:
		flags |= sanlockwire.Align1M
	case 2 << 20:
		flags |= sanlockwire.Align2M
	case 4 << 20:
		flags |= sanlockwire.Align4M
	case 8 << 20:
		flags |= sanlockwire.Align8M
	}
	return flags
}

var (
	clientActions = []string{
		"status", "gets", "host_status", "renewal", "set_event", "set_config", "log_dump", "shutdown", "init",
		"write", "read", "add_lockspace", "inq_lockspace", "rem_lockspace", "command", "acquire", "convert",
		"release", "inquire", "request", "examine", "align", "version", "format", "create", "delete", "lookup", "update",
		"rebuild",
	}
	rindexActions = []string{"format", "create", "delete", "lookup", "update", "rebuild"}
	directActions = []string{
		"init", "dump", "next_free", "read_leader", "write_leader", "acquire", "release", "acquire_id", "renew_id",
		"release_id", "format", "lookup", "update", "rebuild",
	}
)

// parser goes through the arguments from left to right.
type parser struct {
	o    *Options
	rest []string
	out  io.Writer
	bad  bool
}

// parseArgs takes a command line apart, without the program's name. When the second result counts, because
// the third is false, everything is said already and it is the exit code.
func parseArgs(args []string, file config.Config, out io.Writer) (*Options, int, bool) {
	p := &parser{o: &Options{Config: file, PID: -1}, rest: args, out: out}
	if !p.program() {
		return nil, 1, false
	}
	for len(p.rest) > 0 && !p.bad {
		p.option()
	}
	if p.bad || !p.sizes() {
		return nil, 1, false
	}
	return p.o, 0, true
}

func (p *parser) next() (string, bool) {
	if len(p.rest) == 0 {
		return "", false
	}
	s := p.rest[0]
	p.rest = p.rest[1:]
	return s, true
}

// program takes the words before the options.
func (p *parser) program() bool {
	word, _ := p.next()
	actions, kind := clientActions, "client"
	switch word {
	case "daemon":
		p.o.Program = Daemon
		return true
	case "direct":
		p.o.Program, actions, kind = Direct, directActions, "direct"
		fallthrough
	case "client":
		var ok bool
		if word, ok = p.next(); !ok {
			fmt.Fprint(p.out, usage)
			return false
		}
	}
	if !slices.Contains(actions, word) {
		fmt.Fprintf(p.out, "%s action \"%s\" is unknown\n", kind, word)
		return false
	}
	p.o.Action = word
	if p.o.Program == Direct && (word == "dump" || word == "next_free") {
		var ok bool
		p.o.Area, ok = p.next()
		return ok
	}
	return true
}

func (p *parser) complain(format string, args ...any) {
	fmt.Fprintf(p.out, format+"\n", args...)
	p.bad = true
}

// option takes one option and its value. Options have exactly two characters.
func (p *parser) option() {
	word, _ := p.next()
	if len(word) != 2 || word[0] != '-' {
		p.complain("unknown option %s\nspace required before option value", word)
		return
	}
	letter := word[1]
	if letter == 'D' {
		p.o.Debug = true
		return
	}
	value, ok := p.next()
	if !ok {
		p.complain("option '%c' requires arg", letter)
		return
	}
	if letter == 'c' {
		p.o.Command = append([]string{value}, p.rest...)
		p.rest = nil
		return
	}
	for _, set := range []func(byte, string) bool{p.lease, p.overloaded, p.plain, p.daemon} {
		if set(letter, value) {
			return
		}
	}
	p.complain("unknown option: %c", letter)
}

// lease sets the options that name leases.
func (p *parser) lease(letter byte, value string) bool {
	switch letter {
	case 's':
		p.o.Lockspace.Set(value)
	case 'r':
		p.resource(value)
	case 'x':
		p.o.Rindex.Set(value)
	case 'Z':
		p.o.SectorSize = config.Atoi(value)
	case 'A':
		switch value {
		case "1M", "2M", "4M", "8M":
			p.o.AlignSize = int(value[0]-'0') << 20
		}
	default:
		return false
	}
	return true
}

func (p *parser) resource(value string) {
	if len(p.o.Resources) == sanlockwire.MaxResources {
		p.complain("resource args over max %d", sanlockwire.MaxResources)
		return
	}
	r, err := sanlockwire.ParseResource(value)
	if err != nil {
		p.complain("resource arg parse error %d\n", number(err))
		return
	}
	p.o.Resources = append(p.o.Resources, r)
}

// overloaded sets the options whose meaning depends on the action.
func (p *parser) overloaded(letter byte, value string) bool {
	o, n := p.o, config.Atoi(value)
	isClient := o.Program == Client
	switch letter {
	case 'h':
		if isClient && (o.Action == "gets" || o.Action == "read") {
			o.ShowHosts = n != 0
		} else {
			o.Config.HighPriority = n
		}
	case 'o':
		switch {
		case isClient && o.Action == "status":
			o.Sort = value
		case n > 0:
			o.Config.IOTimeout = n
		}
	case 'w':
		if isClient && o.Action == "shutdown" {
			o.Wait, o.WaitNumber = n != 0, n
		} else {
			o.Config.UseWatchdog = n
		}
	case 'a':
		o.All = n != 0
		o.Config.UseAIO = min(max(n, -n), 1)
	case 'g':
		if o.Program == Daemon {
			o.Config.SetKillGrace(n)
		} else {
			o.Generation = unsigned(value)
		}
	case 'e':
		if o.Program != Daemon && slices.Contains(rindexActions, o.Action) {
			o.Entry.Set(value)
		} else {
			o.HostName, o.Event = value, unsigned(value)
			o.Config.SetHostName(value)
		}
	default:
		return false
	}
	return true
}

// plain sets the other options of client and direct.
func (p *parser) plain(letter byte, value string) bool {
	o, n := p.o, config.Atoi(value)
	switch letter {
	case 'f':
		o.Force = int(int32(unsigned(value)))
	case 'z':
		o.Clear = true
	case 'O':
		o.Orphan = toggle(n)
	case 'u':
		o.Used = toggle(n)
	case 'P':
		o.Persistent = n != 0
	case 'p':
		o.PID = n
	case 'n':
		o.NumHosts = n
	case 'm':
		o.MaxHosts = n
	case 'i':
		o.HostID = unsigned(value)
	case 'd':
		o.EventData = unsigned(value)
	case 'F':
		o.File = value
	default:
		return false
	}
	return true
}

// daemon sets the options that have a key in the configuration file.
func (p *parser) daemon(letter byte, value string) bool {
	c, n := &p.o.Config, config.Atoi(value)
	switch letter {
	case 'Q':
		c.QuietFail = n
	case 'R':
		c.DebugRenew = n
	case 'H':
		c.RenewalHistory = n
	case 'L':
		c.LogFilePriority = n
	case 'S':
		c.SyslogPriority = n
	case 'U':
		c.User = value
	case 'G':
		c.Group = value
	case 't':
		c.SetMaxWorkers(n)
	case 'l':
		c.MlockLevel = n
	case 'b':
		c.BitmapSeconds = n
	default:
		return false
	}
	return true
}

func toggle(n int) Toggle {
	if n != 0 {
		return On
	}
	return Off
}

// unsigned reads a number as C's strtoull does with base 0: 0x… is hexadecimal, 0… octal, a minus wraps
// around, and what follows the digits is ignored.
func unsigned(s string) uint64 {
	s = strings.TrimLeft(s, " \t\n\v\f\r")
	minus := strings.HasPrefix(s, "-")
	if minus || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	base, digits := 10, "0123456789"
	switch {
	case strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X"):
		s, base, digits = s[2:], 16, "0123456789abcdefABCDEF"
	case strings.HasPrefix(s, "0"):
		base, digits = 8, "01234567"
	}
	n := len(s) - len(strings.TrimLeft(s, digits))
	v, err := strconv.ParseUint(s[:n], base, 64) // no digits are 0, too many the largest
	if minus && !errors.Is(err, strconv.ErrRange) {
		return -v
	}
	return v
}

// sizes checks -Z and -A against what a lease can have. -Z alone passes, as in stock: the daemon refuses it.
func (p *parser) sizes() bool {
	sector, align := p.o.SectorSize, p.o.AlignSize
	ok := align == 0 || sector == 4096 || sector == 512 && align == 1<<20
	if !ok {
		fmt.Fprintf(p.out, "Invalid sector_size/align_size combination (%d/%d)\n", sector, align)
		fmt.Fprintln(p.out, "Use one of: 512/1M, 4096/1M, 4096/2M, 4096/4M, 4096/8M.")
	}
	return ok
}
