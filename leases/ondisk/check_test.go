package ondisk

import (
	"errors"
	"strings"
	"testing"

	"github.com/tenurelock/tenure/leases"
)

func kindOf(err error) leases.Kind {
	if f, ok := errors.AsType[*FormatError](err); ok {
		return f.KindOf()
	}
	return leases.Other
}

// TestChecks breaks one record in two ways at a time: the break that stock tests first must be the one that
// is reported. The breaks are listed in stock's order.
func TestChecks(t *testing.T) {
	space, resource := leases.NameOf("LS1"), leases.NameOf("RES1")
	g := Geometry{512, MiB}
	type breaking struct {
		kind leases.Kind
		do   func(l *Leader)
	}
	resum := func(l *Leader) { l.Checksum = l.Sum() }
	head := []breaking{
		{leases.BadMagic, func(l *Leader) { l.Magic++ }},
		{leases.BadVersion, func(l *Leader) { l.Version += 1 << 16 }},
		{leases.WrongSpace, func(l *Leader) { l.SpaceName[3] = 'x' }},
	}
	tail := breaking{leases.BadChecksum, func(l *Leader) { l.Unused1++ }}
	delta := append(head[:3:3], tail)
	paxos := append(head[:3:3],
		breaking{leases.WrongResource, func(l *Leader) { l.ResourceName[0] = 0 }},
		breaking{leases.BadNumHosts, func(l *Leader) { l.NumHosts = 6 }},
		tail)
	for _, tt := range []struct {
		name   string
		good   Leader
		breaks []breaking
		check  func(l *Leader) error
	}{
		{"delta", NewDelta(g, space, 2), delta, func(l *Leader) error { return l.CheckDelta(space) }},
		{"paxos", NewPaxos(g, space, resource, 0), paxos, func(l *Leader) error {
			return l.CheckPaxos(space, resource, 7)
		}},
	} {
		resum(&tt.good)
		if err := tt.check(&tt.good); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		for i, first := range tt.breaks {
			for _, second := range tt.breaks[i:] {
				l := tt.good
				first.do(&l)
				if first.kind != leases.BadChecksum && second.kind != leases.BadChecksum {
					resum(&l)
				}
				second.do(&l)
				if got := kindOf(tt.check(&l)); got != first.kind {
					t.Errorf("%s with kinds %v and %v broken: kind %v", tt.name, first.kind, second.kind, got)
				}
			}
		}
	}
}

func TestChecksAcceptWhatStockAccepts(t *testing.T) {
	space, resource := leases.NameOf("LS1"), leases.NameOf("RES1")
	for name, change := range map[string]func(l *Leader){
		"larger minor":   func(l *Leader) { l.Version += 5 },
		"unknown flags":  func(l *Leader) { l.Flags |= 0x8000 },
		"space tail":     func(l *Leader) { l.SpaceName[40] = 'x' },
		"resource tail":  func(l *Leader) { l.ResourceName[40] = 'x' },
		"reserved bytes": func(l *Leader) { l.Reserved[7] = 1 },
	} {
		l := NewPaxos(Geometry{512, MiB}, space, resource, 0)
		change(&l)
		var sector [512]byte
		l.Encode(sector[:])
		got, err := DecodeLeader(sector[:])
		if err != nil || got != l {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, l)
		}
		if err := got.CheckPaxos(space, resource, 2000); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := got.CheckPaxos(leases.Name{}, leases.Name{}, 0); err != nil {
			t.Errorf("%s, no names asked for: %v", name, err)
		}
	}
}

func TestCheckCleared(t *testing.T) {
	space, resource := leases.NameOf("LS1"), leases.NameOf("RES1")
	l, err := DecodeLeader(ClearResource(Geometry{512, MiB}, space, resource, 0, 77))
	if err != nil || l.WriteTimestamp != 77 {
		t.Errorf("%+v, %v", l, err)
	}
	err = l.CheckPaxos(space, resource, 1)
	if got, want := kindOf(err), leases.BadMagic; got != want || !strings.Contains(err.Error(), "cleared") {
		t.Errorf("kind %v, want %v: %v", got, want, err)
	}
}

func TestCheckSane(t *testing.T) {
	for name, change := range map[string]func(l *Leader){
		"sector size":       func(l *Leader) { l.SectorSize = 1024 },
		"align":             func(l *Leader) { l.Flags = 0x20 },
		"max_hosts 0":       func(l *Leader) { l.MaxHosts = 0 },
		"max_hosts":         func(l *Leader) { l.MaxHosts = 2001 },
		"num_hosts 0":       func(l *Leader) { l.NumHosts = 0 },
		"num_hosts":         func(l *Leader) { l.NumHosts = 3000 },
		"owner nobody":      func(l *Leader) { l.Timestamp = 5 },
		"owner out of area": func(l *Leader) { l.Timestamp, l.OwnerID = 5, 2001 },
		"writer":            func(l *Leader) { l.WriteID = 1 << 40 },
		"unknown flag":      func(l *Leader) { l.Flags |= 0x100 },
	} {
		l := NewPaxos(Geometry{512, MiB}, leases.NameOf("s"), leases.NameOf("r"), 0)
		if err := l.CheckSane(); err != nil {
			t.Error(err)
		}
		change(&l)
		if got, want := kindOf(l.CheckSane()), leases.Corrupt; got != want {
			t.Errorf("%s: kind %v, want %v", name, got, want)
		}
	}
}

