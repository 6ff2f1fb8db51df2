package config

import (
	"strconv"
	"strings"

	"github.com/tenurelock/tenure/daemon/sanlockwire"
	"github.com/tenurelock/tenure/leases"
)

// line applies one line: KEY = WORD. The key begins in the first column; a value ends at the next blank.
func (c *Config) line(s string) {
	if s == "" || s[0] == '#' || s[0] == '\n' {
		return
	}
	end := strings.IndexAny(s, " \t=\n")
	_, value, ok := strings.Cut(s, "=")
	words := strings.Fields(value)
	if end < 0 || !ok || len(words) == 0 {
		return
	}
	c.set(s[:end], words[0])
}

func (c *Config) set(key, word string) {
	if p := c.number(key); p != nil {
		*p = Atoi(word)
		return
	}
	n := Atoi(word)
	switch key {
	case "kill_grace_seconds":
		c.SetKillGrace(n)
	case "io_timeout":
		setPositive(&c.IOTimeout, n)
	case "watchdog_fire_timeout":
		setPositive(&c.WatchdogFireTimeout, n)
	case "write_init_io_timeout":
		setPositive(&c.WriteInitIOTimeout, n)
	case "max_worker_threads":
		c.SetMaxWorkers(n)
	case "uname":
		c.User = word
	case "gname":
		c.Group = word
	case "our_host_name":
		c.SetHostName(word)
	case "debug_io":
		c.DebugIO = word
	case "debug_cmd":
		c.debugCmd(word)
	case "max_sectors_kb":
		c.maxSectors(word, n)
	}
}

// number returns where a key that takes any number keeps it, or nil.
func (c *Config) number(key string) *int {
	switch key {
	case "quiet_fail":
		return &c.QuietFail
	case "debug_renew":
		return &c.DebugRenew
	case "debug_clients":
		return &c.DebugClients
	case "use_aio":
		return &c.UseAIO
	case "use_watchdog":
		return &c.UseWatchdog
	case "high_priority":
		return &c.HighPriority
	case "mlock_level":
		return &c.MlockLevel
	case "logfile_priority":
		return &c.LogFilePriority
	case "logfile_use_utc":
		return &c.LogFileUTC
	case "syslog_priority":
		return &c.SyslogPriority
	case "names_log_priority":
		return &c.NamesLogPriority
	case "sh_retries":
		return &c.SharedRetries
	case "renewal_read_extend_sec":
		return &c.RenewalReadExtend
	case "renewal_history_size":
		return &c.RenewalHistory
	case "paxos_debug_all":
		return &c.PaxosDebug
	}
	return nil
}

func setPositive(p *int, n int) {
	if n > 0 {
		*p = n
	}
}

// SetKillGrace sets the grace time; a value outside of 0 to 60 seconds is ignored, as in stock.
func (c *Config) SetKillGrace(seconds int) {
	if seconds >= 0 && seconds <= maxKillGrace {
		c.KillGrace, c.KillGraceSet = seconds, true
	}
}

// SetMaxWorkers sets the number of workers, which is at least 2.
func (c *Config) SetMaxWorkers(n int) { c.MaxWorkers = max(n, minWorkers) }

// SetHostName sets the host name, cut to the 47 bytes that all of stock's programs can read.
func (c *Config) SetHostName(s string) { c.OurHostName = s[:min(len(s), leases.NameSize-1)] }

// debugCmd adds (+) or takes away (-) a command, or all of them.
func (c *Config) debugCmd(word string) {
	mask := ^uint64(0)
	if name := word[1:]; name != "all" {
		cmd, ok := sanlockwire.CommandNamed(name)
		if !ok {
			return
		}
		mask = 1 << cmd.Number
	}
	switch word[0] {
	case '+':
		c.DebugCmds |= mask
	case '-':
		c.DebugCmds &^= mask
	}
}

func (c *Config) maxSectors(word string, kb int) {
	switch {
	case word == "ignore":
		c.MaxSectors = MaxSectors{Ignore: true}
	case word == "align":
		c.MaxSectors = MaxSectors{Align: true}
	case kb >= 2 && kb <= maxMaxSectors && kb%2 == 0:
		c.MaxSectors = MaxSectors{KB: kb}
	}
}

// Atoi reads a number as C's atoi does: blanks, an optional sign and leading digits; anything else is 0. Of
// what does not fit 32 bits the lowest are left, as glibc has it: 2147483648 is the most negative number.
func Atoi(s string) int {
	s = strings.TrimLeft(s, " \t\n\v\f\r")
	n := 0
	if n < len(s) && (s[n] == '-' || s[n] == '+') {
		n++
	}
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	v, _ := strconv.ParseInt(s[:n], 10, 64) // without digits 0, beyond 64 bits the nearest
	return int(int32(v))
}
