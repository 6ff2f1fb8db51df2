package dlm

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurelock/tenure/daemon/lvmlock"
)

// exchange is one system call of the capture.
type exchange struct {
	verb  string // write or read
	bytes []byte
	text  string
}

// capture reads what stock's lvmlockd and the kernel said to each other.
func capture(t *testing.T) []exchange {
	t.Helper()
	f, err := os.Open("testdata/16-dlm-31-strace-dlm-device.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []exchange
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		line := s.Text()
		verb, _, _ := strings.Cut(line, " ")
		switch rest, isHex := strings.CutPrefix(line, "   hex "); {
		case verb == "write" || verb == "read":
			all = append(all, exchange{verb: verb})
		case isHex:
			p, err := hex.DecodeString(strings.ReplaceAll(rest, " ", ""))
			if err != nil {
				t.Fatalf("line %q: %v", line, err)
			}
			all[len(all)-1].bytes = p
		case strings.HasPrefix(line, "   ") && len(all) > 0:
			all[len(all)-1].text += line
		}
	}
	if len(all) < 50 {
		t.Fatalf("found %d system calls: the capture is not understood", len(all))
	}
	return all
}

var field = regexp.MustCompile(`(cmd|mode|flags|lkid|lksb|minor)=(\w+)`)

// saidCommand rebuilds the command from the text beside the capture's bytes.
func saidCommand(t *testing.T, e exchange) command {
	t.Helper()
	verbs := map[string]verb{
		"LOCK": verbLock, "UNLOCK": verbUnlock, "CREATE_LS": verbCreate, "REMOVE_LS": verbRemove,
	}
	var c command
	for _, m := range field.FindAllStringSubmatch(e.text, -1) {
		base := 0
		if m[1] == "lksb" {
			base = 16
		}
		n, err := strconv.ParseUint(m[2], base, 64)
		switch m[1] {
		case "cmd":
			c.Verb, err = verbs[m[2]], nil
		case "mode":
			c.Mode = mode(n)
		case "flags":
			c.Flags = uint32(n)
		case "lkid":
			c.Lock = uint32(n)
		case "lksb":
			c.Cookie = n
		case "minor":
			c.Minor = uint32(n)
		}
		if err != nil {
			t.Fatalf("%q: %v", e.text, err)
		}
	}
	if _, name, ok := strings.Cut(e.text, "name"); ok && c.Lock == 0 && c.Verb != verbRemove {
		c.Name = name[strings.Index(name, "b'")+2 : strings.LastIndex(name, "'")]
	}
	if c.Flags == flagConvert|flagValue {
		c.Value = encodeValue(lvmlock.Value{Version: 12})
	}
	return c
}

// significant blanks what the kernel does not look at: stock leaves its stack in the names of conversions and in
// fields that a verb does not use, has another cookie in castaddr than in lksb, and an old value block on the way up.
func significant(c command, p []byte) []byte {
	p = bytes.Clone(p)
	clear := func(from, to int) {
		for i := from; i < to && i < len(p); i++ {
			p[i] = 0
		}
	}
	switch c.Verb {
	case verbLock, verbUnlock:
		clear(56, 80) // castaddr, bastparam, bastaddr
		if c.Verb == verbUnlock {
			clear(40, 56) // timeout, castparam
		}
		if c.Verb == verbUnlock || c.Flags != flagConvert|flagValue {
			clear(88, 120)
		}
		if c.Lock != 0 {
			p = p[:commandSize]
		}
	case verbRemove:
		p = p[:24]
	}
	return p
}

// TestCapturedCommands makes every command of stock's session anew.
func TestCapturedCommands(t *testing.T) {
	seen := map[verb]int{}
	for _, e := range capture(t) {
		if e.verb != "write" {
			continue
		}
		c := saidCommand(t, e)
		seen[c.Verb]++
		got := c.append(nil)
		if c.Name != "" && len(got) != len(e.bytes) {
			t.Errorf("%s: %d bytes, stock writes %d", e.text, len(got), len(e.bytes))
		}
		if diff := cmp.Diff(significant(c, e.bytes), significant(c, got)); diff != "" {
			t.Errorf("%s (-stock +ours):\n%s", e.text, diff)
		}
		if c.Verb == verbLock && !bytes.Equal(got[56:64], got[80:88]) {
			t.Errorf("%s: the kernel drops results of a lock without castaddr", e.text)
		}
	}
	want := map[verb]int{verbLock: 23, verbUnlock: 3, verbCreate: 2, verbRemove: 2}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("commands of the capture (-want +got):\n%s", diff)
	}
}