func TestCheckHostBlock(t *testing.T) {
	good := HostBlock{DBlock: DBlock{MBal: 7, LVer: 1}}
	odd, empty := DBlock{Inp2: 1, Inp3: 2}, DBlock{Checksum: 0xcb5ad842}
	good.Checksum = good.Sum()
	for _, tt := range []struct {
		name   string
		change func(b *HostBlock)
		want   leases.Kind
	}{
		{"good", func(*HostBlock) {}, leases.Other},
		{"flags and mode are not summed", func(b *HostBlock) { b.Flags, b.Mode.Flags = 5, 7 }, leases.Other},
		{"never used", func(b *HostBlock) { *b = HostBlock{} }, leases.Other},
		{"never used, odd values", func(b *HostBlock) { *b = HostBlock{DBlock: odd} }, leases.Other},
		{"used, mbal", func(b *HostBlock) { *b = HostBlock{DBlock: DBlock{MBal: 1}} }, leases.BlockChecksum},
		{"used, bal", func(b *HostBlock) { *b = HostBlock{DBlock: DBlock{Bal: 1}} }, leases.BlockChecksum},
		{"used, inp", func(b *HostBlock) { *b = HostBlock{DBlock: DBlock{Inp: 1}} }, leases.BlockChecksum},
		{"used, lver", func(b *HostBlock) { *b = HostBlock{DBlock: DBlock{LVer: 1}} }, leases.BlockChecksum},
		{"used and empty", func(b *HostBlock) { *b = HostBlock{DBlock: empty} }, leases.Other},
		{"checksum", func(b *HostBlock) { b.Checksum++ }, leases.BlockChecksum},
		{"sum missing", func(b *HostBlock) { b.Checksum = 0 }, leases.BlockChecksum},
		{"inp3", func(b *HostBlock) { b.Inp3++ }, leases.BlockChecksum},
	} {
		b := good
		tt.change(&b)
		if got := kindOf(b.Check()); got != tt.want {
			t.Errorf("%s: kind %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestCheckRequest(t *testing.T) {
	for _, tt := range []struct {
		request Request
		want    leases.Kind
	}{
		{Request{Magic: RequestMagic, Version: RequestVersion + 3}, leases.Other},
		{Request{Magic: 1, Version: 1}, leases.RequestMagic},
		{Request{Magic: RequestMagic, Version: 0x20001}, leases.RequestVersion},
	} {
		if got := kindOf(tt.request.Check()); got != tt.want {
			t.Errorf("%+v: kind %v, want %v", tt.request, got, tt.want)
		}
	}
}

func TestCheckIndexHeader(t *testing.T) {
	space := leases.NameOf("LS1")
	breaks := []struct {
		kind leases.Kind
		do   func(h *IndexHeader)
	}{
		{leases.IndexMagic, func(h *IndexHeader) { h.Magic++ }},
		{leases.IndexVersion, func(h *IndexHeader) { h.Version += 1 << 16 }},
		{leases.IndexSpace, func(h *IndexHeader) { h.Space[2] = 'x' }},
		{leases.IndexOffset, func(h *IndexHeader) { h.Offset++ }},
	}
	good := NewIndexHeader(Geometry{4096, 2 * MiB}, space, 4*MiB, 0)
	if err := good.Check(space, 4*MiB); err != nil {
		t.Error(err)
	}
	for i, first := range breaks {
		for _, second := range breaks[i:] {
			h := good
			first.do(&h)
			second.do(&h)
			if got := kindOf(h.Check(space, 4*MiB)); got != first.kind {
				t.Errorf("kinds %v and %v broken: kind %v", first.kind, second.kind, got)
			}
		}
	}
	old := good
	old.Flags, old.Version = 0, 0x10001
	if got, want := old.Geometry(), (Geometry{4096, 8 * MiB}); got != want {
		t.Errorf("header without align bit: %v, want %v", got, want)
	}
	for given, want := range map[uint32]uint32{0: 32000, 5: 5, 40000: 32000} {
		h := good
		if h.MaxResources = given; h.Entries() != want {
			t.Errorf("max_resources %d: %d entries, want %d", given, h.Entries(), want)
		}
	}
}

func TestChecksum(t *testing.T) {
	for in, want := range map[string]uint32{"123456789": 0xe8c7bb34, strings.Repeat("\x00", 48): 0xcb5ad842} {
		if got := Checksum([]byte(in)); got != want {
			t.Errorf("%q: %#x, want %#x", in, got, want)
		}
	}
	if got, want := (&Leader{}).Sum(), uint32(0x7e11fbd1); got != want {
		t.Errorf("zero leader: %#x, want %#x", got, want)
	}
}

func TestErrorText(t *testing.T) {
	var l Leader
	for want, err := range map[string]error{
		"paxos leader: magic is 0x0, should be 0x6152010": l.CheckPaxos(leases.Name{}, leases.Name{}, 0),
		`delta leader: space_name is "b", should be "a"`: (&Leader{
			Magic: DeltaMagic, Version: DeltaVersion, SpaceName: leases.NameOf("b"),
		}).CheckDelta(leases.NameOf("a")),
	} {
		if got := err.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if _, err := DecodeLeader(make([]byte, 255)); kindOf(err) != leases.ShortTransfer {
		t.Errorf("short leader: %v", err)
	}
}

func TestHostBlockUnused(t *testing.T) {
	var sector [512]byte
	if !HostBlockUnused(sector[:]) || HostBlockUnused(sector[:HostBlockSize-1]) {
		t.Error("zeros must be unused, too few bytes not")
	}
	undefined := [HostBlockSize]bool{}
	for _, r := range undefinedInBlock {
		for i := r[0]; i < min(r[1], HostBlockSize); i++ {
			undefined[i] = true
		}
	}
	for i := range sector {
		sector = [512]byte{}
		sector[i] = 1
		want := i >= HostBlockSize || undefined[i]
		if got := HostBlockUnused(sector[:]); got != want && (i < 132 || i >= 136) {
			t.Errorf("byte %d set: unused %v, want %v", i, got, want)
		}
	}
}