// TestCapturedResults reads every answer of the kernel in stock's session.
func TestCapturedResults(t *testing.T) {
	values := 0
	for _, e := range capture(t) {
		if e.verb != "read" {
			continue
		}
		got, err := decodeResult(e.bytes)
		if err != nil {
			t.Errorf("%s: %v", e.text, err)
			continue
		}
		lvb := ""
		if got.HasValue {
			values++
			lvb = hex.EncodeToString(got.Value[:])
		}
		text := fmt.Sprintf("user_lksb=%x sb_status=%d sb_lkid=%d sb_flags=%d bast_mode=%d",
			got.Cookie, got.Status, got.Lock, got.Flags, got.Blocking)
		if !strings.Contains(e.text, text) || !strings.HasSuffix(strings.TrimSpace(e.text), "lvb="+lvb) {
			t.Errorf("got %s lvb=%s, the capture says %s", text, lvb, e.text)
		}
	}
	if values != 17 {
		t.Errorf("%d results had a value block, want 17", values)
	}
}

// TestCommandVectors are bytes that the captured session lacks.
func TestCommandVectors(t *testing.T) {
	const header = "060000000000000002000000"
	for _, test := range []struct {
		name   string
		c      command
		prefix string
		size   int
	}{
		{
			"D1 create",
			command{Verb: verbCreate, Flags: createExclusive, Name: "lvm_global"},
			header + "04010000" + "08000000" + "00000000" + hex.EncodeToString([]byte("lvm_global\x00")), 130,
		},
		{
			"D9 remove",
			command{Verb: verbRemove, Flags: removeForced, Minor: 121},
			header + "05010000" + "02000000" + "79000000", 120,
		},
		{"D8 free", command{Verb: verbUnlock, Lock: 2, Cookie: 9}, header + "02010000" + "00000000" + "00000000" + "02000000", 120},
		{"purge", command{Verb: verbPurge, Node: 2}, header + "06010000" + "02000000" + "00000000", 120},
		{
			"adopt",
			command{Verb: verbLock, Mode: modeEX, Flags: flagPersistent | flagOrphan, Cookie: 1, Name: "u"},
			header + "01010000" + "05010000" + "80400000" + "00000000", 121,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := test.c.append([]byte("before"))[len("before"):]
			if len(got) != test.size {
				t.Errorf("%d bytes, want %d", len(got), test.size)
			}
			if have := hex.EncodeToString(got); !strings.HasPrefix(have, test.prefix) {
				t.Errorf("got  %s\nwant %s", have, test.prefix)
			}
		})
	}
}

func TestValues(t *testing.T) {
	for _, test := range []struct {
		name string
		v    lvmlock.Value
		hex  string
	}{
		{"D6", lvmlock.Value{Version: 12, Set: true}, "010100000c000000"},
		{"removed", lvmlock.Value{Version: 7, Removed: true, Set: true}, "0101010007000000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := encodeValue(test.v)
			if got := hex.EncodeToString(p[:8]); got != test.hex {
				t.Errorf("got %s, want %s", got, test.hex)
			}
			back, err := decodeValue(result{HasValue: true, Value: p})
			if err != nil || back != test.v {
				t.Errorf("read back %+v, %v", back, err)
			}
		})
	}
	if v, err := decodeValue(result{HasValue: true}); err != nil || v != (lvmlock.Value{}) {
		t.Errorf("a block that was never written: %+v, %v", v, err)
	}
	if v, err := decodeValue(result{HasValue: true, Value: [valueSize]byte{0xff, 0x01, 0, 0, 3}}); err != nil || v.Version != 3 {
		t.Errorf("a later minor version: %+v, %v", v, err)
	}
	if v, err := decodeValue(result{HasValue: true, Value: [valueSize]byte{0, 0x02, 0, 0, 3}}); err == nil {
		t.Errorf("a later major version was read as %+v", v)
	}
}

// TestLostValue: a block that went down with its writer is none, whatever bytes come along.
func TestLostValue(t *testing.T) {
	var p []byte
	for _, e := range capture(t) {
		if e.verb == "read" && strings.Contains(e.text, "lvb=01010000") {
			p = bytes.Clone(e.bytes)
		}
	}
	if r, err := decodeResult(p); err != nil || !r.HasValue {
		t.Fatalf("the capture's own: %+v, %v", r, err)
	}
	p[48] |= invalidated
	if r, err := decodeResult(p); err != nil || r.HasValue {
		t.Errorf("got %+v, %v, want no value", r, err)
	}
}

func FuzzDecodeResult(f *testing.F) {
	good := make([]byte, resultSize+valueSize)
	good[0], good[12], good[68] = 6, resultSize+valueSize, resultSize
	f.Add(good)
	f.Add(good[:resultSize])
	f.Add([]byte{})
	for _, at := range []byte{1, 71, 73, 104} {
		bad := bytes.Clone(good)
		bad[68] = at
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := decodeResult(p)
		if err != nil {
			return
		}
		if r.HasValue && (len(p) < resultSize+valueSize || !bytes.Contains(p[resultSize:], r.Value[:])) {
			t.Errorf("a value that was not read: %+v from %x", r, p)
		}
		if v, err := decodeValue(r); err == nil && v.Set && r.Value[1] > 1 {
			t.Errorf("took a value block of version %x for %+v", r.Value[:2], v)
		}
	})
}
